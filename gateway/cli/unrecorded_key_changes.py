"""Runs a change to the keys (`gateway.admin.keys`), and says if it has no audit event."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway.cli.output import remark

_Outcome = TypeVar("_Outcome")


def make_change(change: Coroutine[Any, Any, tuple[_Outcome, str]]) -> _Outcome:
    """Make the change, and return its outcome. Prints a remark if no audit event was written."""
    outcome, unrecorded = asyncio.run(change)
    if unrecorded:
        remark(f"done, but there is no audit event of it: {unrecorded}")
    return outcome
