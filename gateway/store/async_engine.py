"""The database for who has an event loop to keep turning: each connection has a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.store.engine import POOL, Database, behave, url_of

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
            async with self._engine.connect() as connection:
                if not write:
                    yield connection
                    return
                await connection.execution_options(write=True)
                async with connection.begin():
                    yield connection

    async def reopen(self) -> None:
        """As of any database."""
        await self._engine.dispose()
        await super().reopen()

    async def close(self) -> None:
        """As of any database."""
        await super().close()
        await self._engine.dispose()


def _engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        url_of("sqlite+aiosqlite", path), connect_args={"isolation_level": None}, **POOL
    )
    behave(engine.sync_engine)
    return engine
