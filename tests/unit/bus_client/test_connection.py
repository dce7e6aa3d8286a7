"""A connection that stopped reading: what it holds, and whom it takes for gone."""

from __future__ import annotations

import asyncio

import pytest

from gateway.bus_client import connection as module
from gateway.bus_client.connection import BusConnection
from gateway.mqtt.encode import PINGREQ, encode_publish
from gateway.mqtt.packets import Version

MESSAGE = encode_publish(0x30, b"q", 0, b"", b"x" * 100)


class Transport:
    """Says whether it is read from, and what was written."""

    def __init__(self):
        self.reading, self.aborted, self.written = True, False, []

    def write(self, data):
        self.written.append(data)

    def abort(self):
        self.aborted = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


@pytest.fixture
async def connection():
    one = BusConnection(Version.V311, lambda *_: None, max_size=1_000, backlog=1_000)
    one.connection_made(Transport())
    yield one
    one.connection_lost(None)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_slow_bus_does_not_lift_the_bound_of_what_is_held(connection, monkeypatch):
    """Nothing is read before what is held is worked off, however often the bus catches up meanwhile."""
    monkeypatch.setattr(module, "_PACKETS_AT_A_TIME", 1)
    connection.pause_writing()
    connection.data_received(MESSAGE * 30)
    await turns(2)
    connection.resume_writing()
    assert not connection._transport.reading
    await turns(40)
    assert connection._transport.reading
    assert connection._reader.held == 0


async def test_who_is_not_read_from_is_not_silent(connection, monkeypatch):
    monkeypatch.setattr(connection, "_work", lambda: None)
    connection.data_received(MESSAGE * 30)
    for _ in range(3):
        connection._ping()
        connection._ping_timer.cancel()
    assert not connection.closed.done()
    assert connection._transport.written == [PINGREQ] * 3, "the bus is to hear that we are there"


async def test_a_bus_that_does_not_read_is_gone_and_one_that_reads_is_there(connection):
    connection.pause_writing()
    connection.data_received(MESSAGE * 30)
    for _ in range(3):
        connection._ping()
        connection._ping_timer.cancel()
        connection.resume_writing()
        connection.pause_writing()
    assert not connection.closed.done()
    connection._ping()
    connection._ping_timer.cancel()
    connection._ping()
    assert connection.closed.result() == "it does not answer"
