"""A real store."""

from __future__ import annotations

import pytest

from gateway.store import open_store


@pytest.fixture
async def store(tmp_path):
    opened = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    yield opened
    await opened.close()
