"""The event loops of a module's tests: Python's, or those it names in LOOPS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return getattr(item.module, "LOOPS", {"asyncio": asyncio.new_event_loop})
