"""Opening the database: made once, with care; migrated; refused when it is not what it should be."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from gateway.policy.engine.rules import Action
from gateway.policy.engine.usage_record import OVERFLOW, Passage, UsageRecord
from gateway.store import NewDevice, StoreError, open_store
from gateway.store.async_engine import AsyncDatabase
from gateway.store.database import HEAD, Database, url_of
from gateway.store.schema import metadata

BOTH = pytest.mark.parametrize("kind", [Database, AsyncDatabase])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gateway.db"


async def make(path: Path) -> None:
    store = await open_store(f"sqlite:///{path}")
    await store.devices.add("lamp-1", credential="c", roles=[], labels={})
    await store.close()


def sql(path: Path, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


async def test_a_new_database_is_ours_alone(path):
    await make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["gateway.db"], "nothing is left behind"


async def test_a_folder_that_is_there_is_left_as_it_is(path):
    path.parent.mkdir(mode=0o750)
    await make(path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


async def test_files_beside_the_database_are_ours_alone_too(path):
    store = await open_store(f"sqlite:///{path}")
    await store.devices.add("lamp-1", credential="c", roles=[], labels={})
    assert stat.S_IMODE(path.with_name("gateway.db-wal").stat().st_mode) == 0o600
    await store.close()


async def test_a_relative_url_is_relative_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = await open_store("sqlite:///here/with %20 and #.db")
    monkeypatch.chdir("/")
    assert await store.devices.read() == []
    await store.close()
    assert (tmp_path / "here" / "with %20 and #.db").is_file()


@BOTH
async def test_every_connection_is_set_up(path, kind):
    database = await asyncio.to_thread(kind, path)

    async def settings() -> tuple[object, ...]:
        async with database.transaction(write=False) as connection:
            await asyncio.sleep(0.01)  # so that all are open at once
            names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            return tuple([(await connection.execute(text(f"PRAGMA {name}"))).scalar_one() for name in names])

    assert set(await asyncio.gather(*(settings() for _ in range(4)))) == {("wal", 2, 1, 10_000)}
    await database.close()


@BOTH
async def test_readers_do_not_wait_for_a_writer(path, kind):
    database = await asyncio.to_thread(kind, path)
    async with database.transaction(write=True) as writer:
        await writer.execute(text("INSERT INTO key_uses VALUES ('k1', 1)"))
        async with database.transaction(write=False) as reader:
            assert (await reader.execute(text("SELECT count(*) FROM key_uses"))).scalar_one() == 0
    async with database.transaction(write=False) as reader:
        assert (await reader.execute(text("SELECT count(*) FROM key_uses"))).scalar_one() == 1
    await database.close()


@BOTH
async def test_an_error_rolls_everything_back(path, kind):
    database = await asyncio.to_thread(kind, path)

    async def fail() -> None:
        async with database.transaction(write=True) as connection:
            await connection.execute(text("INSERT INTO key_uses VALUES ('k1', 1)"))
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    async with database.transaction(write=False) as connection:
        assert (await connection.execute(text("SELECT count(*) FROM key_uses"))).scalar_one() == 0
    await database.close()


def migrate(path: Path, revision: str, *statements: str) -> None:
    """A database as the migrations make it up to this one, and what is done to it then."""
    path.parent.mkdir()
    config = Config()
    config.set_main_option("script_location", "gateway.store:migrations")
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


async def test_the_migrations_make_what_the_schema_says(path):
    migrate(path, "head")
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert MigrationContext.configure(connection).get_current_heads() == (HEAD,)
    engine.dispose()


def described(path: Path) -> dict[str, object]:
    """Every table: columns in their order, keys, indices, and whether it gives a number twice."""
    tables = [name for (name,) in sql(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert len(tables) > len(metadata.tables)
    found: dict[str, object] = {}
    for table in tables:
        indices = {
            index: (rest, sql(path, f"PRAGMA index_xinfo({index})"))
            for _, index, *rest in sql(path, f"PRAGMA index_list({table})")
        }
        ((made,),) = sql(path, f"SELECT sql FROM sqlite_master WHERE type = 'table' AND name = '{table}'")
        marks = [word for word in ("AUTOINCREMENT", "CHECK", "COLLATE", "WITHOUT", "STRICT") if word in made]
        columns, keys = (
            sql(path, f"PRAGMA table_xinfo({table})"),
            sql(path, f"PRAGMA foreign_key_list({table})"),
        )
        found[table] = columns, keys, indices, marks
    return found


async def test_a_new_database_is_as_one_that_went_through_all_migrations(path, tmp_path):
    await (await open_store(f"sqlite:///{path}")).close()
    migrate(tmp_path / "old" / "gateway.db", "head")
    new = described(path)
    assert new == described(tmp_path / "old" / "gateway.db")
    assert "AUTOINCREMENT" in new["changes"][-1]
    assert sql(path, "SELECT version_num FROM alembic_version") == [(HEAD,)]


async def test_a_database_of_the_first_version_keeps_its_devices(path):
    migrate(
        path,
        "0001",
        "INSERT INTO devices VALUES ('lamp-1', '[\"a\"]', '{}', 1, 'c', 7, 1, 2)",
        "INSERT INTO changes VALUES (7, 'lamp-1', 2)",
    )
    store = await open_store(f"sqlite:///{path}")
    (device,) = await store.devices.read()
    assert (device.roles, device.credential, device.version) == (("a",), "c", 7)
    assert (device.token_epoch, device.revocations, device.observe_until) == (0, (), 0)
    assert (await store.devices.revoke_tokens("lamp-1")).token_epoch == 8
    await store.close()


async def test_usage_records_of_before_the_passages_are_kept(path):
    """Whether one that was not allowed passed, for its device was observed, they did not say."""
    migrate(
        path,
        "0009",
        "INSERT INTO observations VALUES ('lamp-1', 'publish', 'a', 1, 3, 10, 20)",
        "INSERT INTO observations VALUES ('lamp-1', 'publish', 'a', 0, 4, 30, 40)",
        "INSERT INTO observations VALUES ('lamp-1', 'subscribe', '', 0, 5, 50, 60)",
    )
    store = await open_store(f"sqlite:///{path}")
    assert await store.usage.records(0) == [
        UsageRecord("lamp-1", Action.PUBLISH, "a", Passage.ALLOWED, 3, 10, 20),
        UsageRecord("lamp-1", Action.PUBLISH, "a", Passage.REFUSED, 4, 30, 40),
        UsageRecord("lamp-1", Action.SUBSCRIBE, OVERFLOW, Passage.REFUSED, 5, 50, 60),
    ]
    await store.close()
    tables = {name for (name,) in sql(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert "observations_before" not in tables


async def test_opening_prints_nothing_and_leaves_logging_alone(path, capfd):
    handlers, level = list(logging.getLogger().handlers), logging.getLogger("alembic").level
    await make(path)
    await make_again(path)
    assert capfd.readouterr() == ("", "")
    assert (list(logging.getLogger().handlers), logging.getLogger("alembic").level) == (handlers, level)
    assert not logging.getLogger("gateway").disabled


async def make_again(path: Path) -> None:
    store = await open_store(f"sqlite:///{path}")
    assert len(await store.devices.read()) == 1
    await store.close()


async def test_no_credential_in_the_debug_log(path, caplog):
    caplog.set_level(logging.DEBUG)
    store = await open_store(f"sqlite:///{path}")
    await store.devices.add("lamp-1", credential="planted-secret", roles=[], labels={})
    await store.close()
    assert "planted-secret" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=memory",
        "mysql://root:hunter2@host/db",
        "gateway.db",
    ],
)
async def test_urls_that_name_no_file(url):
    with pytest.raises(StoreError, match="sqlite:///path") as caught:
        await open_store(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_postgresql_is_not_yet_there(scheme):
    with pytest.raises(StoreError, match="SQLite only") as caught:
        await open_store(f"{scheme}://gateway:hunter2@host/db")
    assert "hunter2" not in str(caught.value)


async def test_a_newer_database_is_refused(path):
    await make(path)
    sql(path, "UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer version of the gateway"):
        await open_store(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to be looked at" * 50])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"not a database|damaged"):
        await open_store(f"sqlite:///{path}")
    assert path.read_bytes() == content


async def test_somebody_elses_database_is_refused(path):
    path.parent.mkdir()
    sql(path, "CREATE TABLE notes (text)")
    with pytest.raises(StoreError, match="not a database of the gateway"):
        await open_store(f"sqlite:///{path}")


async def test_a_damaged_database_is_refused_and_left_alone(path):
    store = await open_store(f"sqlite:///{path}")
    await store.devices.add_all([NewDevice(f"lamp-{number}", "c" * 100, [], {}) for number in range(200)])
    await store.close()
    content = bytearray(path.read_bytes())
    page = int.from_bytes(content[16:18], "big")
    content[page * 3 + 100 :] = os.urandom(len(content) - page * 3 - 100)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        await open_store(f"sqlite:///{path}")
    assert path.read_bytes() == content


async def test_a_truncated_database_is_refused(path):
    await make(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreError, match="damaged"):
        await open_store(f"sqlite:///{path}")


async def test_a_lost_database_is_not_made_anew_beside_its_log(path):
    """Its -wal file holds changes of a database that was there: a new one would read them."""
    await make(path)
    path.with_name("gateway.db-wal").write_bytes(b"x")
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        await open_store(f"sqlite:///{path}")
    assert not path.exists()


async def test_a_folder_in_the_place_of_the_database(path):
    path.mkdir(parents=True)
    with pytest.raises(StoreError):
        await open_store(f"sqlite:///{path}")


async def test_a_file_in_the_place_of_the_folder(path):
    path.parent.write_text("")
    with pytest.raises(StoreError):
        await open_store(f"sqlite:///{path}")


async def test_what_a_killed_first_start_left_is_no_obstacle(path):
    path.parent.mkdir()
    path.with_name(".gateway.db.new").write_bytes(b"half a database")
    path.with_name(".gateway.db.new-journal").write_bytes(b"half a journal")
    await make(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["gateway.db"]


async def test_a_deleted_database_is_no_longer_read_or_written(path):
    """SQLite would go on with the deleted file, and devices disabled elsewhere would stay enabled there."""
    store = await open_store(f"sqlite:///{path}")
    await store.devices.add("lamp-1", credential="c", roles=[], labels={})
    path.unlink()
    for attempt in (
        store.devices.find("lamp-1"),
        store.changes.since(0),
        store.devices.set_enabled("lamp-1", enabled=False),
    ):
        with pytest.raises(StoreError, match="taken away"):
            await attempt
    with pytest.raises(StoreError, match="taken away"):
        store.wal_stamp()
    with pytest.raises(StoreError, match="missing"):
        await store.reopen()
    assert not path.exists(), "nothing is made in its place"
    await store.close()


def test_no_connection_makes_a_database(path):
    path.parent.mkdir()
    engine = create_engine(url_of("sqlite", path))
    with pytest.raises(OperationalError):
        engine.connect()
    assert not path.exists()
    engine.dispose()


async def test_a_replaced_database_is_refused_until_it_is_opened_and_checked(path, tmp_path):
    other = tmp_path / "other" / "gateway.db"
    await make(other)
    store = await open_store(f"sqlite:///{path}")
    await store.devices.add("old", credential="c", roles=[], labels={})
    other.rename(path)
    with pytest.raises(StoreError, match="replaced"):
        await store.devices.read()
    for suffix in ("-wal", "-shm"):
        path.with_name(f"gateway.db{suffix}").unlink()
    await store.reopen()
    assert [device.device_id for device in await store.devices.read()] == ["lamp-1"]
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreError, match="damaged"):
        await store.reopen()
    await store.close()


async def test_the_mark_changes_with_what_another_process_commits(path):
    store = await open_store(f"sqlite:///{path}")
    other = await open_store(f"sqlite:///{path}")
    marks = [store.wal_stamp()]
    for name in "abc":
        await other.devices.add(name, credential="c", roles=[], labels={})
        marks.append(store.wal_stamp())
    assert len(set(marks)) == 4
    assert store.wal_stamp() == marks[-1]
    await other.close()
    await store.close()


async def test_who_is_cancelled_in_a_transaction_leaves_no_lock(path):
    """A stop cancels whoever is in one, between its statements and within them."""
    store = await open_store(f"sqlite:///{path}")
    await store.devices.add("lamp", credential="c", roles=[], labels={})
    many = [f"lamp-{number}" for number in range(500)]
    for moment in range(30):
        task = asyncio.ensure_future(store.holdings.forget(many))
        await asyncio.sleep(moment * 0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        # Waits for ten seconds and fails if something holds the database.
        await store.devices.add(f"lamp-{moment}", credential="c", roles=[], labels={})
    assert len(await store.devices.read()) == 31
    await store.close()


async def test_what_is_cancelled_is_undone_and_told(path):
    database = await asyncio.to_thread(AsyncDatabase, path)
    written, ended = asyncio.Event(), []

    async def write() -> None:
        async with database.transaction(write=True) as connection:
            await connection.execute(text("INSERT INTO key_uses VALUES ('k1', 1)"))
            written.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(True)

    task = asyncio.ensure_future(write())
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.transaction(write=False) as connection:
        assert (await connection.execute(text("SELECT count(*) FROM key_uses"))).scalar_one() == 0
    assert ended == [True]
    await database.close()
