"""Re-sealing what the bus retains, on a real Mosquitto, while others go on publishing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest
from harness import raw
from harness.background_tasks import beside
from harness.bus_service_client import Caller, Heard
from harness.mosquitto import Mosquitto

from gateway.bus_client.connect import connect
from gateway.bus_client.connection import Account, BusConnection, BusError, Handler
from gateway.bus_client.packet_reader import Delivery
from gateway.keys.key_ring import Key, KeyRing, KeyState, Nonces
from gateway.keys.payload_envelope import Sealer, open_envelope, read_envelope
from gateway.mqtt.errors import PacketTooLarge
from gateway.mqtt.properties import Property
from gateway.net.bus_endpoint import Bus
from gateway.services.retained_resealing import ResealingOutcome, reseal_retained

THEN = 1_764_000_000_000
OLD = Key("k1", b"1" * 32, KeyState.ACTIVE, 0)
NEW = Key("k2", b"2" * 32, KeyState.ACTIVE, 0)
RETIRED = Key("k1", b"1" * 32, KeyState.DECRYPT_ONLY, 0)
GONE = Key("k0", b"", KeyState.DESTROYED, 0)


def ring(*keys: Key) -> KeyRing:
    return KeyRing(keys or (GONE, RETIRED, NEW), Nonces(os.urandom), {})


def sealed(payload: bytes, topic: str, *, key: Key = OLD, sender: str = "lamp-1", then: int = THEN) -> bytes:
    return Sealer(ring(key), lambda: then, topic=topic, sender=sender).seal(payload)


def opened(payload: bytes) -> bytes:
    return open_envelope(ring(), read_envelope(payload))


class Bench:
    """A bus, and others on it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.bus = Bus("127.0.0.1", port)
        self.before_publish: Callable[[str, bytes], Awaitable[None]] | None = None
        """Called just before each retained message of ours goes out."""
        self.progress: list[tuple[int, int]] = []
        self.on_delivery: Callable[[Delivery], list[Delivery]] = lambda one: [one]
        """What the re-sealing is given of a message of the bus, in this order."""

    async def client(self, name: str, *, v5: bool = True) -> BusConnection:
        account = Account(f"/test/{name}", None, None)
        return await connect(self.bus, account, lambda *_: None, max_size=1_000, v5=v5)

    async def open(self, handler: Handler) -> BusConnection:
        def hear(connection: BusConnection, delivery: Delivery) -> None:
            for one in self.on_delivery(delivery):
                handler(connection, one)

        connection = await connect(
            self.bus, Account("/test/rewrap", None, None), hear, max_size=1_000_000, backlog=1 << 40
        )
        publish = connection.publish

        async def slowly(
            topic: str, payload: bytes, *, retain: bool, properties: list[Property] = ()
        ) -> None:
            if retain and self.before_publish is not None:
                await self.before_publish(topic, payload)
            await publish(topic, payload, retain=retain, properties=properties)

        connection.publish = slowly
        return connection

    async def reseal(self, *filters: str, with_ring: KeyRing | None = None) -> ResealingOutcome:
        return await reseal_retained(
            self.open,
            with_ring or ring(),
            filters or ("private/#",),
            end_topic="gateway/rewrap/test",
            progress=lambda done, total: self.progress.append((done, total)),
        )

    async def retain(self, **messages: bytes) -> None:
        """Put messages on topics below `private/`."""
        client = await self.client("publisher")
        names = list(messages)
        for start in range(0, len(names), 500):
            await asyncio.gather(
                *(
                    client.publish(f"private/{name}", messages[name], retain=True)
                    for name in names[start : start + 500]
                )
            )
        client.close()

    def retained(self, topic_filter: str = "private/#") -> dict[str, Heard]:
        """What a newcomer is given, by topic."""
        with Caller(self.port, topic_filter, "end", qos=0) as caller:
            caller.send("end", b"")
            found = {}
            while (heard := caller.hear()).topic != "end":
                assert heard.retain
                found[heard.topic] = heard
            return found


