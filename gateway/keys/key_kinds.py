"""What a key is for."""

from __future__ import annotations

from enum import StrEnum

AUDIT_FILE = "audit.key"
"""The key that signs the audit trail, beside the file of the sealing keys."""


class KeyKind(StrEnum):
    """Each kind has a file of its own."""

    SEALING = "sealing"
    """Payloads on sensitive topics."""
    SIGNING = "signing"
    """Tokens."""
