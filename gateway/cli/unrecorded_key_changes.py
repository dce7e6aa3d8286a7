"""Running a change to the keys, of `gateway.admin.keys`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway.cli.output import remark

_Outcome = TypeVar("_Outcome")


def make_change(change: Coroutine[Any, Any, tuple[_Outcome, str]]) -> _Outcome:
    """What came of it. It says so when no audit event does."""
    outcome, unrecorded = asyncio.run(change)
    if unrecorded:
        remark(f"done, but no gateway will tell of it: {unrecorded}")
    return outcome
