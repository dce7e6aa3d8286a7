"""The store on a real SQLite file: what it keeps, what it tells followers, what it refuses."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.store import DeviceExists, Store, StoreError, UnknownDevice, open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gateway.db"


@pytest.fixture
async def store(path: Path):
    store = await open_store(f"sqlite:///{path}")
    yield store
    await store.close()


async def add(store: Store, device_id: str = "lamp-1", **values):
    return await store.add_device(
        device_id,
        **{"credential": "hash-1", "roles": ["sensor", "lamp"], "labels": {"room": "küche"}} | values,
    )


def sql(path: Path, statement: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


async def test_a_device_is_kept_as_given(store, path):
    added = await add(store)
    assert (added.roles, added.labels, added.enabled) == (("sensor", "lamp"), {"room": "küche"}, True)
    assert added.credential == "hash-1"
    assert await store.device("lamp-1") == added
    other = await open_store(f"sqlite:///{path}")
    assert await other.devices() == [added]
    await other.close()


async def test_unknown_devices(store):
    assert await store.device("nobody") is None
    assert await store.devices() == []
    for attempt in (
        store.set_enabled("nobody", enabled=True),
        store.set_credential("nobody", "x"),
        store.remove_device("nobody"),
    ):
        with pytest.raises(UnknownDevice, match="nobody"):
            await attempt
    assert not await store.rehash_credential("nobody", version=1, credential="x")
    assert await store.last_change() == 0, "what was refused is no change"


async def test_an_id_is_given_once(store):
    first = await add(store)
    with pytest.raises(DeviceExists, match="lamp-1"):
        await add(store, credential="other")
    assert await store.devices() == [first]
    assert await store.last_change() == 1


@pytest.mark.parametrize("device_id", ["", "a/b", "+", "#", "a\n", ".a", "x" * 65])
async def test_no_device_id_can_widen_a_rule(store, device_id):
    with pytest.raises(ValueError, match="device id"):
        await add(store, device_id)


async def test_no_label_can_widen_a_rule(store):
    with pytest.raises(ValueError, match="label"):
        await add(store, labels={"room": "+"})


async def test_what_ends_sessions_counts_the_version_up(store):
    added = await add(store)
    disabled = await store.set_enabled("lamp-1", enabled=False)
    rotated = await store.set_credential("lamp-1", "hash-2")
    assert (disabled.enabled, disabled.version) == (False, added.version + 1)
    assert (rotated.enabled, rotated.credential, rotated.version) == (False, "hash-2", added.version + 2)
    assert await store.device("lamp-1") == rotated


async def test_a_rehash_ends_no_session_and_overwrites_no_rotation(store):
    added = await add(store)
    assert await store.rehash_credential("lamp-1", version=added.version, credential="hash-1b")
    assert (await store.device("lamp-1")).credential == "hash-1b"
    assert (await store.device("lamp-1")).version == added.version
    await store.set_credential("lamp-1", "hash-2")
    assert not await store.rehash_credential("lamp-1", version=added.version, credential="hash-1c")
    assert (await store.device("lamp-1")).credential == "hash-2"


async def test_a_device_added_again_has_another_version(store):
    """Or the sessions and the remembered secret of its predecessor would be taken for its own."""
    versions = []
    for _ in range(3):
        versions.append((await add(store)).version)
        versions.append((await store.set_enabled("lamp-1", enabled=False)).version)
        await store.remove_device("lamp-1")
    assert await store.device("lamp-1") is None
    assert len(set(versions)) == len(versions)


async def test_devices_of_some_ids(store):
    for name in "abc":
        await add(store, name)
    assert [device.device_id for device in await store.devices({"c", "a", "z"})] == ["a", "c"]
    assert await store.devices(frozenset()) == []


async def test_the_change_log_tells_who_changed(store):
    assert await store.changes_since(0) == (0, frozenset())
    await add(store, "a")
    await add(store, "b")
    assert await store.changes_since(0) == (2, {"a", "b"})
    assert await store.changes_since(1) == (2, {"b"})
    await store.remove_device("a")
    await store.rehash_credential("b", version=2, credential="x")
    assert await store.changes_since(2) == (4, {"a", "b"})
    assert await store.changes_since(4) == (4, frozenset())


async def test_the_change_log_is_pruned_and_says_so(store, path):
    for name in "abc":
        await add(store, name)
    day = int((datetime.now(UTC) - timedelta(days=1, minutes=1)).timestamp())
    sql(path, "UPDATE changes SET at = ? WHERE seq <= 2", day)
    await add(store, "d")
    assert sql(path, "SELECT seq FROM changes") == [(3,), (4,)]
    assert await store.changes_since(0) == (4, None)
    assert await store.changes_since(1) == (4, None)
    assert await store.changes_since(2) == (4, {"c", "d"})


async def test_a_log_that_is_shorter_than_what_was_read_is_another_one(store, path):
    """A backup was copied into the place: what is known may all be wrong."""
    await add(store)
    assert await store.changes_since(17) == (1, None)


async def test_key_uses_add_up(store, path):
    assert await store.key_uses() == {}
    assert await store.add_key_uses("k1", 5) == 5
    assert await store.add_key_uses("k1", 2**32) == 2**32 + 5
    assert await store.add_key_uses("k2", 1) == 1
    assert await store.key_uses() == {"k1": 2**32 + 5, "k2": 1}
    with pytest.raises(ValueError, match="only grow"):
        await store.add_key_uses("k1", 0)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("roles", '"admin"'),
        ("roles", "[1]"),
        ("roles", "broken"),
        ("labels", "[]"),
        ("labels", '{"a": "+"}'),
        ("labels", '{"a": 1}'),
        ("device_id", "a/#"),
        ("token_epoch", "x"),
        ("observe_until", "x"),
    ],
)
async def test_a_row_that_was_tampered_with_grants_nothing(store, path, column, value):
    await add(store)
    sql(path, f"UPDATE devices SET {column} = ?", value)
    with pytest.raises(StoreError):
        await store.devices()


async def test_a_failure_never_shows_the_credential(store, path):
    columns = "device_id, roles, labels, enabled, version, created_at, updated_at, token_epoch"
    sql(path, "DROP TABLE devices")
    sql(path, f"CREATE TABLE devices ({columns}, credential CHECK (length(credential) > 99))")
    with pytest.raises(StoreError) as caught:
        await add(store, credential="planted-secret")
    error: BaseException | None = caught.value
    while error is not None:
        assert "planted-secret" not in f"{error} {error!r}"
        error = error.__cause__


def _write(url: str, writer: int, count: int) -> None:
    async def work() -> None:
        store = await open_store(url)
        try:
            for number in range(count):
                device = await store.add_device(f"d-{writer}-{number}", credential="c", roles=[], labels={})
                await store.set_enabled(device.device_id, enabled=False)
                await store.add_key_uses("k1", 1)
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
    devices = await store.devices()
    assert len(devices) == 160
    assert not any(device.enabled for device in devices)
    assert await store.key_uses() == {"k1": 160}
    assert await store.last_change() == 320
    await store.close()


async def test_an_acknowledged_change_survives_a_kill(path):
    script = (
        "import asyncio, os, signal, sys\n"
        "from gateway.store import open_store\n"
        "async def main():\n"
        "    store = await open_store(sys.argv[1])\n"
        "    await store.add_device('lamp-1', credential='c', roles=[], labels={})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, f"sqlite:///{path}"], check=False
    )
    assert done.returncode == -9
    store = await open_store(f"sqlite:///{path}")
    assert await store.device("lamp-1") is not None
    await store.close()
