"""Which of many silent sockets have something to read: real sockets, a loop that is given some turns."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from gateway.net.first_byte_epoll import FirstByteEpoll

Pair: TypeAlias = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


@pytest.fixture
def heard() -> list[str]:
    """Who was named."""
    return []


@pytest.fixture
async def silent(heard: list[str]) -> AsyncIterator[FirstByteEpoll[str]]:
    one = FirstByteEpoll(heard.append)
    yield one
    one.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_speaks_is_named_once(pair: Pair, silent: FirstByteEpoll[str], heard: list[str]) -> None:
    here, there = pair
    silent.add(here.fileno(), "lamp")
    await turns()
    assert heard == []
    there.send(b"hello")
    await turns()
    there.send(b"again")
    await turns()
    assert heard == ["lamp"]


async def test_who_leaves_is_named_too(pair: Pair, silent: FirstByteEpoll[str], heard: list[str]) -> None:
    here, there = pair
    silent.add(here.fileno(), "lamp")
    there.close()
    await turns()
    assert heard == ["lamp"]


async def test_who_is_not_waited_for_any_more_is_not_named(
    pair: Pair, silent: FirstByteEpoll[str], heard: list[str]
) -> None:
    here, there = pair
    silent.add(here.fileno(), "lamp")
    silent.remove(here.fileno())
    silent.remove(here.fileno())
    there.send(b"hello")
    await turns()
    assert heard == []


async def test_no_descriptor_is_left(pair: Pair) -> None:
    before = descriptors()
    silent = FirstByteEpoll(lambda _: None)
    silent.add(pair[0].fileno(), "lamp")
    silent.close()
    silent.close()
    assert descriptors() == before