@pytest.fixture
def bench(mosquitto: Mosquitto) -> Bench:
    return Bench(mosquitto.port)


async def retained(bench: Bench) -> dict[str, Heard]:
    return await asyncio.to_thread(bench.retained)


async def test_many_messages_of_older_keys(bench):
    count = 3_000
    await bench.retain(
        **{
            f"{n}/pin": sealed(b"%d" % n, f"private/{n}/pin", sender=f"lamp-{n}", then=n)
            for n in range(count)
        }
    )
    outcome = await bench.reseal()
    assert outcome == ResealingOutcome(resealed=count, complete=True)
    assert bench.progress == [(done, count) for done in range(200, count + 1, 200)]
    found = await retained(bench)
    assert len(found) == count
    for n in range(count):
        envelope = read_envelope(found[f"private/{n}/pin"].payload)
        assert (envelope.key_id, envelope.sender, envelope.timestamp) == ("k2", f"lamp-{n}", n)
        assert envelope.rewrapped is True
        assert open_envelope(ring(), envelope) == b"%d" % n
    # Once more there is nothing to do, and nothing is touched.
    again = await bench.reseal()
    assert (again.resealed, again.current) == (0, count)
    assert await retained(bench) == found


async def test_what_is_current_or_unreadable_stays_as_it_is(bench):
    messages = {
        "current": sealed(b"1", "private/current", key=NEW),
        "plain": b"21.5",
        "foreign-key": sealed(b"1", "private/foreign-key", key=Key("k9", b"9" * 32, KeyState.ACTIVE, 0)),
        "destroyed": sealed(b"1", "private/destroyed", key=Key("k0", b"0" * 32, KeyState.ACTIVE, 0)),
        "moved": sealed(b"1", "private/elsewhere"),
        "tampered": sealed(b"1", "private/tampered").replace(b"lamp-1", b"lamp-2"),
        "huge": sealed(b"x" * 800_000, "private/huge"),
        "good": sealed(b"1", "private/good"),
    }
    await bench.retain(**messages)
    outcome = await bench.reseal()
    assert (outcome.resealed, outcome.current, outcome.left) == (1, 1, 0)
    assert outcome.unreadable == {
        "private/plain": "not a sealed message",
        "private/foreign-key": "sealed under a key that is not here",
        "private/destroyed": "sealed under a key that was destroyed",
        "private/moved": "sealed for another topic",
        "private/tampered": "the message does not authenticate",
        "private/huge": "longer than any message may be",
    }
    found = await retained(bench)
    assert {topic for topic, heard in found.items() if heard.payload == messages[topic[8:]]} == (
        {f"private/{name}" for name in messages} - {"private/good"}
    )


async def test_only_sensitive_topics_are_touched(bench):
    elsewhere = sealed(b"1", "elsewhere/x")
    client = await bench.client("publisher")
    await client.publish("elsewhere/x", elsewhere, retain=True)
    client.close()
    await bench.retain(a=sealed(b"1", "private/a"))
    # Filters that match the same topics do no harm.
    outcome = await bench.reseal("private/#", "private/a", "+/a", "private/#", "private/+")
    assert (outcome.resealed, outcome.changed) == (1, 0)
    found = await asyncio.to_thread(bench.retained, "elsewhere/#")
    assert found["elsewhere/x"].payload == elsewhere


