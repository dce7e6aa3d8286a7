"""The advisories of autumn 2026 about other brokers, tried on this gateway: each test names its own.

CVE-2026-95842, -57216, -95848 and those of tokens have files of their own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from harness import raw
from harness.device import Device, join, spy
from harness.enrol import enrol
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.policy.engine.identity import is_device_id

MIB = 1 << 20
OWN = """description = "Its own places, however they are named, and a drawer that is sealed."
[[allow]]
actions = ["publish", "subscribe"]
topics = ["of/{device}/#", "of/{client}/#", "devices/{device}/private/#"]
"""
both_versions = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Gateway]]:
    folder = tmp_path_factory.mktemp("autumn")
    bus = Mosquitto(folder / "bus").start()
    gateway = Gateway(folder / "gateway", bus.port)
    gateway.write_policy("roles/own.toml", OWN)
    try:
        gateway.start()
        enrol(gateway, full="full", bad="full", owner="own", reader="full", reader2="full", Owner="own")
        yield bus, gateway
        assert [line for line in gateway.log_lines() if line["event"] == "internal error"] == []
    finally:
        gateway.kill()
        bus.kill()


def serves(gateway: Gateway) -> None:
    with join(gateway, "full", "serves", v5=True) as one:
        assert one.subscribe("served") == [1]
        assert one.publish("served", b"yes") == 0
        assert one.message().payload == b"yes"


# Moquette

WILD = ("+", "#", "own+", "owner/#", "+/owner", "$share/g/owner", "owner\0", "owner/", "/owner", "ow*")


@pytest.mark.parametrize("name", WILD)
def test_moquette_85724_a_wildcard_in_an_identity(house: tuple[Mosquitto, Gateway], name: str) -> None:
    """No such device can be, and as a user name it is one that nobody knows, whatever the secret."""
    _, gateway = house
    assert not is_device_id(name)
    with Device(gateway, v5=True) as one:
        connack = one.connect(client_id="#", username=name, password=gateway.secrets["owner"])
        assert connack[3:4] in (b"\x87", b"\x9f", b"")
        assert one.read() == b""


FORBIDDEN = ("other", "of/other/x", "$SYS/x", "gateway/auth", "of/owner/+", "of/#", "$share/g/of/owner/x", "")


@both_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_moquette_95846_and_85058_a_will_without_the_right_to_publish(
    house: tuple[Mosquitto, Gateway], v5: bool, qos: int
) -> None:
    """Neither at the CONNECT nor when the connection breaks, retained or not, delayed or not."""
    bus, gateway = house
    with spy(bus.port) as listener:
        for number, topic in enumerate(FORBIDDEN):
            with Device(gateway, v5=v5) as one:
                connack = one.connect(
                    client_id=f"w{number}",
                    username="owner",
                    password=gateway.secrets["owner"],
                    will=(topic, b"will", qos, number % 2 == 0),
                    will_props=b"\x18\0\0\0\1" if v5 and number % 3 == 0 else b"",
                )
                assert connack == b"" or connack[3] > 0, topic
        with join(gateway, "owner", v5=v5, will=("of/owner/gone", b"allowed", qos, False)):
            pass
        assert [message.payload for message in listener.messages(0.3)] == [b"allowed"]


MALFORMED = (
    "$share",
    "$share/",
    "$share//a",
    "$share/g/",
    "$share/g",
    "$share/+/a",
    "$share/#",
    "$share/g#/a",
)


@both_versions
@pytest.mark.parametrize("topic_filter", MALFORMED)
@pytest.mark.parametrize("unsubscribe", [False, True], ids=["subscribe", "unsubscribe"])
def test_moquette_95843_a_malformed_share(
    house: tuple[Mosquitto, Gateway], v5: bool, topic_filter: str, unsubscribe: bool
) -> None:
    """It ends its sender's connection, or is refused; nothing is delivered by it, and others are served."""
    _, gateway = house
    with join(gateway, "full", "beside") as beside, join(gateway, "bad", v5=v5) as one:
        beside.subscribe("a", "g")
        if unsubscribe:
            one.send(raw.unsubscribe(1, topic_filter, v5=v5))
        else:
            one.send(raw.subscribe(1, (topic_filter, 1), v5=v5))
        answers = one.read_all(0.1)
        assert answers[-1] == b"" or answers[-1][-1] >= 0x80, answers
        for topic in ("a", "g"):
            beside.publish(topic, b"to beside")
        assert [message.payload for message in beside.messages(0.1)] == [b"to beside"] * 2
        with contextlib.suppress(TimeoutError):
            assert one.read(0.1) == b""


