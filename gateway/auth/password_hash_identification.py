"""Password hashes that other programs wrote: which ones can be verified here, and what kind the others are.

Owns the names of these kinds. Must not know devices, nor how hashes are verified. No message quotes a hash:
what does not look like one may be a password.
"""

from __future__ import annotations

import base64
import re

MOSQUITTO = "$mosquitto"
"""Prefix of a credential that is a hash of Mosquitto's."""

_MEMORY_KIB_MAX = 131_072
"""KiB of memory that an imported Argon2id hash may need. Anybody who tries a password makes us spend that."""
_KIB_TIMES_PASSES_MAX = 262_144
"""Its KiB times its passes. Mosquitto 2.1 has 47,104; the sets of OWASP and RFC 9106 have at most 196,608."""
_LANES_MAX = 16
"""Its degree of parallelism."""

_ARGON2ID = re.compile(
    r"\$argon2id\$v=19\$m=(?P<memory>[1-9][0-9]{0,8}),t=(?P<passes>[1-9][0-9]{0,5}),p=(?P<lanes>[1-9][0-9]{0,3})"
    r"\$(?P<salt>[A-Za-z0-9+/]{11,88})=*\$(?P<digest>[A-Za-z0-9+/]{22,88})=*"
)
_KINDS = (
    (r"\$argon2id\$", "an Argon2id hash that is cut off, or of another version than 19"),
    (r"\$argon2[id]\$", "a hash of Argon2i or Argon2d, and only Argon2id is taken over"),
    (r"PBKDF2\$", "a PBKDF2 hash as mosquitto-go-auth writes it"),
    (r"\$pbkdf2", "a PBKDF2 hash as passlib writes it"),
    (r"pbkdf2_", "a PBKDF2 hash as Django writes it"),
    (r"\$2[abxy]?\$[0-9]{2}\$", "a bcrypt hash"),
    (r"\$(scrypt|s[01])\$|SCRYPT\$|scrypt:", "an scrypt hash"),
    (r"\$g?y\$", "a yescrypt hash of crypt(3)"),
    (r"\$(1|apr1)\$", "an MD5 hash of crypt(3)"),
    (r"\$5\$", "a SHA-256 hash of crypt(3)"),
    (r"\$6\$(rounds=[0-9]+\$)?[./A-Za-z0-9]{0,16}\$[./A-Za-z0-9]{86}\Z", "a SHA-512 hash of crypt(3)"),
    (r"\$[67]\$", "damaged: Mosquitto's own hashes have the forms $6$salt$hash and $7$iterations$salt$hash"),
    (r"\{[A-Za-z0-9-]{2,20}\}", "a hash as LDAP servers write it"),
    (r"\$[A-Za-z0-9_-]{1,20}\$", "a hash of a kind that is not known here"),
    (r"([0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{56}|[0-9a-fA-F]{64}|[0-9a-fA-F]{96}|[0-9a-fA-F]{128})\Z",
     "a hash in hexadecimal digits, by its length"),
)  # fmt: skip
_PLAIN = "no hash of any known kind, so perhaps a password in plain text, with which Mosquitto lets nobody in"


def is_imported(credential: str) -> bool:
    """Whether the credential is a hash of Mosquitto's."""
    return credential.startswith(f"{MOSQUITTO}$")


def kind_of(hashed: str) -> str:
    """What this is, as the end of a sentence that begins with "it is"."""
    return next((name for form, name in _KINDS if re.match(form, hashed)), _PLAIN)


def argon2id(hashed: str) -> str | None:
    """The hash in PHC format, if it is an Argon2id hash; else None.

    Raises ValueError if verifying it would cost more than a login may.
    """
    form = _ARGON2ID.fullmatch(hashed)
    if form is None:
        return None
    memory, passes, lanes = (int(form[name]) for name in ("memory", "passes", "lanes"))
    if (
        memory > _MEMORY_KIB_MAX
        or memory * passes > _KIB_TIMES_PASSES_MAX
        or lanes > _LANES_MAX
        or memory < 8 * lanes
    ):
        raise ValueError(
            f"it is an Argon2id hash that costs more than a login may (m={memory}, t={passes}, p={lanes})"
        )
    try:
        salt, digest = _decoded(form["salt"]), _decoded(form["digest"])
    except ValueError:
        return None
    if not 8 <= len(salt) <= 64 or not 16 <= len(digest) <= 64:
        return None
    # Written as Argon2 writes it: it accepts no padding, and no unused bits.
    return f"$argon2id$v=19$m={memory},t={passes},p={lanes}${_encoded(salt)}${_encoded(digest)}"


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
