"""Sample secrets, which stand in somebody's example and are known to everybody: they are refused.

Owns what counts as one. Must not know where a secret is used. A sample is copied with the file that it stands
in, and nothing fails until an attacker tries it.
"""

from __future__ import annotations

import re

_KNOWN = frozenset(
    {
        "admin",
        "adminadmin",
        "alicia",
        "guest",
        "homeassistant",
        "letmein",
        "mosquitto",
        "mqtt",
        "passw0rd",
        "public",
        "qwerty",
        "raspberry",
        "test",
        "testtest",
        "todo",
        "user",
    }
)
"""Samples as `_plain` makes them."""
_WORD = (
    "admin|alicia|api|auth|bridge|broker|bus|client|device|encryption|gateway|jwt|mosquitto|mqtt|my|root|server|super"
    "|test|the|top|user|very"
)
_NAME = "secret|pass(word|wd|phrase)?|token|key"
_OF_A_PATTERN = re.compile(
    r"[a-z0-9]*(change(me|this|it)|replace(me|this|it)|goeshere|yourown|placeholder)[a-z0-9]*"
    r"|(your|default|example|sample|dummy|insert|enter)[a-z0-9]*(secret|password|passwd|key|token)[a-z0-9]*"
    r"|(your|default|example|sample|dummy)"
    # Made of nothing but such words. A passphrase has others, too.
    rf"|({_WORD})*({_NAME})({_WORD}|{_NAME})*"
    r"|x{3,12}"
)
_SAMPLE_LENGTH_MAX = 64
"""Characters of the longest sample, as `_plain` makes it."""


def is_sample(text: str) -> bool:
    """Whether this is a secret of an example: `changeme`, `your_jwt_secret_key`, `alicia_mqtt_password`."""
    plain = _plain(text)
    if len(plain) > _SAMPLE_LENGTH_MAX:
        return False
    return plain in _KNOWN or _OF_A_PATTERN.fullmatch(plain) is not None


def _plain(text: str) -> str:
    """The text in lower case, without separators and a number at the end: `change-me_1` is `changeme`."""
    joined = re.sub(r"[\s_.<>{}\[\]$!*-]", "", text.lower())
    return re.sub(r"[0-9]+$", "", joined)
