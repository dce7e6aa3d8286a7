"""Secrets that stand in somebody's example, and so are everybody's: they are refused by name.

Owns what counts as one. Must not know where a secret is used. A sample is copied together with the file it
stands in, and nothing fails until somebody else tries it.
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
"""Without what `_plain` leaves out."""
_OF_A_PATTERN = re.compile(
    r"[a-z0-9]*(change(me|this|it)|replace(me|this|it)|goeshere|yourown|placeholder)[a-z0-9]*"
    r"|(your|default|example|sample|dummy|insert|enter)[a-z0-9]*(secret|password|passwd|key|token)[a-z0-9]*"
    r"|(your|default|example|sample|dummy|alicia)(secret|password)?"
    r"|x{3,12}"
)
_SAMPLE_LENGTH_MAX = 64
"""Characters of the longest sample, without those that `_plain` leaves out."""


def is_sample(text: str) -> bool:
    """Whether this is a secret of an example: `changeme`, `your_jwt_secret_key`, `alicia_password_2024`."""
    plain = _plain(text)
    if len(plain) > _SAMPLE_LENGTH_MAX:
        return False
    return plain in _KNOWN or _OF_A_PATTERN.fullmatch(plain) is not None


def _plain(text: str) -> str:
    """Its letters, lower case, without what stands between them and a number at the end: `change-me_1`."""
    joined = re.sub(r"[\s_.<>{}\[\]$!*-]", "", text.lower())
    return re.sub(r"[0-9]+$", "", joined)
