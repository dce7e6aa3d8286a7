"""The store on a real SQLite file: what holds for all subjects."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys

import pytest
from harness.failing_store import taken

from gateway.store import InvalidValue, Repositories, StoreError, open_store


async def add(store: Repositories, device_id: str = "lamp-1"):
    return await store.devices.add(device_id, credential="c", roles=[], labels={})


async def test_what_is_done_in_a_transaction_is_done_as_a_whole(store):
    async with store.transaction() as tx:
        await add(tx)
        await tx.admin_events.add({"number": 1})
        assert (await tx.devices.get("lamp-1")).enabled
        assert await store.devices.find("lamp-1") is None, "nobody else sees it yet"
    assert (await store.devices.get("lamp-1")).enabled
    assert await taken(store) == [{"number": 1}]


async def test_or_nothing_of_it(store):
    async def fail():
        async with store.transaction() as tx:
            await add(tx)
            await tx.admin_events.add({"number": 1})
            raise ZeroDivisionError

    last = await store.changes.last()
    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await store.devices.find("lamp-1") is None
    assert await taken(store) == []
    assert await store.changes.last() == last


async def test_what_may_not_be_stored_is_no_failure_of_the_database(store):
    with pytest.raises(InvalidValue, match="is no device id"):
        async with store.transaction() as tx:
            await add(tx, "a/b")


async def test_an_older_sqlite_is_refused_before_anything_is_made(path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(StoreError, match=r"SQLite 3\.34\.1, and 3\.35 or newer is needed"):
        await open_store(f"sqlite:///{path}")
    assert not path.exists()


EIGHT_WRITERS = """if True:
    import asyncio, os, sys
    import aiosqlite, gateway.store.async_engine
    from gateway.store import open_store

    async def write(writer):
        store = await open_store(sys.argv[1])
        for number in range(20):
            device = await store.devices.add(f"d-{writer}-{number}", credential="c", roles=[], labels={})
            await store.devices.set_enabled(device.device_id, enabled=False)
            await store.key_uses.add("k1", 1)
        await store.close()

    all_are_there, parent = os.pipe()
    children = []
    for writer in range(8):
        children.append(os.fork())
        if not children[-1]:
            os.close(parent)
            os.read(all_are_there, 1)
            asyncio.run(write(writer))
            os._exit(0)
    os.close(parent)
    sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


async def test_eight_processes_make_one_database_and_lose_nothing(path):
    """All open it for the first time at once, and write at once: none meets a locked database."""
    url = f"sqlite:///{path}"
    words = [sys.executable, "-c", EIGHT_WRITERS, url]
    assert (await asyncio.to_thread(subprocess.run, words, check=False)).returncode == 0
    store = await open_store(url)
    devices = await store.devices.read()
    assert len(devices) == 160
    assert not any(device.enabled for device in devices)
    assert await store.key_uses.read() == {"k1": 160}
    assert await store.changes.last() == 320
    await store.close()


async def test_an_acknowledged_change_survives_a_kill(path):
    script = (
        "import asyncio, os, signal, sys\n"
        "from gateway.store import open_store\n"
        "async def main():\n"
        "    store = await open_store(sys.argv[1])\n"
        "    await store.devices.add('lamp-1', credential='c', roles=[], labels={})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, f"sqlite:///{path}"], check=False
    )
    assert done.returncode == -9
    store = await open_store(f"sqlite:///{path}")
    assert await store.devices.find("lamp-1") is not None
    await store.close()
