"""Which names are settings, which are slips (typing errors) of settings, and which are other programs'.

Owns what a name is taken for. Must not know values: a name that is reported may belong to a different
program, and its value may be a secret of that.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import Enum

from gateway.config.settings import SECRETS, Settings

FILE_OF = {name: f"{name}_file" for name in SECRETS}
"""By setting, the one that names a file to read its secret from instead."""
KNOWN = frozenset(Settings.model_fields) | frozenset(FILE_OF.values())
UNSAFE_WHEN_EMPTY = (
    frozenset(SECRETS)
    | frozenset(FILE_OF.values())
    | {"mqtt_ca_path", "tls_client_ca_path", "tls_client_crl_path"}
)
"""Settings that must not be empty, as after a variable that was not substituted: without key, CA or
revocation list there is less protection."""
NOT_YET = frozenset({"tls_client_crl_path", "tls_client_identity", "mqtt_proxy_protocol"})
"""Settings that are planned, and that this version lacks. Whoever gives one counts on its effect."""
OF_OTHERS = frozenset(
    {
        # Names that other programs read, about one letter away from one of ours.
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
_OURS_OR_OTHERS = ("tls_", "jwt_", "encryption_")
"""Beginnings that our settings have, and those of other programs too."""
_WORDS_OF_OTHERS = frozenset({"dtls", "mtls", "jwe", "jwk", "jws"})
"""First words one letter away from ours that are no slips of them."""


class NameKind(Enum):
    """What a name is taken for."""

    KNOWN = "a setting"
    NOT_YET = "a setting of a later version"
    WRONG = "a slip of a setting, or a setting that there is not"
    DOUBTFUL = "no setting, but named like one whose absence would matter"
    FOREIGN = "another program's"


def kind_of_name(name: str) -> NameKind:
    """What the name of a variable is taken for; upper or lower case does not matter."""
    name = name.lower()
    if name in KNOWN:
        return NameKind.KNOWN
    if name in NOT_YET:
        return NameKind.NOT_YET
    if name.startswith(_OURS) or (name not in OF_OTHERS and near_miss(name, KNOWN | NOT_YET)):
        return NameKind.WRONG
    # ENCRYPTON_KEY= leaves keys unprotected, although by its first word it may be another program's.
    doubtful = name.startswith(_OURS_OR_OTHERS) or misspelt_word(name, KNOWN) is not None
    return NameKind.DOUBTFUL if doubtful else NameKind.FOREIGN


def meant(name: str) -> str | None:
    """The setting that was probably meant by this name; None if that would be a guess."""
    name = name.lower()
    known = near_miss(name, KNOWN) or misspelt_word(name, KNOWN)
    if known:
        return known
    # That they begin with the same word makes no two names alike: the rest has to be.
    word, _, rest = name.partition("_")
    alike = {one.partition("_")[2]: one for one in sorted(KNOWN) if one.partition("_")[0] == word}
    return next((alike[one] for one in difflib.get_close_matches(rest, alike, n=1)), None)


def near_miss(name: str, known: Iterable[str]) -> str | None:
    """The known name that is one slip away, not in its first word; None if there is none."""
    word = name.partition("_")[0]
    return next(
        (one for one in sorted(known) if one.partition("_")[0] == word and _is_one_slip_from(name, one)), None
    )


def misspelt_word(name: str, known: Iterable[str]) -> str | None:
    """The known name that differs by one slip in its first word; None if none does."""
    word, _, rest = name.partition("_")
    if word in _WORDS_OF_OTHERS:
        return None
    kinds = [kind.rstrip("_") for kind in (_OURS, *_OURS_OR_OTHERS)]
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
