"""Who is there: the device as the store knows it, and the identity of one connection.

Device ids are one topic level by construction, so that no identity can widen a rule
(CVE-2017-7650: a wildcard in a user name).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
# A label's value stands for one topic level: no separator, no wildcard, no control character.
_LABEL_VALUE = re.compile(r"[^/+#$\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}")


def is_device_id(text: str) -> bool:
    """Whether `text` may name a device: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`."""
    return _DEVICE_ID.fullmatch(text) is not None


def is_label(name: str, value: str) -> bool:
    """Whether this label may be given to a device."""
    return _LABEL_NAME.fullmatch(name) is not None and _LABEL_VALUE.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Device:
    """A device as stored. `credential` is an Argon2id hash in PHC format, and never shown.

    `version` counts what ends a session: each change of the secret or of `enabled`.
    """

    device_id: str
    roles: tuple[str, ...]
    labels: Mapping[str, str]
    enabled: bool
    credential: str = field(repr=False)
    version: int
    created_at: int
    """Unix seconds."""
    updated_at: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks on one connection, and with what rights it came."""

    device_id: str
    roles: tuple[str, ...]
    labels: Mapping[str, str]
    client_id: str
    """As the device sent it, without the bus's prefix. May hold any character the standard allows."""