DEEP = 200
"""Mosquitto's own bound; above it both end the connection: see CVE-2019-11779 in `test_advisories`."""


@both_versions
def test_moquette_95844_deep_topics_recurse(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    """As deep as may be, in both directions, with wildcards at every level, retained and as a will."""
    bus, gateway = house
    deep = "/".join("d" * DEEP)
    with (
        join(gateway, "full", "deep", v5=v5, will=(deep, b"", 0, False)) as one,
        Device(bus.port) as talker,
    ):
        talker.connect(client_id="talker")
        assert one.subscribe("/".join("+" * DEEP), "d/" * (DEEP - 1) + "#", "$share/g/" + deep[4:]) == [
            1,
            1,
            1,
        ]
        assert one.publish(deep, b"own", retain=True) == 0
        talker.publish(deep, b"theirs")
        assert {message.payload for message in one.messages(0.2)} == {b"own", b"theirs"}
        assert one.publish(deep, b"", retain=True) == 0
    serves(gateway)


def dropped_deliveries(gateway: Gateway) -> str:
    lines = gateway.health("/metrics")[1].splitlines()
    (line,) = [line for line in lines if line.startswith("gateway_deliveries_dropped_total ")]
    return line


def test_moquette_95845_a_hundred_readers_that_stop_reading(house: tuple[Mosquitto, Gateway]) -> None:
    """What they do not take is not gathered: neither in one process nor once for each of them."""
    bus, gateway = house
    with contextlib.ExitStack() as stack:
        for number in range(100):
            device = ("reader", "reader2")[number % 2]
            deaf = stack.enter_context(join(gateway, device, f"deaf-{number}", v5=number % 3 == 0))
            assert deaf.subscribe("flood/#", qos=0) == [0]
        talker = stack.enter_context(Device(bus.port))
        talker.connect(client_id="talker")
        sizes = [gateway.memory()]
        for _ in range(2):
            for _ in range(60):
                # 5 MB for each, and a gigabyte in all.
                talker.send(raw.publish("flood/a", bytes(87_000)))
            talker.barrier()
            serves(gateway)
            before = ""
            while (dropped := dropped_deliveries(gateway)) != before:  # until it has read all of that
                before = dropped
                time.sleep(1.2)
            sizes.append(gateway.memory())
        # What is in the buffers of each when it stops; from then on nothing.
        assert sizes[1] - sizes[0] < 200 * MIB, sizes
        assert sizes[2] - sizes[1] < 16 * MIB, sizes


LIKE = ("a", "A", "a/", "/a", "a:b", "a_b", "a%2Fb", "a/b", "a\\b", "\uff41", "\u0430", "\u00e9", "e\u0301")


def test_moquette_95847_client_ids_that_collide_as_storage_names(house: tuple[Mosquitto, Gateway]) -> None:
    """Separators, case, look-alikes, composed or not, of two devices whose names differ in case alone."""
    bus, gateway = house
    lasting = b"\x11\0\0\0\x3c"
    people = [(device, client_id) for device in ("owner", "Owner") for client_id in LIKE]
    for number, (device, client_id) in enumerate(people):
        with join(gateway, device, client_id, v5=True, clean=True, props=lasting) as one:
            assert one.subscribe(f"of/{device}/{number}") == [1]
            one.barrier()
    with Device(bus.port) as talker:
        talker.connect(client_id="talker")
        for number, (device, _) in enumerate(people):
            talker.publish(f"of/{device}/{number}", b"%d" % number)
    for number, (device, client_id) in enumerate(people):
        with Device(gateway, v5=True) as one:
            connack = one.connect(
                client_id=client_id,
                username=device,
                password=gateway.secrets[device],
                clean=False,
                props=b"\x11\0\0\0\0",
            )
            assert connack[2:4] == b"\x01\x00"
            assert one.message().payload == b"%d" % number
            one.barrier()
            assert one.inbox == []


# NATS


@both_versions
def test_nats_58214_an_internal_prefix_bypasses_the_rules(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    """Who may do everything reaches nothing below the prefix; what only looks like it is a topic."""
    bus, gateway = house
    no = 0x87 if v5 else 0x80
    inside = ("gateway/auth", "gateway/x", "gateway/auth/x", "gateway", "gateway/", "gateway/reply/full/x")
    with join(gateway, "full", v5=v5) as one, Device(bus.port) as talker:
        denied = ("gateway/#", "gateway/+", "$share/x/gateway/#", "gateway/+/x", "gateway", "gateway/auth")
        assert one.subscribe(*denied) == [no] * len(denied)
        assert set(one.subscribe("#", "+/auth", "+/+/x", "$share/x/#", "gatewayX/#")) <= {1, no}
        talker.connect(client_id="talker")
        for topic in (*inside, "gatewayX", "gatewayX/auth"):
            talker.publish(topic, b"from the bus")
        heard = {message.topic for message in one.messages(0.3)}
        assert heard == {"gatewayX", "gatewayX/auth"}
    with spy(bus.port, "gateway/#", "gatewayX/#") as listener, join(gateway, "full", v5=v5) as one:
        for topic in inside:
            one.publish(topic, b"{}", qos=0, retain=True)
        one.publish("gatewayX/auth", b"a topic like any other")
        assert {message.topic for message in listener.messages(0.3)} == {"gatewayX/auth"}
    with join(gateway, "full", v5=v5) as one:
        one.send(raw.publish("gateway/+/x", b"x", v5=v5))
        one.ended()


# RabbitMQ

NAMES = {
    "PUBLISH": PacketTypes.PUBLISH,
    "sealed PUBLISH": PacketTypes.PUBLISH,
    "SUBSCRIBE": PacketTypes.SUBSCRIBE,
    "UNSUBSCRIBE": PacketTypes.UNSUBSCRIBE,
    "CONNECT": PacketTypes.CONNECT,
    "will": PacketTypes.WILLMESSAGE,
    "PUBACK": PacketTypes.PUBACK,
    "PUBREL": PacketTypes.PUBREL,
    "DISCONNECT": PacketTypes.DISCONNECT,
    "AUTH": PacketTypes.AUTH,
}
PRIVATE = "devices/bad/private/x"


def value_of(kind: str) -> bytes:
    return {
        "Byte": b"\1",
        "Two Byte Integer": b"\0\1",
        "Four Byte Integer": b"\0\0\0\1",
        "Variable Byte Integer": b"\1",
        "UTF-8 String Pair": raw.text("a") + raw.text("b"),
    }.get(kind, raw.text("a"))


def not_of(packet: int) -> list[bytes]:
    """Each property of MQTT 5 that may not stand in this packet, as it would stand there."""
    oracle = Properties(PacketTypes.CONNECT)
    assert len(oracle.properties) == 27
    return [
        bytes([identifier]) + value_of(oracle.types[kind])
        for identifier, (kind, packets) in oracle.properties.items()
        if packet not in packets
    ]


def sent_with(name: str, props: bytes) -> bytes:
    body = raw.properties(props)
    match name:
        case "PUBLISH":
            return raw.publish("rabbit", b"bad", v5=True, props=props)
        case "sealed PUBLISH":
            return raw.publish(PRIVATE, b"bad", v5=True, props=props)
        case "SUBSCRIBE":
            return raw.subscribe(1, ("a", 0), v5=True, props=props)
        case "UNSUBSCRIBE":
            return raw.packet(0xA2, b"\0\1" + body + raw.text("a"))
        case "PUBACK" | "PUBREL":
            return raw.packet(0x40 if name == "PUBACK" else 0x62, b"\0\1\0" + body)
        case "DISCONNECT":
            return raw.packet(0xE0, b"\4" + body)
        case _:
            return raw.packet(0xF0, b"\x19" + body)


@pytest.mark.parametrize("name", NAMES)
def test_rabbitmq_67418_a_property_where_it_may_not_stand(
    house: tuple[Mosquitto, Gateway], name: str
) -> None:
    """Who sends it is told and out; subscribers get the next message as if nothing had been."""
    bus, gateway = house
    before = refused_by(bus)
    tried = not_of(NAMES[name])
    assert len(tried) > 10
    with join(gateway, "full", "subscriber", v5=True) as subscriber:
        subscriber.subscribe("rabbit", PRIVATE)
        for number, props in enumerate(tried):
            with Device(gateway, v5=True) as one:
                me = {"client_id": "r", "username": "bad", "password": gateway.secrets["bad"]}
                if name == "CONNECT":
                    connack = one.connect(props=props, **me)
                    assert connack == b"" or connack[3] >= 0x80, props
                    continue
                if name == "will":
                    connack = one.connect(will=("rabbit", b"bad", 0, False), will_props=props, **me)
                    assert connack == b"" or connack[3] >= 0x80, props
                    continue
                assert one.connect(**me)[3] == 0
                one.send(sent_with(name, props))
                last = one.ended()
                # An AUTH that nobody began, and a DISCONNECT, get no more than the end.
                assert name in {"AUTH", "DISCONNECT", "PUBACK", "PUBREL"} or last[:1] == b"\xe0", props
                assert last[:1] != b"\xe0" or last[2] >= 0x80, props
            if number % 8 == 0:
                with join(gateway, "bad", "after", v5=True) as after:
                    assert after.publish("rabbit", b"next") == after.publish(PRIVATE, b"next") == 0
                assert [subscriber.message().payload for _ in range(2)] == [b"next"] * 2
        assert subscriber.messages(0.1) == []
    # Those with a topic in them it was the gateway that refused: the bus has not seen them.
    assert name in {"AUTH", "DISCONNECT", "PUBACK", "PUBREL"} or refused_by(bus) == before


def refused_by(bus: Mosquitto) -> int:
    """How often the bus has ended a connection of that device for what it sent."""
    lines = bus.log.read_text().splitlines()
    return sum("bad/" in line and "disconnected due to" in line for line in lines)


# NanoMQ

FIVE = b"\x80\x80\x80\x80\x01"
NOTHING_IN_FIVE = b"\x80\x80\x80\x80\0"
"""Whoever reads on has a length that fits."""


def test_nanomq_21888_a_variable_integer_of_five_bytes_inside_properties(
    house: tuple[Mosquitto, Gateway],
) -> None:
    """As the length of all properties and as a value, cut off or whole, in any packet that has some."""
    _, gateway = house
    serves(gateway)
    before = gateway.memory()
    head = raw.text("MQTT") + b"\5\2\0\x3c"
    for count in (4, 5):
        lengths = (FIVE[:count], b"\xff" * count, b"\x0b" + FIVE[:count], NOTHING_IN_FIVE)
        for length in lengths:
            body = raw.properties(length) if length[:1] == b"\x0b" else length
            with Device(gateway, v5=True) as one:
                one.send(raw.packet(0x10, head + body + raw.text("c")))
                assert one.read()[3:4] in (b"", b"\x81", b"\x82")
            for packet in (
                raw.packet(0x30, raw.text("a") + body),
                raw.packet(0x32, raw.text(PRIVATE) + b"\0\1" + body),
                raw.packet(0x82, b"\0\1" + body + raw.text("a") + b"\0"),
                raw.packet(0xA2, b"\0\1" + body + raw.text("a")),
            ):
                with join(gateway, "bad", v5=True) as one:
                    one.send(packet)
                    assert one.ended()[:1] in (b"", b"\xe0")
    assert gateway.memory() - before < 8 * MIB
    serves(gateway)


@both_versions
@pytest.mark.parametrize("client_id", ["owner", "owner/c", "+", "#", "{device}", ""])
def test_nanomq_32696_a_connect_without_credentials_where_rules_are_filled_in_with_them(
    house: tuple[Mosquitto, Gateway], v5: bool, client_id: str
) -> None:
    """{device} and {client} are never filled in for a peer that did not show who it is."""
    bus, gateway = house
    will = ("of/owner/x", b"w", 1, True)
    with spy(bus.port) as listener:
        for some in ({}, {"username": ""}, {"username": "", "password": ""}, {"username": "owner"}):
            with Device(gateway, v5=v5) as one:
                one.send(raw.connect(client_id, v5=v5, will=will, **some))
                one.send(raw.publish("of/owner/x", b"x", v5=v5), raw.publish("of//x", b"x", v5=v5))
                connack = one.read()
                assert connack[3] == (0x87 if v5 else 5)
                assert one.read() == b""
        assert listener.messages(0.1) == []
    serves(gateway)
