"""The database for whoever must not block an event loop: each connection has a thread of its own.

A task that is cancelled while a statement runs is cancelled once the statement is done. A statement that
nobody awaits would go on in its thread, and its transaction with it: nobody could write until that connection
is garbage.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import CursorResult, Executable
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.store.database import POOL, Database, set_up_connections, url_of
from gateway.store.transactions import GivenConnection, Transactions

_T = TypeVar("_T")

# At debug level it logs every statement with its parameters, and a credential is one of them.
logging.getLogger("aiosqlite").setLevel(logging.WARNING)


class AsyncDatabase(Database):
    """One SQLite file, whose transactions don't block the event loop. Opening it does."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._engine = _engine(path)

    @asynccontextmanager
    async def transaction(self, *, write: bool) -> AsyncIterator[AsyncConnection]:
        """As `Database` has it."""
        with self._explaining():
            beginning = self._begun(write=write)
            connection = await _to_its_end(beginning, unwanted=AsyncConnection.close)
            done = False
            try:
                yield cast("AsyncConnection", _UncancelledConnection(connection))
                done = True
            finally:
                await _to_its_end(_end(connection, commit=write and done))

    async def _begun(self, *, write: bool) -> AsyncConnection:
        connection = await self._engine.connect()
        try:
            if write:
                await connection.execution_options(write=True)
                await connection.begin()
        except BaseException:
            await connection.close()
            raise
        return connection

    async def write(self, work: Callable[[Transactions], Coroutine[Any, Any, None]]) -> None:
        """As `Transactions` says. Not in a thread, which would hold messages up longer (ADR 13)."""
        writing = asyncio.ensure_future(self._write(work))  # noqa: TID251 - held here until it is done
        cancelled = False
        while not writing.done():
            try:
                await asyncio.wait({writing})
            except asyncio.CancelledError:
                cancelled = True
        task = asyncio.current_task()
        if cancelled and task is not None:
            task.uncancel()
            task.cancel()
        writing.result()

    async def _write(self, work: Callable[[Transactions], Coroutine[Any, Any, None]]) -> None:
        async with self.transaction(write=True) as connection:
            await work(GivenConnection(connection))

    async def write_in_thread(self, work: Callable[[Transactions], Coroutine[Any, Any, None]]) -> None:
        """As `Transactions` says."""
        await _to_its_end(asyncio.to_thread(self.write_now, work))

    async def reopen(self) -> None:
        """As `Database` has it."""
        await self._engine.dispose()
        await super().reopen()

    async def close(self) -> None:
        """As `Database` has it."""
        await super().close()
        await self._engine.dispose()


class _UncancelledConnection:
    """A connection whose statements each run to their end, even when who awaits one is cancelled."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def execute(self, statement: Executable, rows: Any = None) -> CursorResult[Any]:  # noqa: ANN401
        return await _to_its_end(self._connection.execute(statement, rows))


async def _end(connection: AsyncConnection, *, commit: bool) -> None:
    """What is not committed is rolled back."""
    try:
        if commit:
            await connection.commit()
    finally:
        await connection.close()


async def _to_its_end(
    work: Coroutine[Any, Any, _T], *, unwanted: Callable[[_T], Coroutine[Any, Any, None]] | None = None
) -> _T:
    """The result of `work`.

    If this task is cancelled meanwhile, CancelledError is raised once `work` is done, and its result goes to
    `unwanted`.
    """
    task = asyncio.ensure_future(work)  # noqa: TID251 - held here until it is done
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled() and task.exception() is None and unwanted is not None:
        await _to_its_end(unwanted(task.result()))
    raise cancelled


def _engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        url_of("sqlite+aiosqlite", path), connect_args={"isolation_level": None}, **POOL
    )
    set_up_connections(engine.sync_engine)
    return engine
