"""The client libraries people use, over TLS: paho-mqtt and aiomqtt, both versions, every QoS."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from contextlib import contextmanager

import aiomqtt
import paho.mqtt.client as paho
import pytest
from harness import raw
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from harness.raw import Raw
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE = 10.0
SENSITIVE = "devices/lamp-1/private/pin"

World = tuple[Mosquitto, Gateway]
both_versions = pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5], ids=["3.1.1", "5"])
every_qos = pytest.mark.parametrize("qos", [0, 1, 2])


@pytest.fixture(scope="module")
def device(world: World) -> str:
    """The secret of a device that may do everything."""
    return world[1].add_device("lib")


class Paho:
    """A paho client with its messages in a queue."""

    def __init__(
        self, gateway: Gateway, client_id: str, version: int, will: tuple[str, bytes] | None = None
    ) -> None:
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self._subscribed: queue.Queue[list[object]] = queue.Queue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=version)
        self.client.tls_set(str(gateway.ca))
        self.client.username_pw_set("lib", gateway.secrets["lib"])
        self.client.on_message = lambda _client, _userdata, message: self.messages.put(message)
        self.client.on_subscribe = lambda _client, _userdata, _mid, codes, _props: self._subscribed.put(codes)
        if will is not None:
            self.client.will_set(*will, qos=1)
        self.client.connect("localhost", gateway.port)
        self.client.loop_start()

    def subscribe(self, topic: str, qos: int) -> None:
        """Subscribe, and wait for the SUBACK."""
        self.client.subscribe(topic, qos)
        (code,) = self._subscribed.get(timeout=PATIENCE)
        assert code == qos

    def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        """Publish, and wait until the handshake is done."""
        info = self.client.publish(topic, payload, qos, retain)
        info.wait_for_publish(PATIENCE)
        assert info.is_published()

    def next(self) -> paho.MQTTMessage:
        """The next message."""
        return self.messages.get(timeout=PATIENCE)


@contextmanager
def connected(*clients: Paho) -> Iterator[None]:
    """Disconnect them at the end."""
    try:
        yield
    finally:
        for one in clients:
            one.client.disconnect()
            one.client.loop_stop()


@both_versions
@every_qos
@pytest.mark.usefixtures("device")
def test_paho_sends_and_hears(world: World, version: int, qos: int) -> None:
    reader, writer = (Paho(world[1], f"{name}-{version}-{qos}", version) for name in ("reader", "writer"))
    with connected(reader, writer):
        reader.subscribe(f"paho/{version}/{qos}", qos)
        for number in range(5):
            writer.publish(f"paho/{version}/{qos}", b"%d" % number, qos)
        heard = [reader.next() for _ in range(5)]
        assert [(one.payload, one.qos, one.retain) for one in heard] == [
            (b"%d" % number, qos, False) for number in range(5)
        ]


@both_versions
@every_qos
@pytest.mark.usefixtures("device")
def test_paho_on_a_sensitive_topic(world: World, version: int, qos: int) -> None:
    bus, gateway = world
    reader, writer = (Paho(gateway, f"{name}-{version}-{qos}", version) for name in ("reader", "writer"))
    with connected(reader, writer), Raw(bus.port) as spy:
        spy.send(raw.connect("spy"), raw.subscribe(1, (SENSITIVE, 0)))
        assert [spy.read()[0], spy.read()[0]] == [0x20, 0x90]
        reader.subscribe(SENSITIVE, qos)
        writer.publish(SENSITIVE, b"4711", qos)
        assert reader.next().payload == b"4711"
        sealed = spy.read(PATIENCE)
        assert b"AES-256-GCM" in sealed
        assert b"4711" not in sealed


@both_versions
@pytest.mark.usefixtures("device")
def test_paho_retained_and_will(world: World, version: int) -> None:
    gateway = world[1]
    topic = f"paho/{version}/kept"
    writer = Paho(gateway, f"writer-{version}", version, will=(f"{topic}/will", b"gone"))
    reader = Paho(gateway, f"reader-{version}", version)
    with connected(reader):
        writer.publish(topic, b"kept", 1, retain=True)
        reader.subscribe(f"{topic}/#", 1)
        kept = reader.next()
        assert (kept.payload, kept.retain) == (b"kept", True)
        # Without a DISCONNECT: the connection is closed below the client.
        writer.client.loop_stop()
        writer.client.socket().close()
        assert reader.next().payload == b"gone"
        reader.publish(topic, b"", 1, retain=True)


@pytest.mark.usefixtures("device")
def test_paho_properties_of_mqtt_5(world: World) -> None:
    reader, writer = (Paho(world[1], f"props-{name}", paho.MQTTv5) for name in ("reader", "writer"))
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = [("b", "2"), ("a", "1"), ("b", "2")]
    properties.ResponseTopic = "paho/reply"
    properties.CorrelationData = b"\xff\x00"
    properties.ContentType = "text/plain"
    with connected(reader, writer):
        reader.subscribe("paho/properties", 1)
        writer.client.publish("paho/properties", b"x", 1, properties=properties)
        heard = reader.next().properties
        assert heard.UserProperty == properties.UserProperty
        assert (heard.ResponseTopic, heard.CorrelationData) == ("paho/reply", b"\xff\x00")
        assert heard.ContentType == "text/plain"


def aio(gateway: Gateway, client_id: str, version: aiomqtt.ProtocolVersion, **more: object) -> aiomqtt.Client:
    """An aiomqtt client."""
    return aiomqtt.Client(
        "localhost",
        gateway.port,
        username="lib",
        password=gateway.secrets["lib"],
        identifier=client_id,
        protocol=version,
        tls_context=gateway.tls(),
        timeout=PATIENCE,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "version", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5], ids=["3.1.1", "5"]
)
@every_qos
@pytest.mark.usefixtures("device")
async def test_aiomqtt_sends_and_hears(world: World, version: aiomqtt.ProtocolVersion, qos: int) -> None:
    gateway = world[1]
    topic = f"aio/{version.name}/{qos}"
    will = aiomqtt.Will(f"{topic}/will", b"gone", qos=qos)
    async with aio(gateway, "aio-reader", version) as reader:
        await reader.subscribe(f"{topic}/#", qos=qos)
        await reader.subscribe(SENSITIVE, qos=qos)
        async with aio(gateway, "aio-writer", version, will=will) as writer:
            await writer.publish(f"{topic}/plain", b"hello", qos=qos)
            await writer.publish(SENSITIVE, b"4711", qos=qos)
            # Acknowledged whatever the QoS: the bus has it before the late reader asks for it.
            await writer.publish(f"{topic}/kept", b"kept", qos=max(qos, 1), retain=True)
            async with asyncio.timeout(PATIENCE), aio(gateway, "aio-late", version) as late:
                await late.subscribe(f"{topic}/kept", qos=qos)
                async for message in late.messages:
                    assert (message.payload, message.retain) == (b"kept", True)
                    break
                await late.publish(f"{topic}/kept", b"", qos=qos, retain=True)
        heard: dict[str, list[object]] = {}
        async with asyncio.timeout(PATIENCE):
            async for message in reader.messages:
                heard.setdefault(str(message.topic), []).append(message.payload)
                if sum(map(len, heard.values())) == 4:
                    break
    # The writer said goodbye: no will.
    assert heard == {f"{topic}/plain": [b"hello"], SENSITIVE: [b"4711"], f"{topic}/kept": [b"kept", b""]}


@pytest.mark.usefixtures("device")
async def test_aiomqtt_is_told_that_the_secret_is_wrong(world: World) -> None:
    gateway = world[1]
    client = aiomqtt.Client(
        "localhost", gateway.port, username="lib", password="wrong", tls_context=gateway.tls()
    )
    with pytest.raises(aiomqtt.MqttError, match=r"(?i)not authori[sz]ed"):
        async with client:
            pytest.fail("a wrong secret opens nothing")
