"""Waits for the first byte on many sockets with one epoll.

For a socket that is waited for once, a reader of the event loop costs some seven system calls, this three.
Must not know what is waited for.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Generic, TypeVar

_Owner = TypeVar("_Owner")


class FirstByteEpoll(Generic[_Owner]):
    """Sockets on which nothing has come yet, each with an owner."""

    __slots__ = ("_epoll", "_owners", "_speaks")

    def __init__(self, speaks: Callable[[_Owner], None]) -> None:
        """`speaks` is called once for each owner: its socket has something to read, or has ended."""
        self._speaks = speaks
        self._owners: dict[int, _Owner] = {}
        self._epoll: select.epoll | None = None

    def add(self, descriptor: int, owner: _Owner) -> None:
        """Wait for the first byte of this socket."""
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._look)
        self._owners[descriptor] = owner
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """Stop waiting for this socket; nothing happens if it was not waited for."""
        if self._owners.pop(descriptor, None) is not None and self._epoll is not None:
            self._epoll.unregister(descriptor)

    def _look(self) -> None:
        if self._epoll is None:
            return
        for descriptor, _ in self._epoll.poll(0):
            owner = self._owners[descriptor]
            self.remove(descriptor)
            self._speaks(owner)

    def close(self) -> None:
        """Stop waiting for all of them."""
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
        self._owners.clear()
