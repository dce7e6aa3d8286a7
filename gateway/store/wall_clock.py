"""The time that is written into rows. It is the store's own, for rows of several processes are compared."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> int:
    """Unix seconds."""
    return int(datetime.now(UTC).timestamp())
