"""The gateway as a client of the bus: a real Mosquitto, and servers that behave as none should."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from contextlib import asynccontextmanager
from itertools import cycle

import pytest
import structlog
from harness import raw
from harness.mosquitto import Mosquitto, free_port

from gateway.mqtt.encode import encode_publish
from gateway.mqtt.errors import PacketTooLarge
from gateway.mqtt.packets import Subscription, Version
from gateway.net import bus_client
from gateway.net.bus_client import Account, BusClient, BusError, connect
from gateway.net.door import Bus
from gateway.observe.logs import configure

ACCOUNT = Account("/test/1", b"gate", b"way")
both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


def account(number=2):
    return Account(f"/test/{number}", None, None)


def nobody(connection, delivery):
    raise AssertionError("nothing is delivered here")


class Heard:
    """A handler that keeps what came."""

    def __init__(self):
        self.deliveries = []

    def __call__(self, connection, delivery):
        self.deliveries.append(delivery)

    async def wait(self, count, seconds=15.0):
        await until(lambda: len(self.deliveries) >= count, seconds)
        return self.deliveries


async def until(condition, seconds=15.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, of parts that know nothing of this test
            await asyncio.sleep(0.01)


@pytest.fixture
def log():
    stream, handlers = io.StringIO(), logging.getLogger().handlers[:]
    configure("debug", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.getLogger().handlers[:] = handlers


# A real bus


@both
async def test_what_is_published_is_heard(mosquitto: Mosquitto, v5):
    bus, heard = Bus("127.0.0.1", mosquitto.port), Heard()
    listener = await connect(bus, account(1), heard, max_size=1_000, v5=v5)
    speaker = await connect(bus, account(2), nobody, max_size=1_000, v5=v5)
    assert listener.version is (Version.V5 if v5 else Version.V311)
    await listener.subscribe([Subscription(b"a/#", 1 | 0x04), Subscription(b"b", 1)])
    await asyncio.gather(*(speaker.publish("a/1", b"%d" % n, retain=False) for n in range(50)))
    await speaker.publish("b", b"x" * 2_000, retain=True)
    speaker.send(encode_publish(0x30, b"a/2", 0, b"\0" if v5 else b"", b"last"))
    deliveries = await heard.wait(52)
    assert [one.payload for one in deliveries[:50]] == [b"%d" % n for n in range(50)]
    assert [(one.topic, one.payload, one.whole) for one in deliveries[50:]] == [
        ("b", b"", False),
        ("a/2", b"last", True),
    ]
    # A retained message is told apart from a live one.
    late = Heard()
    another = await connect(bus, account(3), late, max_size=10_000, v5=v5)
    await another.subscribe([Subscription(b"b", 1)])
    (kept,) = await late.wait(1)
    assert (kept.retain, len(kept.payload), deliveries[50].retain) == (True, 2_000, False)
    for one in (listener, speaker, another):
        one.close()
        assert await one.closed == "closed"


async def test_messages_that_were_taken_are_acknowledged(mosquitto: Mosquitto):
    bus, heard = Bus("127.0.0.1", mosquitto.port), Heard()
    listener = await connect(bus, account(1), heard, max_size=1_000)
    await listener.subscribe([Subscription(b"a", 1)])
    speaker = await connect(bus, account(2), nobody, max_size=1_000)
    # More than Mosquitto sends without an acknowledgement, and several rounds of identifiers.
    speaker._ids = cycle(range(1, 31))
    await asyncio.gather(*(speaker.publish("a", b"", retain=False) for _ in range(500)))
    await heard.wait(500)
    assert not speaker._waiting
    listener.close()
    speaker.close()


async def test_a_bus_that_wants_a_name_and_does_not_get_it(tmp_path):
    (tmp_path / "empty").write_text("")
    (tmp_path / "empty").chmod(0o600)
    bus = Mosquitto(tmp_path / "bus", settings=f"password_file {tmp_path}/empty\nallow_anonymous false")
    bus.start()
    try:
        with pytest.raises(BusError, match="MQTT_USERNAME"):
            await connect(Bus("127.0.0.1", bus.port), ACCOUNT, nobody, max_size=1_000)
    finally:
        bus.kill()


@both
async def test_a_bus_that_lets_nobody_subscribe(tmp_path, v5):
    (tmp_path / "acl").write_text("topic write #\n")
    (tmp_path / "acl").chmod(0o600)
    bus = Mosquitto(tmp_path / "bus", settings=f"acl_file {tmp_path}/acl").start()
    try:
        connection = await connect(Bus("127.0.0.1", bus.port), account(), nobody, max_size=1_000, v5=v5)
        # Mosquitto takes any SUBSCRIBE of a filter that its list does not name, and delivers nothing.
        await connection.subscribe([Subscription(b"a", 1)])
        connection.close()
    finally:
        bus.kill()


@both
async def test_nobody_listens_there(v5):
    with pytest.raises(BusError):
        await connect(Bus("127.0.0.1", free_port()), account(), nobody, max_size=1_000, v5=v5)


async def test_it_comes_back_whenever_the_bus_does(tmp_path, log, monkeypatch):
    monkeypatch.setattr(bus_client, "_PAUSE_LEAST", 0.02)
    bus, heard = Mosquitto(tmp_path / "bus"), Heard()
    client = BusClient(
        Bus("127.0.0.1", bus.port),
        lambda: account(1),
        [Subscription(b"a", 1)],
        heard,
        max_size=lambda: 1_000,
        v5=True,
    )
    assert client.check() == (False, "not connected yet")
    running = asyncio.ensure_future(client.run())
    try:
        await until(lambda: client.check()[1] != "not connected yet")
        assert not client.check()[0]
        for count in (1, 2):
            bus.start()
            await until(lambda: client.check()[0])
            assert client.check()[1].endswith("MQTT 5")
            speaker = await connect(Bus("127.0.0.1", bus.port), account(2), nobody, max_size=1_000)
            await speaker.publish("a", b"", retain=False)
            speaker.close()
            await heard.wait(count)
            bus.kill()
            await until(lambda: not client.check()[0])
    finally:
        running.cancel()
        bus.kill()
    lines = [line["event"] for line in log()]
    # Each change is told, not each attempt.
    assert lines.count("bus connected") == 2
    assert lines.count("bus unavailable") <= 6


# Servers that behave as none should


class Server:
    """Written by hand: `answer(packet)` gives the bytes, or None to close."""

    def __init__(self, answer):
        self.answer = answer
        self.seen = []
        self.connections = 0
        self.writers = []

    async def serve(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        buffer = b""
        while more := await reader.read(65_536):
            buffer += more
            complete, buffer = split(buffer)
            for packet in complete:
                self.seen.append(packet)
                answer = self.answer(packet)
                if answer is None:
                    writer.close()
                    return
                writer.write(answer)
        writer.close()


def split(buffer):
    complete = []
    while len(buffer) >= 2 and buffer[1] < 128 and len(buffer) >= 2 + buffer[1]:
        complete.append(buffer[: 2 + buffer[1]])
        buffer = buffer[2 + buffer[1] :]
    return complete, buffer


@asynccontextmanager
async def server(answer):
    one = Server(answer)
    listening = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    try:
        yield one, Bus("127.0.0.1", listening.sockets[0].getsockname()[1])
    finally:
        listening.close()
        for writer in one.writers:
            writer.close()
        await asyncio.sleep(0)


def version_of(packet):
    return packet[8] if packet[0] == 0x10 else 0


ACCEPTED = {4: b"\x20\x02\0\0", 5: b"\x20\x03\0\0\0"}


def with_properties(properties):
    """Accepts, in MQTT 5, with these properties; silent for everything else."""
    body = b"\0\0" + raw.properties(properties)
    return lambda packet: raw.packet(0x20, body) if packet[0] == 0x10 else b""


@pytest.mark.parametrize(
    "refusal", [b"\x20\x02\0\x01", b"\x20\x03\0\x84\0", None], ids=["1", "0x84", "closes"]
)
async def test_a_bus_of_3_1_1_is_spoken_to_in_3_1_1(refusal):
    async with server(
        lambda packet: refusal if version_of(packet) == 5 else ACCEPTED[4] if version_of(packet) else b""
    ) as (
        one,
        bus,
    ):
        connection = await connect(bus, ACCOUNT, nobody, max_size=1_000)
        assert connection.version is Version.V311
        assert one.seen[-1] == raw.connect("/test/1", username="gate", password="way")
        connection.close()


async def test_a_bus_that_speaks_nothing():
    for refusal in (b"\x20\x02\0\x01", None):
        async with server(lambda packet, refusal=refusal: refusal) as (_, bus):
            with pytest.raises(BusError):
                await connect(bus, ACCOUNT, nobody, max_size=1_000)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\xff\xff\xff\xff\x01", b"\x70\x02\0\x01", b"\x20\x02\x04\0"],
    ids=range(4),
)
async def test_what_answers_is_no_mqtt_server(answer, monkeypatch):
    monkeypatch.setattr(bus_client, "_DEADLINE", 0.3)
    async with server(lambda packet: answer) as (_, bus):
        with pytest.raises(BusError):
            await connect(bus, ACCOUNT, nobody, max_size=1_000)


async def test_a_bus_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(bus_client, "_DEADLINE", 0.1)
    async with server(lambda packet: b"") as (_, bus):
        with pytest.raises(BusError, match="does not answer"):
            await connect(bus, ACCOUNT, nobody, max_size=1_000)
    async with server(with_properties(b"")) as (_, bus):
        connection = await connect(bus, ACCOUNT, nobody, max_size=1_000)
        with pytest.raises(BusError, match="does not answer"):
            await connection.subscribe([Subscription(b"a", 1)])
        # It is of no more use.
        with pytest.raises(BusError, match="does not answer"):
            await connection.publish("a", b"", retain=False)


async def test_a_bus_that_refuses_a_subscription_or_a_message():
    def answer(packet):
        if packet[0] == 0x10:
            return ACCEPTED[5]
        if packet[0] == 0x82:
            return b"\x90\x05" + packet[2:4] + b"\0\x01\x87"
        return b"\x40\x03" + packet[5:7] + b"\x87" if packet[0] & 0xF0 == 0x30 else b""

    async with server(answer) as (_, bus):
        connection = await connect(bus, ACCOUNT, nobody, max_size=1_000)
        with pytest.raises(BusError, match="subscribe to b/c: check"):
            await connection.subscribe([Subscription(b"a", 1), Subscription(b"b/c", 1)])
        with pytest.raises(BusError, match="code 135"):
            await connection.publish("a", b"", retain=False)
        connection.close()


async def test_nothing_longer_than_the_bus_takes_is_sent():
    async with server(with_properties(b"\x27\0\0\0\x40")) as (one, bus):
        connection = await connect(bus, ACCOUNT, nobody, max_size=1_000)
        connection.send(raw.publish("a", b"x" * 58, v5=True))
        with pytest.raises(PacketTooLarge):
            connection.send(raw.publish("a", b"x" * 59, v5=True))
        with pytest.raises(PacketTooLarge):
            await connection.publish("a", b"x" * 59, retain=False)
        connection.close()
        await until(lambda: one.seen[-1:] == [raw.DISCONNECT])
        assert [packet[0] for packet in one.seen] == [0x10, 0x30, 0xE0]


async def test_no_more_is_in_flight_than_the_bus_takes():
    async with server(with_properties(b"\x21\0\x03")) as (one, bus):
        connection = await connect(bus, ACCOUNT, nobody, max_size=1_000)
        waiting = [asyncio.ensure_future(connection.publish("a", b"", retain=False)) for _ in range(9)]
        await until(lambda: len(one.seen) == 4)
        await asyncio.sleep(0.05)
        assert len(one.seen) == 4
        one.writers[0].write(b"\x40\x02\0\x01")
        await until(lambda: len(one.seen) == 5)
        one.writers[0].close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [outcome for outcome in outcomes if outcome is None] == [None]
        assert sum(isinstance(outcome, BusError) for outcome in outcomes) == 8


async def test_the_bus_is_asked_whether_it_is_there(monkeypatch):
    monkeypatch.setattr(bus_client, "_BEAT", 0.05)
    pings = []

    def answer(packet):
        if packet[0] == 0x10:
            return ACCEPTED[5]
        pings.append(time.monotonic())
        return raw.PINGRESP if len(pings) < 4 else b""

    async with server(answer) as (_, bus):
        connection = await connect(bus, ACCOUNT, nobody, max_size=1_000)
        async with asyncio.timeout(10):
            assert await connection.closed == "it does not answer"
        assert len(pings) == 4


async def test_the_bus_says_how_often_it_wants_to_be_asked():
    async with server(with_properties(b"\x13\0\x01")) as (one, bus):
        connection = await connect(bus, ACCOUNT, nobody, max_size=1_000)
        await until(lambda: raw.PINGREQ in one.seen)
        connection.close()


async def test_the_bus_takes_leave():
    async with server(with_properties(b"")) as (one, bus):
        connection = await connect(bus, ACCOUNT, nobody, max_size=1_000)
        one.writers[0].write(b"\xe0\x01\x8e")
        assert await connection.closed == "it disconnected the gateway with code 142"


async def test_a_slow_bus_is_not_read_from():
    """What is answered can't pile up here: nothing more is read until the bus has read the answers."""

    def send_much(connection, delivery):
        connection.send(raw.publish("answer", b"x" * 1_000_000, v5=True))

    stop = asyncio.Event()

    async def serve(reader, writer):
        await reader.read(100)
        writer.write(ACCEPTED[5] + raw.publish("a", b"", v5=True) * 50)
        await stop.wait()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    bus = Bus("127.0.0.1", listening.sockets[0].getsockname()[1])
    connection = await connect(bus, ACCOUNT, send_much, max_size=1_000)
    await until(lambda: not connection._transport.is_reading())
    assert connection._transport.get_write_buffer_size() <= 55_000_000
    connection.close()
    stop.set()
    listening.close()
    connection._transport.abort()


async def test_no_repr_shows_the_password():
    assert "way" not in repr(ACCOUNT)