async def test_the_properties_of_a_message_stay(bench):
    props = b"\x01\x01" + b"\x03" + raw.text("text/plain") + b"\x02\0\0\x0e\x10" + b"\x08" + raw.text("r/t")
    user = b"\x26" + raw.text("k") + raw.text("1") + b"\x26" + raw.text("k") + raw.text("2")
    message = sealed(b"1", "private/a")

    def publish() -> None:
        with raw.Raw(bench.port) as one:
            one.send(raw.connect("p", v5=True)).read()
            one.send(
                raw.publish(
                    "private/a", message, qos=1, packet_id=1, retain=True, v5=True, props=props + user
                )
            ).read()

    await asyncio.to_thread(publish)
    assert (await bench.reseal()).resealed == 1

    def hear() -> bytes:
        with raw.Raw(bench.port) as one:
            one.send(raw.connect("s", v5=True)).read()
            one.send(raw.subscribe(1, ("private/#", 0), v5=True))
            packets = [one.read(), one.read()]
            return next(packet for packet in packets if packet[0] >> 4 == 3)

    heard = await asyncio.to_thread(hear)
    assert user in heard
    assert b"\x03" + raw.text("text/plain") in heard
    assert b"\x08" + raw.text("r/t") in heard
    assert b"\x02\0\0\x0e" in heard  # what is left of an hour
    assert b'"rewrapped":true' in heard


UNREADABLE = {"private/a": "not a sealed message"}
FOREIGN = {
    "a sealed one": (
        sealed(b"newer", "private/a", key=NEW, then=THEN + 9),
        ResealingOutcome(resealed=1, changed=1, complete=True),
    ),
    # Put back, and re-sealed as itself then.
    "one of an older key": (
        sealed(b"newer", "private/a", then=THEN + 9),
        ResealingOutcome(resealed=2, complete=True),
    ),
    "a plain one": (b"newer", ResealingOutcome(resealed=1, unreadable=UNREADABLE, complete=True)),
    "the topic is cleared": (b"", ResealingOutcome(resealed=1, complete=True)),
}


