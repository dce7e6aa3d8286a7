"""Which names are ours, which are slips of ours, and which are other programs' business.

Owns the judgement of a name alone. Must not know values: a name that is reported here may belong to
a different program, and its value may be a secret of that.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import Enum

from gateway.config.settings import SECRETS, Settings

FILE_OF = {name: f"{name}_file" for name in SECRETS}
"""Where a secret may stand instead: the setting that names the file."""
KNOWN = frozenset(Settings.model_fields) | frozenset(FILE_OF.values())
OPENS_A_DOOR_WHEN_EMPTY = (
    frozenset(SECRETS)
    | frozenset(FILE_OF.values())
    | {"mqtt_ca_path", "tls_client_ca_path", "tls_client_crl_path"}
)
"""Empty for a variable that was not substituted: without key, CA or list there is less protection."""
NOT_YET = frozenset({"tls_client_crl_path", "tls_client_identity", "mqtt_proxy_protocol"})
"""Settings of the contract that this version lacks. Whoever gives one counts on what it does."""
OF_OTHERS = frozenset(
    {
        # Read by other programs, and one letter from a name of ours, or as good as that.
        "database_uri",
        "mqtt_brokers",
        "mqtt_client_id",
        "mqtt_host",
        "mqtt_hosts",
        "mqtt_ports",
        "metrics_path",
        "metrics_port",
        "redis_uri",
        "redis_urls",
    }
)
_OURS = "gateway_"
_LOOKED_AT = ("tls_", "jwt_", "encryption_")
_WORDS_OF_OTHERS = frozenset({"dtls", "mtls", "jwe", "jwk", "jws"})
"""One letter from such a word, and no slip of it."""


class NameKind(Enum):
    """What a name is to us."""

    KNOWN = "a setting"
    NOT_YET = "a setting of a later version"
    WRONG = "a slip of a setting, or a setting that there is not"
    DOUBTFUL = "no setting, but named like one whose absence would matter"
    FOREIGN = "another program's"


def kind_of_name(name: str) -> NameKind:
    """What the name of a variable is to us, in any case."""
    name = name.lower()
    if name in KNOWN:
        return NameKind.KNOWN
    if name in NOT_YET:
        return NameKind.NOT_YET
    if name.startswith(_OURS) or (name not in OF_OTHERS and near_miss(name, KNOWN | NOT_YET)):
        return NameKind.WRONG
    # ENCRYPTON_KEY= is an open door all the same, though it may be another program's by its first word.
    doubtful = name.startswith(_LOOKED_AT) or misspelt_word(name, KNOWN) is not None
    return NameKind.DOUBTFUL if doubtful else NameKind.FOREIGN


def meant(name: str) -> str | None:
    """The setting that whoever wrote this name had in mind; None where that would be a guess."""
    name = name.lower()
    known = near_miss(name, KNOWN) or misspelt_word(name, KNOWN)
    if known:
        return known
    # What all names of ours begin with makes none of them alike.
    word, _, rest = name.partition("_")
    alike = {one.partition("_")[2]: one for one in sorted(KNOWN) if one.partition("_")[0] == word}
    return next((alike[one] for one in difflib.get_close_matches(rest, alike, n=1)), None)


def near_miss(name: str, known: Iterable[str]) -> str | None:
    """The known name that is one slip away and begins with the same word; None if there is none."""
    word = name.partition("_")[0]
    return next(
        (one for one in sorted(known) if one.partition("_")[0] == word and _is_one_slip_from(name, one)), None
    )


def misspelt_word(name: str, known: Iterable[str]) -> str | None:
    """The known name that differs by one slip in its first word, of those whose absence opens a door."""
    word, _, rest = name.partition("_")
    if word in _WORDS_OF_OTHERS:
        return None
    kinds = [kind.rstrip("_") for kind in (_OURS, *_LOOKED_AT)]
    return next(
        (
            f"{kind}_{rest}"
            for kind in kinds
            if word != kind and f"{kind}_{rest}" in known and _is_one_slip_from(word, kind)
        ),
        None,
    )


def _is_one_slip_from(name: str, meant: str) -> bool:
    """Whether one letter is too much, missing, wrong, or has changed places with its neighbour."""
    same = 0
    while same < min(len(name), len(meant)) and name[same] == meant[same]:
        same += 1
    a, b = name[same:], meant[same:]
    return (
        a[1:] == b
        or a == b[1:]
        or a[1:] == b[1:]
        or (len(a) > 1 and a[:2] == b[1::-1] and len(b) > 1 and a[2:] == b[2:])
    )
