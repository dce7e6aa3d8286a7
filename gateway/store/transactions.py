"""Where a repository gets its connection, and how what it does is done at once, without an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from sqlalchemy import Connection, CursorResult, Executable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_T = TypeVar("_T")


class Transactions(Protocol):
    """Where a repository gets its connection: of a transaction of its own, or one that the caller has."""

    def transaction(self, *, write: bool) -> AbstractAsyncContextManager[AsyncConnection]:
        """The connection, for as long as the block takes."""
        ...

    async def write(self, work: Callable[[Transactions], Coroutine[Any, Any, None]]) -> None:
        """Do `work` in one transaction that writes, to its end, for whoever saves again what was not saved.

        When the task is cancelled meanwhile, this returns, and the task is cancelled at its next await: so
        nobody takes for undone, and saves twice, what is done.
        """
        ...

    async def write_in_thread(self, work: Callable[[Transactions], Coroutine[Any, Any, None]]) -> None:
        """Do `work`, which waits for nothing but the database, in one transaction and one call of a thread.

        For what is done again and again in an idle process: by `transaction` each statement takes several
        iterations of the loop and of a thread.
        """
        ...


class GivenConnection:
    """A connection that the caller opened, with its transaction if it has one; the caller ends both."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def transaction(self, *, write: bool) -> AsyncIterator[AsyncConnection]:  # noqa: ARG002 - the caller has decided it
        """The connection that was given."""
        yield self._connection

    async def write(self, work: Callable[[Transactions], Coroutine[Any, Any, None]]) -> None:
        """Do it in the caller's transaction."""
        await work(self)

    write_in_thread = write


class InThisThread:
    """A connection whose answers are there at once: what repositories ask of an AsyncConnection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, statement: Executable, rows: Any = None) -> CursorResult[Any]:  # noqa: ANN401
        """Execute it now: this blocks."""
        return self._connection.execute(statement, rows)


def done_at_once(work: Callable[[Transactions], Coroutine[Any, Any, _T]], connection: Connection) -> _T:
    """What `work` answers, without an event loop: it blocks."""
    coroutine = work(GivenConnection(cast("AsyncConnection", InThisThread(connection))))
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast("_T", done.value)
    coroutine.close()
    raise RuntimeError("what is done in a thread waits for something else than the database")
