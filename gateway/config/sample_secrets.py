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
        "mqttpassword",
        "password",
        "passw0rd",
        "public",
        "qwerty",
        "raspberry",
        "secret",
        "secretkey",
        "supersecret",
        "test",
        "testtest",
        "todo",
        "topsecret",
        "user",
    }
)
"""Samples as `_plain` makes them."""
_OF_A_PATTERN = re.compile(
    r"[a-z0-9]*(change(me|this|it)|replace(me|this|it)|goeshere|yourown|placeholder)[a-z0-9]*"
    r"|(your|default|example|sample|dummy|insert|enter)[a-z0-9]*(secret|password|passwd|key|token)[a-z0-9]*"
    r"|(your|default|example|sample|dummy|alicia)(secret|password)?"
    r"|x{3,12}"
)
_SAMPLE_LENGTH_MAX = 64
"""Characters of the longest sample, as `_plain` makes it."""


def is_sample(text: str) -> bool:
    """Whether this is a secret of an example: `changeme`, `your_jwt_secret_key`, `alicia_password_2024`."""
    plain = _plain(text)
    if len(plain) > _SAMPLE_LENGTH_MAX:
        return False
    return plain in _KNOWN or _OF_A_PATTERN.fullmatch(plain) is not None


def _plain(text: str) -> str:
    """The text in lower case, without separators and a number at the end: `change-me_1` is `changeme`."""
    joined = re.sub(r"[\s_.<>{}\[\]$!*-]", "", text.lower())
    return re.sub(r"[0-9]+$", "", joined)
