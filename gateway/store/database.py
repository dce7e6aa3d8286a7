"""Opens the database: the file, its migrations, and connections that behave the same everywhere.

It decides what may be opened (never a damaged, foreign or newer file, and it never makes a new one in place
of one that is lost), and knows nothing of what the tables mean. All of it blocks, which is right for
commands. A process with an event loop opens the database by `gateway.store.async_engine`, whose imports take
a tenth of a second.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from gateway.store.errors import StoreError
from gateway.store.last_row_ids import LastIdReader, LastIds
from gateway.store.schema import metadata
from gateway.store.transactions import InThisThread, Transactions, done_at_once
from gateway.system.atomic_files import draft_of, locked, make_folder, sync_folder
from gateway.system.file_errors import is_unreachable, who_may

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_T = TypeVar("_T")
_SQLITE_MIN = (3, 35)
"""The first with RETURNING."""
_SCHEME = "sqlite:///"
HEAD = "0010"
"""The newest revision in `migrations/versions`: a database with this one needs no migration."""
_BUSY_MS = 10_000
"""Milliseconds to wait for a lock that another connection holds."""
POOL: Mapping[str, Any] = {
    "hide_parameters": True,  # an error's text would quote them, and a credential is one of them
    "pool_size": 4,  # `store.device_directory` reads by one, and few tasks write at a time
    "max_overflow": 0,
    "pool_timeout": _BUSY_MS / 1000,
}
"""Arguments of an engine that lives as long as the process."""


class Database:
    """One SQLite file, opened and found to be ours. Access is refused once another file is in its place.

    Each access blocks the thread, and with it an event loop that runs in it.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`; make it if it never existed, and migrate it if need be. Blocks; raises StoreError."""
        self._path = path
        self._wal = _wal_of(path)
        self._opened_inode = _prepare(path, create=True)
        self._blocking = _blocking_engine(path)
        self._last_id_reader = LastIdReader(path, _BUSY_MS)

    @asynccontextmanager
    async def transaction(self, *, write: bool) -> AsyncIterator[AsyncConnection]:
        """A connection. With `write` a transaction: committed and synced at the end, rolled back on an error.

        Without, each statement sees one state of the database, but two statements may see different ones.
        """
        with self._explaining(), self._blocking.connect() as connection:
            without_waiting = cast("AsyncConnection", InThisThread(connection))
            if not write:
                yield without_waiting
                return
            connection.execution_options(write=True)
            with connection.begin():
                yield without_waiting

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Turn database errors in the block into a StoreError that says what to do."""
        self._refuse_another_file()
        try:
            yield
        except StoreError:
            raise  # some of them are a ValueError too
        except (SQLAlchemyError, sqlite3.Error, OSError, ValueError) as error:
            raise _explained(self._path, error) from error

    def read(self, work: Callable[[Transactions], Coroutine[Any, Any, _T]]) -> _T:
        """What `work` reads, without an event loop: it blocks, and may wait for nothing but the database.

        By `transaction` of `AsyncDatabase`, each statement takes several iterations of the loop,
        and while somebody floods the gateway one may take a tenth of a second. Raises StoreError.
        """
        with self._explaining(), self._blocking.connect() as connection:
            return done_at_once(work, connection)

    async def write(self, work: Callable[[Transactions], Coroutine[Any, Any, None]]) -> None:
        """As `Transactions` says."""
        self.write_now(work)

    async def write_in_thread(self, work: Callable[[Transactions], Coroutine[Any, Any, None]]) -> None:
        """As `Transactions` says, without a thread: whoever has no event loop has nothing else to do."""
        self.write_now(work)

    def write_now(self, work: Callable[[Transactions], Coroutine[Any, Any, None]]) -> None:
        """Do it at once, in one transaction. Blocks; raises StoreError."""
        with self._explaining(), self._blocking.connect() as connection:
            connection.execution_options(write=True)
            with connection.begin():
                done_at_once(work, connection)

    def write_fault(self) -> str:
        """Why nothing can be written now; empty if it can. Blocks while others write, as a save would.

        By a connection of its own, lest it take one from those who have something to write. Rights are looked
        at by themselves: SQLite goes on writing in a file that has become read-only while it has it open.
        """
        try:
            with self._explaining(), closing(_rw_connection(self._path, _BUSY_MS / 1000)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            refused = _permission_text(self._path)
        except (StoreError, OSError) as error:
            return str(error)
        return f"the database {self._path} can't be written{refused}" if refused else ""

    def wal_stamp(self) -> tuple[int, int]:
        """When the -wal file was last written (Unix nanoseconds), and its size in bytes; zeros without one.

        Changes with every commit of any process, except for two within one tick of the file system's clock.
        Costs two calls of `stat`. Raises StoreError when the file is no longer the one that was opened.
        """
        self._refuse_another_file()
        try:
            status = self._wal.stat()
        except FileNotFoundError:
            return 0, 0
        except OSError as error:
            raise _explained(self._path, error) from error
        return status.st_mtime_ns, status.st_size

    def files(self) -> list[Path]:
        """The database and its -wal file."""
        return [self._path, self._wal]

    def last_ids(self) -> tuple[LastIds, float]:
        """The highest row ids (see `last_row_ids`), and when the -wal file was last written, in Unix seconds.

        Blocks, for some tens of microseconds. Raises StoreError as `wal_stamp` does, and if the database
        can't be read.
        """
        written_ns, _ = self.wal_stamp()
        try:
            return self._last_id_reader.read(), written_ns / 1e9
        except sqlite3.Error as error:
            raise _explained(self._path, error) from error

    async def reopen(self) -> None:
        """Open the file that is now at the path. It is checked like the first one, but never made."""
        self._last_id_reader.close()
        self._last_id_reader = LastIdReader(self._path, _BUSY_MS)  # a read may still hang in the old one
        self._blocking.dispose()
        self._opened_inode = await asyncio.to_thread(self._prepare_again)

    def _prepare_again(self) -> tuple[int, int] | None:
        if not self._path.parent.is_dir():
            # Without this the error would be about the lock file in that folder, not about the database.
            self._refuse_another_file()
        return _prepare(self._path, create=False)

    async def close(self) -> None:
        """Close all connections."""
        self._last_id_reader.close()
        self._blocking.dispose()

    def _refuse_another_file(self) -> None:
        # SQLite keeps reading a file that was deleted or replaced: revoked devices would still be in there.
        if _inode_of(self._path) != self._opened_inode:
            raise StoreError(
                f"the database {self._path} was replaced or taken away while it was in use; put it back, "
                "or put a backup there and remove the old -wal file first"
            )


def sqlite_path(url: str) -> Path:
    """The file that DATABASE_URL names. Raises StoreError for what this version does not support."""
    if url.startswith(("postgresql:", "postgres:", "postgresql+")):
        raise StoreError(
            "this version supports SQLite only: set DATABASE_URL to sqlite:///path/to/gateway.db"
        )
    path = url.removeprefix(_SCHEME)
    if path == url or not path or path.startswith(":memory:") or "?" in path:
        # Not in memory: the command line and the gateway have to see the same devices.
        raise StoreError("DATABASE_URL must be sqlite:///path/to/gateway.db, without options")
    return Path(path).absolute()


def _prepare(path: Path, *, create: bool) -> tuple[int, int] | None:
    """Make sure that `path` is a database of ours with the current tables. Returns its device and inode."""
    if sqlite3.sqlite_version_info < _SQLITE_MIN:
        # As in RHEL 9. Without this it would start, and fail at the first change.
        wanted = ".".join(map(str, _SQLITE_MIN))
        raise StoreError(
            f"this Python has SQLite {sqlite3.sqlite_version}, and {wanted} or newer is needed: take another"
        )
    try:
        if create:
            make_folder(path.parent)
        with locked(path.parent):
            if create and not path.exists():
                _make(path)
            _check_and_migrate(path)
        return _inode_of(path)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise _explained(path, error) from error


def _make(path: Path) -> None:
    # Under a draft name until it is complete, so that an empty file at `path` always means that data was
    # lost.
    if (wal := _wal_of(path)).exists():
        raise StoreError(
            f"the database {path} is missing, but its log {wal} is there; put the database back, or take the "
            "log away and start with no devices"
        )
    draft = draft_of(path)
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    _make_tables(draft)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.rename(path)
    sync_folder(path.parent)


def _make_tables(path: Path) -> None:
    """Make the tables as all migrations would, which a test compares, without Alembic, which is slow."""
    with _one_transaction(path) as connection:
        metadata.create_all(connection, checkfirst=False)
        connection.exec_driver_sql(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (HEAD,))


@contextmanager
def _one_transaction(path: Path) -> Iterator[Connection]:
    """A connection in a transaction that is committed at the end, or rolled back."""
    engine = create_engine(url_of("sqlite", path), connect_args={"isolation_level": None}, poolclass=NullPool)
    set_up_connections(engine)
    try:
        with engine.connect().execution_options(write=True) as connection, connection.begin():
            yield connection
    finally:
        engine.dispose()


def _check_and_migrate(path: Path) -> None:
    if not path.is_file():
        raise StoreError(f"the database {path} is missing; put it back from a backup")
    with closing(_rw_connection(path, _BUSY_MS / 1000)) as file:
        if not file.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            raise StoreError(
                f"{path} is empty or not a database of the gateway; put the right file back from a "
                "backup, or move this one away and start with no devices"
            )
        finding = file.execute("PRAGMA quick_check(1)").fetchone()[0]
        if finding != "ok":
            raise StoreError(f"the database {path} is damaged ({finding}); put it back from a backup")
        _demand_wal(file)
        found = file.execute("SELECT version_num FROM alembic_version").fetchall()
    if found != [(HEAD,)]:
        _migrate(path)


def _rw_connection(path: Path, seconds: float) -> sqlite3.Connection:
    """A connection to this file, which has to be there. It waits for a lock for so many seconds."""
    return sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=seconds, isolation_level=None)


def _demand_wal(connection: sqlite3.Connection) -> None:
    # The pragma does not fail: it returns the mode that is in force.
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(
            f"the database's file system has no write-ahead log (journal mode stays {mode!r}); keep the "
            "database on a local disk"
        )


def _migrate(path: Path) -> None:
    # Imported here: it takes as long as half of a command does, and is seldom needed.
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "gateway.store:migrations")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with _one_transaction(path) as connection:
        found = set(MigrationContext.configure(connection).get_current_heads())
        if not found <= known:
            raise StoreError(
                f"the database {path} was made by a newer version of the gateway (revision "
                f"{', '.join(sorted(found - known))}); install that version, or put back an older backup"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _blocking_engine(path: Path) -> Engine:
    engine = create_engine(
        url_of("sqlite", path),
        connect_args={
            "isolation_level": None,
            "check_same_thread": False,
        },  # each read has a thread of its own
        **POOL,
    )
    set_up_connections(engine)
    return engine


def url_of(driver: str, path: Path) -> URL:
    """The URL for SQLAlchemy with this driver. It only opens files that exist.

    A connection opened later must not make an empty file where the database was.
    """
    return URL.create(driver, database=path.as_uri(), query={"mode": "rw", "uri": "true"})


def set_up_connections(engine: Engine) -> None:
    """Configure each new connection, for SQLite does not keep these settings, and begin its transactions."""

    def on_connect(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = FULL")  # an acknowledged change survives a power cut
        cursor.close()

    def on_begin(connection: Connection) -> None:
        # A transaction that reads and then writes fails at once when another has written meanwhile, whatever
        # the busy timeout. So writers queue at their beginning; readers begin none.
        if connection.get_execution_options().get("write", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)


def _wal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _inode_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _explained(path: Path, error: Exception) -> StoreError:
    cause = getattr(error, "orig", None) or error
    text = str(cause)
    if "not a database" in text or "malformed" in text:
        remedy = "it is damaged; put it back from a backup"
    elif "locked" in text or isinstance(error, TimeoutError):
        remedy = "another process holds it; stop that one, or try again"
    elif isinstance(cause, PermissionError) or "unable to open" in text or "readonly" in text:
        whom = _permission_text(path)
        remedy = f"file and folder must be readable and writable for the user who runs this{whom}"
    elif "full" in text:
        remedy = "make room on its disk"
    else:
        remedy = "see to the disk and the file"
    return StoreError(f"the database {path} failed ({text}): {remedy}")


def _permission_text(path: Path) -> str:
    wanted = os.R_OK | os.W_OK
    for place in (path.parent, path, _wal_of(path), path.with_name(f"{path.name}-shm")):
        if is_unreachable(place) or (place.exists() and not os.access(place, wanted)):
            return f"; {place}: {who_may(place, wanted)}"
    return ""
