"""The services of the gateway itself, which a role may grant."""

from __future__ import annotations

from enum import StrEnum


class Service(StrEnum):
    """What the gateway does for whoever asks, by the last level of the topic below its prefix."""

    AUTH = "auth"
    VALIDATE = "validate"
    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
