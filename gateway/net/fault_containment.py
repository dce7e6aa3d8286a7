"""A fault of ours ends the connection it happened in, and no other (promise 7; CVE-2026-95842 of Moquette).

Owns what stands between a connection's code and the event loop. asyncio only logs what callbacks raise: the
connection would stay open in a broken state. And an exception in a task that serves all connections would end
that task. Must not know what a connection is.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar


class Breakable(Protocol):
    """A connection."""

    def fault(self, error: Exception) -> None:
        """Log this fault of ours, and end the connection."""


_One = TypeVar("_One", bound=Breakable)
_Given = ParamSpec("_Given")


def contained(
    method: Callable[Concatenate[_One, _Given], None],
) -> Callable[Concatenate[_One, _Given], None]:
    """Make a method of a connection never raise: for those that the loop or a task for all of them calls.

    It adds a tenth of a microsecond. What is called per message has its own `try` instead, which is free.
    """

    @wraps(method)
    def safely(self: _One, /, *args: _Given.args, **named: _Given.kwargs) -> None:
        try:
            method(self, *args, **named)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this connection's alone
            self.fault(error)

    return safely


async def contain(connection: Breakable, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a task's work for one connection, which after an exception would wait for its result in vain.

    `work` is called here, so that a task that is cancelled before its first step leaves no coroutine unrun.
    """
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - as above
        connection.fault(error)
