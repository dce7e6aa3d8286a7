"""What the attacks on tokens have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.login_gate import Gate

from gateway.store import open_store


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    store = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    gate = Gate(tmp_path, store)
    await gate.add()
    # Every test would pass if no token at all came in.
    assert gate.enter(gate.good()).device.device_id == "lamp-1"
    yield gate
    assert gate.enter(gate.good()), "and what is good is good after it"
    await store.close()
