"""The kinds of keys that administrators rotate, list and destroy."""

from __future__ import annotations

from enum import StrEnum

AUDIT_FILE = "audit.key"
"""Name of the file with the key that signs the audit trail, beside the file of the sealing keys."""


class KeyKind(StrEnum):
    """Each kind has a file of its own."""

    SEALING = "sealing"
    """Keys that seal payloads on sensitive topics."""
    SIGNING = "signing"
    """Keys that sign tokens."""
