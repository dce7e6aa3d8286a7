"""The event loops of a module's tests: Python's, or those it names in LOOPS; and what was logged."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Mapping

import pytest
import structlog

from gateway.observe.logs import configure


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return getattr(item.module, "LOOPS", {"asyncio": asyncio.new_event_loop})


@pytest.fixture
def log():
    """What was logged so far."""
    stream, handlers = io.StringIO(), logging.getLogger().handlers[:]
    configure("debug", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.getLogger().handlers[:] = handlers
