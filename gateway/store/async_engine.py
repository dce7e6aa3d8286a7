"""The database for who has an event loop to keep turning: each connection has a thread of its own.

Whoever is cancelled in the middle is so when the statement under way is done. One that nobody awaits any more
goes on in its thread, and its transaction with it: nobody could write until that connection is forgotten.
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

_T = TypeVar("_T")

# At debug level it logs every statement with its parameters, and a credential is one of them.
logging.getLogger("aiosqlite").setLevel(logging.WARNING)


class AsyncDatabase(Database):
    """One SQLite file, whose transactions let the loop turn. Opening it blocks."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._engine = _engine(path)

    @asynccontextmanager
    async def transaction(self, *, write: bool) -> AsyncIterator[AsyncConnection]:
        """As of any database."""
        with self._explaining():
            beginning = self._begun(write=write)
            connection = await _to_its_end(beginning, unwanted=AsyncConnection.close)
            done = False
            try:
                yield cast("AsyncConnection", _ToItsEnd(connection))
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

    async def reopen(self) -> None:
        """As of any database."""
        await self._engine.dispose()
        await super().reopen()

    async def close(self) -> None:
        """As of any database."""
        await super().close()
        await self._engine.dispose()


class _ToItsEnd:
    """A connection each of whose statements comes to its end, whatever becomes of who waits for it."""

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
    """What `work` answers. Raises CancelledError when it is done, if somebody wanted that meanwhile.

    Its answer goes to `unwanted` then.
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
