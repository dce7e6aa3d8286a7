"""The devices in memory: they follow every process that writes, and say when they cannot."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from harness.background_tasks import beside, until
from sqlalchemy import text

from gateway.store import Store, StoreError, database, device_directory, open_store
from gateway.store.device_directory import Directory
from gateway.store.schema import changes, devices
from gateway.system.file_notices import FileNotices


class Watch:
    """What a directory told, and a way to wait until it has told enough."""

    def __init__(self, directory: Directory) -> None:
        self.changes: list[frozenset[str]] = []
        self.availability: list[tuple[bool, str]] = []
        self._told = asyncio.Event()
        directory.on_change(lambda ids: (self.changes.append(ids), self._told.set()))
        directory.on_availability(lambda ok, why: (self.availability.append((ok, why)), self._told.set()))

    async def until(self, condition) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._told.clear()
                await self._told.wait()


@pytest.fixture
async def following(store: Store):
    await store.devices.add("lamp-1", credential="c", roles=["sensor"], labels={})
    directory = Directory(store, interval=0.02)
    watch = Watch(directory)
    await directory.load()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(directory.follow())
        yield directory, watch
        task.cancel()


async def test_nothing_is_available_before_it_is_loaded(store):
    directory = Directory(store)
    assert not directory.available
    assert directory.get("lamp-1") is None
    await store.devices.add("lamp-1", credential="c", roles=[], labels={})
    await directory.load()
    assert directory.available
    assert directory.get("lamp-1") == await store.devices.find("lamp-1")
    assert len(directory) == 1


async def test_it_follows_another_process(following, path):
    directory, watch = following
    watch.changes.clear()
    script = (
        "import asyncio, sys\n"
        "from gateway.store import open_store\n"
        "async def main():\n"
        "    store = await open_store(sys.argv[1])\n"
        "    await store.devices.set_enabled('lamp-1', enabled=False)\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, f"sqlite:///{path}"], check=True)
    await watch.until(lambda: watch.changes)
    assert watch.changes == [{"lamp-1"}]
    assert not directory.get("lamp-1").enabled


async def test_it_follows_devices_that_come_and_go(following, store):
    directory, watch = following
    await store.devices.add("lamp-2", credential="c", roles=[], labels={})
    await watch.until(lambda: directory.get("lamp-2"))
    await store.devices.remove("lamp-2")
    await watch.until(lambda: not directory.get("lamp-2"))
    assert len(directory) == 1
    assert directory.available


async def test_a_listener_sees_the_new_state(store):
    directory = Directory(store)
    await store.devices.add("lamp-1", credential="c", roles=[], labels={})
    seen = []
    directory.on_change(lambda ids: seen.append({name: directory.get(name) for name in ids}))
    await directory.load()
    await store.devices.remove("lamp-1")
    await directory.load()
    assert [list(state) for state in seen] == [["lamp-1"], ["lamp-1"]]
    assert seen[0]["lamp-1"] is not None
    assert seen[1]["lamp-1"] is None
    await directory.load()
    assert len(seen) == 2, "what did not change is not told"


async def test_many_changes_at_once(following, store):
    directory, watch = following
    names = {f"d-{number}" for number in range(600)}
    async with store._database.transaction(write=True) as connection:
        row = {"roles": [], "labels": {}, "enabled": True, "credential": "c", "version": 1}
        await connection.execute(
            devices.insert(), [{"device_id": n, "created_at": 0, "updated_at": 0} | row for n in names]
        )
        await connection.execute(changes.insert(), [{"device_id": n, "at": 2**40} for n in names])
    await watch.until(lambda: len(directory) == 601)
    assert watch.changes[-1] == names
    assert directory._seq == 601


async def test_a_change_by_which_the_file_looks_the_same_is_found_all_the_same(following, store, monkeypatch):
    """The clock of files has ticks of some milliseconds."""
    directory, watch = following
    monkeypatch.setattr(store._database, "wal_stamp", lambda: (0, 0))
    await watch.until(lambda: directory.available)
    await store.devices.set_enabled("lamp-1", enabled=False)
    await watch.until(lambda: not directory.get("lamp-1").enabled)


async def test_it_asks_for_changes_when_there_are_some_and_not_when_something_else_was_saved(
    following, store, monkeypatch
):
    directory, watch = following
    asked, looked, told = [], [], []
    read, last_ids = store.read, store.last_ids
    directory.on_commit(lambda: told.append(1))

    def counting(work):
        asked.append(1)
        return read(work)

    def looking():
        looked.append(1)
        return last_ids()

    monkeypatch.setattr(store, "read", counting)
    monkeypatch.setattr(store, "last_ids", looking)
    for looks in (3, 6, 9):
        await store.key_uses.add("k1", 1)
        await until(lambda looks=looks: len(looked) >= looks)
    assert not asked
    assert not told
    await store.devices.set_enabled("lamp-1", enabled=False)
    await watch.until(lambda: not directory.get("lamp-1").enabled)
    assert len(asked) == len(told) == 1
    async with store.transaction() as tx:
        await tx.admin_events.add({"reason": "of an administrator"})
    await until(lambda: len(told) == 2)


async def test_a_pruned_log_makes_it_read_everything(following, store):
    directory, watch = following
    async with store.transaction() as tx:
        await tx.devices.add("lamp-2", credential="c", roles=[], labels={})
        await tx.devices._transactions._connection.execute(changes.delete().where(changes.c.seq < 2))
    await watch.until(lambda: directory.get("lamp-2"))
    assert watch.changes[-1] == {"lamp-2"}


async def test_store_gone_denies_until_it_is_back(following, path, store):
    directory, watch = following
    away = path.with_name("away.db")
    path.rename(away)
    await watch.until(lambda: not directory.available)
    assert "taken away" in watch.availability[-1][1]
    assert directory.get("lamp-1") is not None, "live sessions go on being judged by what is known"
    away.rename(path)
    await watch.until(lambda: directory.available)
    assert watch.availability == [(True, ""), (False, watch.availability[1][1]), (True, "")]
    await store.devices.set_enabled("lamp-1", enabled=False)
    await watch.until(lambda: not directory.get("lamp-1").enabled)


async def test_a_restored_backup_is_read_as_a_whole(following, path, tmp_path):
    directory, watch = following
    backup = await open_store(f"sqlite:///{tmp_path}/backup/gateway.db")
    await backup.devices.add("lamp-9", credential="c", roles=[], labels={})
    await backup.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(f"gateway.db{suffix}").unlink()
    (tmp_path / "backup" / "gateway.db").rename(path)
    await watch.until(lambda: directory.get("lamp-9"))
    assert directory.get("lamp-1") is None
    assert watch.changes[-1] == {"lamp-1", "lamp-9"}
    assert directory.available


async def test_a_damaged_row_denies(following, store):
    directory, watch = following
    async with store._database.transaction(write=True) as connection:
        await connection.execute(text("UPDATE devices SET roles = '\"admin\"'"))
        await connection.execute(text("INSERT INTO changes (device_id, at) VALUES ('lamp-1', 0)"))
    await watch.until(lambda: not directory.available)
    assert "lamp-1" in watch.availability[-1][1]


async def test_a_store_that_hangs_and_can_not_be_cancelled_denies(store, monkeypatch):
    """A thread that waits for a disk does not hear that nobody waits for it any more."""
    monkeypatch.setattr("gateway.store.device_directory._ANSWER_SECONDS", 0.05)
    directory = Directory(store, interval=0.01)
    await directory.load()
    watch = Watch(directory)

    back = threading.Event()

    def hanging(_work):
        back.wait(20)
        raise StoreError("the disk is back, and failed")

    monkeypatch.setattr(store, "read", hanging)
    await store.devices.add("lamp-1", credential="c", roles=[], labels={})
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(directory.follow())
        await watch.until(lambda: watch.availability)
        assert watch.availability[0] == (False, "the store did not answer within 0.05 s; see to the disk")
        back.set()
        task.cancel()


async def test_a_look_at_the_file_that_hangs_denies_and_holds_up_nothing(store, monkeypatch):
    """`stat` on a disk that hangs does not return: here for as long as the loop does other things."""
    monkeypatch.setattr("gateway.store.device_directory._ANSWER_SECONDS", 0.2)
    directory, go_on = Directory(store, interval=0.01), threading.Event()
    await directory.load()
    monkeypatch.setattr(store, "last_ids", lambda: go_on.wait(20))
    task = asyncio.create_task(directory.follow())
    try:
        async with asyncio.timeout(10):
            while directory.available:  # noqa: ASYNC110 - nothing says so
                await asyncio.sleep(0.01)
    finally:
        go_on.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_loop_that_stalls_is_not_taken_for_a_store_that_hangs(store, monkeypatch):
    """The kind: a time-out that counts what the gateway itself was busy with."""
    monkeypatch.setattr("gateway.store.device_directory._ANSWER_SECONDS", 0.2)
    directory = Directory(store, interval=0.01)
    await directory.load()
    watch = Watch(directory)
    asked, loop, read = asyncio.Event(), asyncio.get_running_loop(), store.read

    def slow(work):
        loop.call_soon_threadsafe(asked.set)
        time.sleep(0.01)
        return read(work)

    monkeypatch.setattr(store, "read", slow)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(directory.follow())
        for number in range(3):
            asked.clear()
            await store.devices.add(f"lamp-{number}", credential="c", roles=[], labels={})
            await asked.wait()
            time.sleep(0.5)  # noqa: ASYNC251 - the whole loop stands still
            await asyncio.sleep(0)
        assert watch.availability == []
        assert directory.available
        task.cancel()


async def test_a_change_is_known_after_few_turns_of_the_loop(store):
    """The kind: what waits for a turn per statement waits for seconds while somebody floods the gateway."""
    await store.devices.add("lamp-1", credential="c", roles=[], labels={})
    directory = Directory(store)
    await directory.load()
    await store.devices.set_enabled("lamp-1", enabled=False)
    turns, known = 0, asyncio.ensure_future(directory.look())
    while not known.done():
        time.sleep(0.05)  # noqa: ASYNC251 - a turn that is long enough for any thread
        turns += 1
        await asyncio.sleep(0)
    assert not directory.get("lamp-1").enabled
    assert turns <= 10


async def test_what_reads_in_a_thread_waits_for_nothing_else(store):
    async def work(_store):
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="something else"):
        await asyncio.to_thread(store.read, work)


async def test_not_followed_is_not_available(store):
    directory = Directory(store, interval=0.01)
    await directory.load()

    def broken(_ids):
        raise LookupError("a listener of ours is broken")

    directory.on_change(broken)
    await store.devices.add("lamp-1", credential="c", roles=[], labels={})
    with pytest.raises(LookupError):
        await directory.follow()
    assert not directory.available


async def test_whoever_follows_no_more_waits_for_no_notice(store):
    """The kernel gives a user 128 of them: a gateway that stopped must not keep its own."""
    notices = FileNotices(store.files)
    directory = Directory(store, interval=0.01, notices=notices)
    await directory.load()
    async with beside(directory.follow()):
        await until(lambda: notices.are_complete)
    assert not notices.are_complete


async def test_a_store_that_is_read_and_can_not_be_written_is_not_well(store, path, monkeypatch):
    monkeypatch.setattr(database, "_BUSY_MS", 50)
    monkeypatch.setattr(device_directory, "_WRITE_RETRY_SECONDS", 0.05)
    directory = Directory(store)
    await directory.load()
    other = sqlite3.connect(path, isolation_level=None)
    async with beside(directory.try_writing(0.05)):
        await asyncio.sleep(0.2)
        assert directory.check() == (True, "0 devices")
        other.execute("BEGIN IMMEDIATE")
        await until(lambda: not directory.check()[0])
        assert directory.available, "it is still read"
        why = directory.check()[1]
        assert why.startswith(f"the database {path} failed (database is locked): another process holds it")
        other.execute("ROLLBACK")
        await until(lambda: directory.check()[0])
    other.close()


def test_a_store_whose_files_became_read_only_says_so_though_it_is_open(path):
    """Root may write whatever the rights are, so another user tries."""
    script = (
        "import os, sys, asyncio\n"
        "from gateway.store import open_store\n"
        "async def main(url, folder):\n"
        "    store = await open_store(url)\n"
        "    print(repr(store.write_fault()))\n"
        "    for entry in os.scandir(folder):\n"
        "        os.chmod(entry.path, 0o400)\n"
        "    print(store.write_fault())\n"
        "    await store.close()\n"
        "asyncio.run(main(*sys.argv[1:]))\n"
    )
    bare = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    words = [*bare, sys.executable, "-c", script, f"sqlite:///{path}", str(path.parent)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    before, after = done.stdout.splitlines()
    assert before == "''"
    assert after.startswith(f"the database {path} can't be written; {path}: ")
    assert "mode 0400" in after
