"""The log as a stream, put back afterwards."""

from __future__ import annotations

import io
import logging

import pytest
import structlog

from gateway.observe import logs


@pytest.fixture(autouse=True)
def _logs_restored():
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, logs._OtherLibraries)]


@pytest.fixture
def stream():
    stream = io.StringIO()
    logs.configure("info", stream)
    return stream
