"""A time as text: as RFC 3339 writes it, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_text(unix_seconds: int) -> str:
    """Such as `2026-10-30T15:26:00Z`."""
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat().replace("+00:00", "Z")
