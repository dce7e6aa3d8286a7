"""A fault of ours ends the connection it happened in, and no other (promise 7; CVE-2026-95842 of Moquette).

Owns what stands between a connection's code and the event loop. asyncio logs what its callbacks raise and
lets them be: the connection would stay as it is, half informed. And what is raised into a task that serves
all connections would end that task. It must not know what a connection is.
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
    """A method of a connection that the loop calls, or whoever sees to many connections; it never raises.

    The call costs a tenth of a microsecond: the path of each message has its own `try`, which costs nothing.
    """

    @wraps(method)
    def safely(self: _One, /, *args: _Given.args, **named: _Given.kwargs) -> None:
        try:
            method(self, *args, **named)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this connection's alone
            self.fault(error)

    return safely


async def contain(connection: Breakable, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do a task's work for one connection. Else it would wait in vain for what the task was to bring it.

    `work` begins here, so that a task that is cancelled before its first step leaves nothing half made.
    """
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - as above
        connection.fault(error)
