"""A store of the test's own, and the file that it is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.store import open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gateway.db"


@pytest.fixture
async def store(path: Path):
    store = await open_store(f"sqlite:///{path}")
    yield store
    await store.close()
