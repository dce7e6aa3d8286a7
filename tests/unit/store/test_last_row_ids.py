"""The numbers by which a change in the store is seen without asking for it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.store import Store, StoreError, open_store

OF_ANOTHER_PROCESS = """
import asyncio, sys
from gateway.store import open_store

async def main():
    store = await open_store(sys.argv[1])
    await store.devices.set_enabled("lamp-1", enabled=False)
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gateway.db"


@pytest.fixture
async def store(path):
    store = await open_store(f"sqlite:///{path}")
    await store.devices.add("lamp-1", credential="c", roles=[], labels={})
    yield store
    await store.close()


async def test_it_moves_with_each_change_of_a_device_whoever_made_it(store: Store, path):
    before, _ = store.last_ids()
    assert store.last_ids()[0] == before
    await store.devices.set_enabled("lamp-1", enabled=False)
    after, _ = store.last_ids()
    assert after != before
    subprocess.run(  # noqa: ASYNC221 - nothing else goes on
        [sys.executable, "-c", OF_ANOTHER_PROCESS, f"sqlite:///{path}"], check=True
    )
    assert store.last_ids()[0] != after


async def test_it_moves_with_events_of_administrators_though_the_row_before_is_forgotten(store: Store):
    seen = []
    for number in range(2):
        async with store.transaction() as tx:
            await tx.admin_events.add({"reason": "of an administrator"})
        seen.append(store.last_ids()[0])
        await store.admin_events.forget(number + 1)
        assert store.last_ids()[0] == seen[-1]
    assert seen[0] != seen[1]


async def test_what_the_gateway_itself_saves_again_and_again_moves_nothing(store: Store):
    before, written = store.last_ids()
    await store.key_uses.add("k1", 1)
    assert store.last_ids()[0] == before
    assert store.last_ids()[1] >= written > 0


async def test_a_file_that_was_replaced_taken_away_or_damaged_is_told(store: Store, path):
    store.last_ids()
    away = path.with_name("away.db")
    path.rename(away)
    with pytest.raises(StoreError, match="taken away"):
        store.last_ids()
    path.write_bytes(away.read_bytes())
    with pytest.raises(StoreError, match="replaced"):
        store.last_ids()
    path.unlink()
    away.rename(path)
    assert store.last_ids()[0]


async def test_one_that_can_not_be_read_is_told_and_read_again_once_it_can(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_arguments: object, **_more: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", fails)
        store._database._last_id_reader.close()
        with pytest.raises(StoreError, match="see to the disk"):
            store.last_ids()
    assert store.last_ids()[0]


async def test_a_restored_backup_has_its_own_numbers_once_it_is_opened(store: Store, path, tmp_path):
    before, _ = store.last_ids()
    backup = await open_store(f"sqlite:///{tmp_path}/backup/gateway.db")
    for name in "abc":
        await backup.devices.add(name, credential="c", roles=[], labels={})
    after, _ = backup.last_ids()
    await backup.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(f"gateway.db{suffix}").unlink()
    (tmp_path / "backup" / "gateway.db").rename(path)
    await store.reopen()
    assert store.last_ids()[0] == after != before


async def test_it_writes_nothing_and_holds_no_log_back_when_the_store_is_closed(path):
    one = await open_store(f"sqlite:///{path}")
    await one.devices.add("lamp-1", credential="c", roles=[], labels={})
    one.last_ids()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        one._database._last_id_reader._connection.execute("DELETE FROM devices")
    await one.close()
    assert [entry.name for entry in path.parent.glob("gateway.db*")] == ["gateway.db"]
