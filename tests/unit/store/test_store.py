"""The store on a real SQLite file: what holds for all subjects."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys

import pytest
from harness.failing_store import taken

from gateway.store import InvalidValue, Repositories, open_store


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


def _write(url: str, writer: int, count: int) -> None:
    async def work() -> None:
        store = await open_store(url)
        try:
            for number in range(count):
                device = await store.devices.add(f"d-{writer}-{number}", credential="c", roles=[], labels={})
                await store.devices.set_enabled(device.device_id, enabled=False)
                await store.key_uses.add("k1", 1)
        finally:
            await store.close()

    asyncio.run(work())


async def test_eight_processes_make_one_database_and_lose_nothing(path):
    """All open it for the first time at once, and write at once: none meets a locked database."""
    url = f"sqlite:///{path}"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(url, writer, 20)) for writer in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 8
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
