"""Labels as they are said in tests: `room="hall"`, or several values in a tuple."""

from __future__ import annotations

from gateway.policy.engine.identity import Labels


def labels_of(said: dict[str, str | tuple[str, ...]]) -> Labels:
    """As a device has them."""
    return {name: (some,) if isinstance(some, str) else some for name, some in said.items()}
