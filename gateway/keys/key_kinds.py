"""What a key is for."""

from __future__ import annotations

from enum import StrEnum


class KeyKind(StrEnum):
    """Each kind has a file of its own."""

    SEALING = "sealing"
    """Payloads on sensitive topics."""
    SIGNING = "signing"
    """Tokens."""
