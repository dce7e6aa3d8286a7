"""The gateway as a client of the bus: servers that behave as none should."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
import structlog
from harness import raw
from harness.background_tasks import until

from bench.ports import free_port
from gateway.bus_client import connect as connect_module
from gateway.bus_client import connection as connection_module
from gateway.bus_client import reconnecting_client
from gateway.bus_client.connect import connect
from gateway.bus_client.connection import PACKET_MAX_TOO_SMALL, Account, BusError
from gateway.bus_client.reconnecting_client import BusClient
from gateway.mqtt.errors import PacketTooLarge
from gateway.mqtt.packets import Subscription, Version
from gateway.net.bus_endpoint import Bus

ACCOUNT = Account("/test/1", b"gate", b"way")


def account(number=2):
    return Account(f"/test/{number}", None, None)


def nobody(connection, delivery):
    raise AssertionError("nothing is delivered here")


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
    for module in (connect_module, connection_module):
        monkeypatch.setattr(module, "DEADLINE", 0.3)
    async with server(lambda packet: answer) as (_, bus):
        with pytest.raises(BusError):
            await connect(bus, ACCOUNT, nobody, max_size=1_000)


async def test_a_bus_that_does_not_answer(monkeypatch):
    for module in (connect_module, connection_module):
        monkeypatch.setattr(module, "DEADLINE", 0.1)
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
        with pytest.raises(BusError, match=r"subscribe to b/c \(code 135\): check"):
            await connection.subscribe([Subscription(b"a", 1), Subscription(b"b/c", 1)])
        with pytest.raises(BusError, match=r"publishes to a \(code 135\): check"):
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
    monkeypatch.setattr(connection_module, "_PING_SECONDS", 0.05)
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


async def test_no_more_is_held_than_was_agreed():
    """What is asked faster than it is answered waits in the bus, and not in our memory."""
    held, served = [], asyncio.Event()

    async def serve(reader, writer):
        await reader.read(100)
        writer.write(ACCEPTED[5])
        for _ in range(2_000):
            writer.write(raw.publish("a", b"x" * 100_000, v5=True))
            await writer.drain()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        served.set()

    def slow(connection, delivery):
        held.append(connection._reader.held)
        time.sleep(0.0001)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    bus = Bus("127.0.0.1", listening.sockets[0].getsockname()[1])
    connection = await connect(bus, ACCOUNT, slow, max_size=200_000, backlog=1_000_000)
    await until(lambda: len(held) == 2_000, 60)
    assert max(held) < 1_200_000 + 300_000
    connection.close()
    listening.close()
    await served.wait()


async def test_the_pauses_between_attempts_grow(monkeypatch):
    pauses, asleep = [], asyncio.sleep

    async def sleep(seconds):
        pauses.append(seconds)
        await asleep(0)

    monkeypatch.setattr(reconnecting_client.asyncio, "sleep", sleep)
    client = BusClient(
        Bus("127.0.0.1", free_port()), lambda: account(1), [], nobody, max_size=lambda: 1_000, v5=True
    )
    running = asyncio.ensure_future(client.run())
    async with asyncio.timeout(15):
        while len(pauses) < 10:
            await asleep(0.001)
    running.cancel()
    assert pauses[:10] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]


async def test_no_repr_shows_the_password():
    assert "way" not in repr(ACCOUNT)


async def test_a_fault_of_ours_at_a_message_costs_that_message_and_none_behind_it():
    """CVE-2026-95842 (Moquette), on the side of the bus: all services share this connection."""
    heard = []

    def handler(_, delivery):
        if delivery.payload == b"FAULT":
            raise ZeroDivisionError
        heard.append(delivery.payload)

    def answer(packet):
        if packet[0] != 0x10:
            return b""
        messages = [
            raw.publish("a", payload, qos=1, packet_id=number, v5=True)
            for number, payload in enumerate((b"one", b"FAULT", b"two"), 1)
        ]
        return ACCEPTED[5] + b"".join(messages)

    async with server(answer) as (one, bus):
        with structlog.testing.capture_logs() as lines:
            connection = await connect(bus, account(), handler, max_size=1000)
            await until(lambda: len(heard) == 2)
            await until(lambda: [raw.ack(0x40, number) for number in (1, 2, 3)] == one.seen[1:])
            connection.close()
    assert heard == [b"one", b"two"]
    assert [line["event"] for line in lines] == ["internal error"]


async def test_a_bus_that_takes_no_subscribe_of_ours_is_told_of_and_asked_again():
    """What is wrong with the bus ends neither this client nor the gateway."""

    def answer(packet):
        return b"\x20\x08\0\0\5\x27\0\0\0\x1e" if packet[0] == 0x10 else b""  # Maximum Packet Size 30

    async with server(answer) as (_, bus):
        wanted = [Subscription(b"gateway/a-topic-that-is-long", 1)]
        client = BusClient(bus, lambda: account(5), wanted, nobody, max_size=lambda: 1_000, v5=True)
        running = asyncio.ensure_future(client.run())
        await until(lambda: client.check()[1] != "not connected yet")
        assert not running.done()
        running.cancel()
    assert client.check() == (False, PACKET_MAX_TOO_SMALL)


@pytest.mark.parametrize(
    ("v5", "code", "said"),
    [
        (True, 0x87, "the client id /test/1 with code 135, not authorized: check MQTT_USERNAME"),
        (False, 5, "the client id /test/1 with code 5, not authorized: check MQTT_USERNAME"),
        (True, 0x87, "clientid_prefixes"),
        (True, 0x85, "no client id like /test/1 (code 133)"),
        (False, 2, "no client id like /test/1 (code 2)"),
        (True, 0x86, "with code 134: check MQTT_USERNAME and MQTT_PASSWORD"),
        (False, 4, "with code 4: check MQTT_USERNAME and MQTT_PASSWORD"),
        (True, 0x97, "with code 151, quota exceeded: its own log says more"),
        (False, 3, "with code 3, server unavailable: its own log says more"),
        (True, 0x8A, "with code 138: its own log says more"),
    ],
)
async def test_what_a_code_of_the_bus_means_in_a_connack(v5, code, said):
    answer = raw.packet(0x20, bytes((0, code, 0) if v5 else (0, code)))
    async with server(lambda _: answer) as (_, bus):
        with pytest.raises(BusError) as refused:
            await connect(bus, ACCOUNT, nobody, max_size=1_000, v5=v5)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0x87, "(code 135): check its access list"),
        (0x80, "(code 128): check its access list"),
        (0x97, "(code 151, quota exceeded)"),
        (0x9E, "(code 158)"),
    ],
)
async def test_what_a_code_of_the_bus_means_for_a_topic(code, said):
    def answers(packet):
        if packet[0] == 0x10:
            return raw.packet(0x20, b"\0\0\0")
        if packet[0] == 0x82:
            return raw.packet(0x90, packet[2:4] + bytes((0, code)))
        return raw.packet(0x40, packet[7:9] + bytes((code,)))

    async with server(answers) as (_, bus):
        connection = await connect(bus, ACCOUNT, nobody, max_size=1_000)
        with pytest.raises(BusError) as refused:
            await connection.subscribe([Subscription(b"a/b", 0)])
        assert str(refused.value) == f"it lets the gateway not subscribe to a/b {said}"
        with pytest.raises(BusError) as refused:
            await connection.publish("a/b", b"", retain=False)
        assert str(refused.value) == f"it refuses what the gateway publishes to a/b {said}"
        connection.close()
