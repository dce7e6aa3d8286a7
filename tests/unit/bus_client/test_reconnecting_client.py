"""The gateway as a client of the bus: a real Mosquitto."""

from __future__ import annotations

import asyncio
from itertools import cycle

import pytest
from harness.background_tasks import until
from harness.mosquitto import Mosquitto

from bench.ports import free_port
from gateway.bus_client import reconnecting_client
from gateway.bus_client.connect import connect
from gateway.bus_client.connection import Account, BusConnection, BusError
from gateway.bus_client.reconnecting_client import BusClient
from gateway.mqtt.encode import encode_ack, encode_publish
from gateway.mqtt.packets import PacketType, Subscription, Version
from gateway.net.bus_endpoint import Bus

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


class Written:
    """A transport that keeps what is written to it, and whether that was ended."""

    def __init__(self):
        self.writes = []

    def write(self, data):
        self.writes.append(data)

    def abort(self):
        self.writes.append("aborted")

    def pause_reading(self):
        """What a transport can do."""

    resume_reading = pause_reading


async def answering(size, *packets):
    """What is written when these packets come at once, and each is answered by `size` times its bytes."""
    transport = Written()

    def echo(connection, delivery):
        connection.send(encode_publish(0x30, b"r", 0, b"", delivery.payload * size))

    one = BusConnection(Version.V311, echo, max_size=1_000, backlog=1_000)
    one.connection_made(transport)
    one.data_received(b"".join(packets))
    await asyncio.sleep(0)
    return transport.writes


async def test_what_comes_at_once_is_answered_at_once():
    asked = [encode_publish(0x32, b"q", n, b"", b"%d" % n) for n in (1, 2, 3)]
    answers = [
        encode_publish(0x30, b"r", 0, b"", b"%d" % n) + encode_ack(PacketType.PUBACK, n) for n in (1, 2, 3)
    ]
    assert await answering(1, *asked) == [b"".join(answers)]
    assert await answering(1, *asked, b"\x00\x00") == [b"".join(answers), "aborted"]
    # As much is held as is worth it.
    assert [len(data) > 65_536 for data in await answering(40_000, *asked)] == [True, False]


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
    monkeypatch.setattr(reconnecting_client, "_PAUSE_MIN", 0.02)
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