@pytest.mark.parametrize(("message", "expected"), FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("times", [1, 3])
async def test_a_newer_message_of_somebody_else_stands(bench, message, expected, times):
    """It reaches the bus after ours was made and before it is there: ours would overwrite it."""
    await bench.retain(a=sealed(b"older", "private/a"), b=sealed(b"b", "private/b"))
    somebody = await bench.client("somebody")
    left = times

    async def interfere(topic: str, payload: bytes) -> None:
        nonlocal left
        if topic == "private/a" and left:
            left -= 1
            await somebody.publish("private/a", b"never seen %d" % left if left else message, retain=True)

    bench.before_publish = interfere
    outcome = await bench.reseal()
    somebody.close()
    assert (left, outcome) == (0, expected)
    found = await retained(bench)
    assert opened(found["private/b"].payload) == b"b"
    if not message:
        assert "private/a" not in found
    elif message == b"newer":
        assert found["private/a"].payload == b"newer"
    else:
        envelope = read_envelope(found["private/a"].payload)
        assert (envelope.key_id, envelope.timestamp, envelope.rewrapped) == ("k2", THEN + 9, True)
        assert opened(found["private/a"].payload) == b"newer"


async def interfered(bench, *messages, of="", too_large=()):
    """The outcome, when each of these comes before one more message of ours, on any topic or `of` one.

    `too_large` are payloads, or topics, that the bus does not take from us.
    """
    somebody = await bench.client("somebody")
    waiting = list(messages)

    async def interfere(topic: str, payload: bytes) -> None:
        if payload in too_large or topic in too_large:
            raise PacketTooLarge("longer than the bus takes")
        if waiting and topic.startswith(of):
            await somebody.publish(topic, waiting.pop(0), retain=True)

    bench.before_publish = interfere
    outcome = await bench.reseal()
    somebody.close()
    return outcome


async def test_a_newer_message_that_is_too_long_is_not_cleared_and_said_to_be_lost(bench):
    await bench.retain(a=sealed(b"older", "private/a"))
    outcome = await interfered(bench, sealed(b"x" * 800_000, "private/a", key=NEW))
    assert (outcome.changed, outcome.left, outcome.lost, outcome.complete) == (0, 0, 1, True)
    assert "overwritten here" in outcome.unreadable["private/a"]
    assert opened((await retained(bench))["private/a"].payload) == b"older"


async def test_a_newer_message_that_the_bus_does_not_take_from_us_is_said_to_be_lost(bench):
    """Of an MQTT 3.1.1 publisher: in MQTT 5 its packet is a byte longer."""
    await bench.retain(a=sealed(b"older", "private/a"), b=sealed(b"b", "private/b"))
    newer = sealed(b"newer", "private/a", key=NEW)
    outcome = await interfered(
        bench, newer, of="private/a", too_large={newer, newer[:-1] + b',"rewrapped":true}'}
    )
    assert (outcome.resealed, outcome.changed, outcome.lost, outcome.complete) == (1, 0, 1, True)
    assert opened((await retained(bench))["private/a"].payload) == b"older"


async def test_a_message_that_is_too_long_to_be_resealed_is_left_under_its_older_key(bench):
    await bench.retain(a=sealed(b"a", "private/a"), b=sealed(b"b", "private/b"))
    outcome = await interfered(bench, too_large={"private/a"})
    assert (outcome.resealed, outcome.left, outcome.lost, outcome.complete) == (1, 1, 0, True)
    assert "raise max_packet_size" in outcome.unreadable["private/a"]
    assert read_envelope((await retained(bench))["private/a"].payload).key_id == "k1"


async def test_what_came_while_a_message_could_not_be_put_back_stands(bench):
    """Sent only after a wait, it may find that one more message came meanwhile."""
    await bench.retain(a=sealed(b"older", "private/a"))
    newer, newest = (sealed(one, "private/a", key=NEW) for one in (b"newer", b"newest"))
    somebody = await bench.client("somebody")
    shown = asyncio.Event()

    def see(delivery: Delivery) -> list[Delivery]:
        if delivery.payload == newest:
            shown.set()
        return [delivery]

    bench.on_delivery = see
    count = 0

    async def interfere(topic: str, payload: bytes) -> None:
        nonlocal count
        count += 1
        if count == 1:
            await somebody.publish(topic, newer, retain=True)
        elif count == 2:
            await somebody.publish(topic, newest, retain=True)
            await shown.wait()
            raise PacketTooLarge("longer than the bus takes")

    bench.before_publish = interfere
    outcome = await bench.reseal()
    somebody.close()
    assert (outcome, count) == (ResealingOutcome(changed=1, complete=True), 2)
    assert (await retained(bench))["private/a"].payload == newest


async def test_what_came_right_after_ours_is_not_overwritten_by_what_came_before_it(bench):
    await bench.retain(a=sealed(b"older", "private/a"))
    newer, newest = (sealed(one, "private/a", key=NEW) for one in (b"newer", b"newest"))
    somebody, ours, held = await bench.client("somebody"), [], []
    echoed = asyncio.Event()

    def see(delivery: Delivery) -> list[Delivery]:
        """Ours and the newest come in one read."""
        if ours and delivery.payload == ours[0]:
            held.append(delivery)
            echoed.set()
            return []
        return [*held, delivery] if delivery.payload == newest else [delivery]

    async def publish_the_newest() -> None:
        await echoed.wait()
        await somebody.publish("private/a", newest, retain=True)

    async def interfere(topic: str, payload: bytes) -> None:
        if not ours:
            ours.append(payload)
            await somebody.publish(topic, newer, retain=True)

    bench.before_publish, bench.on_delivery = interfere, see
    async with beside(publish_the_newest()):
        outcome = await bench.reseal()
    somebody.close()
    assert outcome == ResealingOutcome(changed=1, complete=True)
    assert (await retained(bench))["private/a"].payload == newest


async def test_a_newer_message_that_its_mark_makes_too_long_is_put_back_without(bench):
    await bench.retain(a=sealed(b"older", "private/a"))
    newer = sealed(b"newer", "private/a", key=NEW)
    outcome = await interfered(bench, newer, too_large={newer[:-1] + b',"rewrapped":true}'})
    assert (outcome.changed, outcome.unreadable) == (1, {})
    assert (await retained(bench))["private/a"].payload == newer


async def test_what_replaces_an_unreadable_message_is_resealed(bench):
    await bench.retain(a=b"plain", b=sealed(b"b", "private/b"))
    somebody = await bench.client("somebody")

    async def interfere(topic: str, payload: bytes) -> None:
        if topic == "private/b":
            await somebody.publish("private/a", sealed(b"now", "private/a"), retain=True)

    bench.before_publish = interfere
    outcome = await bench.reseal()
    somebody.close()
    assert outcome == ResealingOutcome(resealed=2, complete=True)
    assert read_envelope((await retained(bench))["private/a"].payload).key_id == "k2"


async def test_what_is_not_retained_is_not_made_so(bench):
    await bench.retain(a=sealed(b"kept", "private/a"))
    somebody = await bench.client("somebody")

    async def interfere(topic: str, payload: bytes) -> None:
        await somebody.publish("private/a", sealed(b"live", "private/a", key=NEW), retain=False)

    bench.before_publish = interfere
    outcome = await bench.reseal()
    somebody.close()
    assert (outcome.resealed, outcome.changed) == (1, 0)
    assert opened((await retained(bench))["private/a"].payload) == b"kept"


async def test_among_busy_publishers_the_last_message_stands(bench):
    names = [f"{n}" for n in range(40)]
    await bench.retain(**{name: sealed(b"0", f"private/{name}") for name in names})
    last: dict[str, bytes] = {}
    stop = asyncio.Event()

    async def publish(number: int) -> None:
        client = await bench.client(f"busy-{number}")
        count = 0
        while not stop.is_set() or count < 20:
            count += 1
            for name in names[number::4]:
                last[name] = b"%d" % count
                key = OLD if count % 3 == 0 else NEW
                await client.publish(
                    f"private/{name}", sealed(last[name], f"private/{name}", key=key), retain=True
                )
        client.close()

    async def rewrap_some() -> None:
        for _ in range(12):
            outcome = await bench.reseal()
            assert outcome.unreadable == {}
        stop.set()

    await asyncio.gather(rewrap_some(), *(publish(number) for number in range(4)))
    final = await bench.reseal()
    assert final.left == 0
    found = await retained(bench)
    assert {name: opened(found[f"private/{name}"].payload) for name in names} == last
    assert {read_envelope(heard.payload).key_id for heard in found.values()} == {"k2"}


async def test_two_at_once_do_not_quarrel(bench):
    await bench.retain(**{f"{n}": sealed(b"%d" % n, f"private/{n}") for n in range(200)})

    async def other(handler: Handler) -> BusConnection:
        return await connect(
            bench.bus, Account("/test/other", None, None), handler, max_size=1_000_000, backlog=1 << 40
        )

    outcomes = await asyncio.gather(
        bench.reseal(), reseal_retained(other, ring(), ["private/#"], end_topic="gateway/rewrap/other")
    )
    assert all(outcome.left == 0 for outcome in outcomes)
    found = await retained(bench)
    assert {opened(heard.payload) for heard in found.values()} == {b"%d" % n for n in range(200)}


async def test_a_bus_that_does_not_tell_retained_from_live(bench):
    async def old(handler: Handler) -> BusConnection:
        return await connect(bench.bus, Account("/t", None, None), handler, max_size=1_000, v5=False)

    with pytest.raises(BusError, match=r"3\.1\.1"):
        await reseal_retained(old, ring(), ["private/#"], end_topic="m")


async def test_nothing_sensitive_is_nothing_to_do(bench):
    outcome = await reseal_retained(bench.open, ring(), [], end_topic="m")
    assert outcome == ResealingOutcome(complete=True)


async def test_the_bus_goes_away(bench, mosquitto):
    await bench.retain(**{f"{n}": sealed(b"1", f"private/{n}") for n in range(50)})

    published = []

    async def stop(topic: str, payload: bytes) -> None:
        published.append(topic)
        if len(published) == 30:
            mosquitto.kill()

    bench.before_publish = stop
    with pytest.raises(BusError):
        await bench.reseal()
