"""How often keys sealed, on a real SQLite file."""

from __future__ import annotations

import pytest

from gateway.store import open_store


@pytest.fixture
async def store(tmp_path):
    store = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    yield store
    await store.close()


async def test_key_uses_add_up(store):
    assert await store.key_uses.read() == {}
    assert await store.key_uses.add("k1", 5) == 5
    assert await store.key_uses.add("k1", 2**32) == 2**32 + 5
    assert await store.key_uses.add("k2", 1) == 1
    assert await store.key_uses.read() == {"k1": 2**32 + 5, "k2": 1}
    with pytest.raises(ValueError, match="only grow"):
        await store.key_uses.add("k1", 0)
