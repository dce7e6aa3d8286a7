"""From bytes to packets, as strict as the standard.

Each function gets the bytes, and where the packet's body starts and ends. It raises MalformedPacket
or ProtocolError, LimitExceeded for a packet of more parts than we take, and nothing else.
"""

from __future__ import annotations

from gateway.mqtt.errors import LimitExceeded, MalformedPacket, MqttError, ProtocolError
from gateway.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
    Version,
    Will,
)
from gateway.mqtt.properties import (
    IN_AUTH,
    IN_CONNACK,
    IN_CONNECT,
    IN_DISCONNECT,
    IN_PUBLISH,
    IN_SUBSCRIBE,
    IN_UNSUBSCRIBE,
    IN_WILL,
    Property,
    PropertyId,
    find,
    find_number,
    read_properties,
)
from gateway.mqtt.reasons import Reason
from gateway.mqtt.wire import Reader, decode_utf8

NO_PROPERTIES: list[Property] = []
"""Shared by all packets without properties. Never appended to."""
FILTERS_MAX = 4_096
"""Most topic filters of a packet. To judge one costs 9 µs, and 16 MiB could bring four million."""
_CONNECT_PROPERTIES_MAX = 256
"""Most properties of a CONNECT, and as many of its will: whoever sends it is not known yet."""


class UnsupportedVersion(MqttError):
    """A protocol level other than 4 and 5 [MQTT-3.1.2-2]."""

    reason = Reason.UNSUPPORTED_PROTOCOL_VERSION


class NotMqtt(MalformedPacket):
    """The first bytes are no CONNECT with the name MQTT: closed without an answer [MQTT-3.1.2-1]."""


def decode_connect(data: bytes, pos: int, end: int) -> Connect:
    """A CONNECT's body (MQTT 5, 3.1)."""
    reader = Reader(data, pos, end)
    name = reader.binary()
    if name not in (b"MQTT", b"MQIsdp"):
        raise NotMqtt("the protocol name is not MQTT")
    level = reader.byte()
    if name == b"MQIsdp" or level not in (4, 5):
        raise UnsupportedVersion("only MQTT 3.1.1 and MQTT 5 are spoken here")
    version = Version(level)
    flags = reader.byte()
    if flags & 0x01:
        raise MalformedPacket("the reserved flag of CONNECT is set")  # [MQTT-3.1.2-3]
    has_will = bool(flags & 0x04)
    if (not has_will and flags & 0x38) or flags & 0x18 == 0x18:
        raise MalformedPacket("impossible will flags")  # [MQTT-3.1.2-11 to -15]
    if version is Version.V311 and flags & 0xC0 == 0x40:
        raise MalformedPacket("a password without a user name")  # [MQTT-3.1.2-22] of 3.1.1
    keep_alive = reader.two_bytes()
    properties = (
        read_properties(reader, IN_CONNECT, _CONNECT_PROPERTIES_MAX)
        if version is Version.V5
        else NO_PROPERTIES
    )
    client_id = reader.binary()
    decode_utf8(client_id)
    will = _decode_will(reader, flags, version) if has_will else None
    username = reader.binary() if flags & 0x80 else None
    if username is not None:
        decode_utf8(username)
    password = reader.binary() if flags & 0x40 else None
    if reader.left:
        raise MalformedPacket("bytes behind the end of CONNECT")
    return Connect(
        version=version,
        clean_start=bool(flags & 0x02),
        keep_alive=keep_alive,
        client_id=client_id,
        username=username,
        password=password,
        will=will,
        properties=properties,
    )


def _decode_will(reader: Reader, flags: int, version: Version) -> Will:
    properties = (
        read_properties(reader, IN_WILL, _CONNECT_PROPERTIES_MAX) if version is Version.V5 else NO_PROPERTIES
    )
    topic = reader.binary()
    payload = reader.binary()
    return Will(topic, payload, flags >> 3 & 3, bool(flags & 0x20), properties)


def decode_connack(data: bytes, pos: int, end: int, version: Version) -> Connack:
    """A CONNACK's body (MQTT 5, 3.2). An answer in the form of 3.1.1 to a v5 CONNECT is read too."""
    reader = Reader(data, pos, end)
    flags = reader.byte()
    code = reader.byte()
    properties = NO_PROPERTIES
    if version is Version.V5 and reader.left:
        properties = read_properties(reader, IN_CONNACK)
    if reader.left or flags & 0xFE:
        raise MalformedPacket("a CONNACK that is none")
    return Connack(bool(flags), code, properties)


def decode_publish(data: bytes, pos: int, body: int, end: int, version: Version) -> Publish:
    """A PUBLISH (MQTT 5, 3.3) whose first byte is at `pos` and whose body starts at `body`."""
    first = data[pos]
    qos = first >> 1 & 3
    if qos == 3:
        raise MalformedPacket("QoS 3")  # [MQTT-3.3.1-4]
    at = body + 2
    if at > end:
        raise MalformedPacket("a PUBLISH without a topic")
    at += data[body] << 8 | data[body + 1]
    topic = data[body + 2 : at]
    packet_id = 0
    if qos:
        at += 2
        if at > end:
            raise MalformedPacket("a PUBLISH ends inside its header")
        packet_id = data[at - 2] << 8 | data[at - 1]
        if packet_id == 0:
            raise ProtocolError("packet identifier 0")  # [MQTT-2.2.1-3]
    if at > end:
        raise MalformedPacket("a PUBLISH ends inside its topic")
    properties = NO_PROPERTIES
    if version is Version.V5:
        reader = Reader(data, at, end)
        properties = read_properties(reader, IN_PUBLISH)
        at = reader.pos
    return Publish(first, topic, packet_id, properties, at)


def decode_subscribe(data: bytes, pos: int, end: int, version: Version) -> Subscribe:
    """A SUBSCRIBE's body (MQTT 5, 3.8)."""
    reader = Reader(data, pos, end)
    packet_id, properties = _read_head(reader, IN_SUBSCRIBE, version)
    # 3.1.1 knows the two QoS bits only; v5 reserves the two upper ones [MQTT-3.8.3-5].
    reserved = 0xC0 if version is Version.V5 else 0xFC
    subscriptions: list[Subscription] = []
    while reader.left:
        text = reader.binary()
        options = reader.byte()
        if options & reserved or options & 3 == 3 or options & 0x30 == 0x30:
            raise MalformedPacket("impossible subscription options")
        _count_filter(len(subscriptions))
        subscriptions.append(Subscription(text, options))
    if not subscriptions:
        raise MalformedPacket("a SUBSCRIBE without a topic filter")  # [MQTT-3.8.3-2]
    return Subscribe(packet_id, properties, subscriptions)


def decode_unsubscribe(data: bytes, pos: int, end: int, version: Version) -> Unsubscribe:
    """An UNSUBSCRIBE's body (MQTT 5, 3.10)."""
    reader = Reader(data, pos, end)
    packet_id, properties = _read_head(reader, IN_UNSUBSCRIBE, version)
    filters: list[bytes] = []
    while reader.left:
        filters.append(reader.binary())
        _count_filter(len(filters))
    if not filters:
        raise MalformedPacket("an UNSUBSCRIBE without a topic filter")  # [MQTT-3.10.3-2]
    return Unsubscribe(packet_id, properties, filters)


def decode_auth(data: bytes, pos: int, end: int) -> Auth:
    """An AUTH's body (MQTT 5, 3.15.2). An empty one means success and nothing more."""
    if pos == end:
        return Auth(Reason.SUCCESS, None, b"")
    reader = Reader(data, pos, end)
    code = reader.byte()
    properties = read_properties(reader, IN_AUTH)
    if reader.left:
        raise MalformedPacket("bytes behind an AUTH")
    method = find(properties, PropertyId.AUTHENTICATION_METHOD)
    return Auth(code, method, find(properties, PropertyId.AUTHENTICATION_DATA) or b"")


def decode_disconnect(data: bytes, pos: int, end: int) -> int | None:
    """The Session Expiry Interval of a client's DISCONNECT (MQTT 5, 3.14.2.2.2); None when it names none."""
    reader = Reader(data, pos, end)
    if reader.left < 2:
        return None
    reader.byte()
    properties = read_properties(reader, IN_DISCONNECT)
    if reader.left:
        raise MalformedPacket("bytes behind a DISCONNECT")
    interval = find_number(properties, PropertyId.SESSION_EXPIRY_INTERVAL, -1)
    return None if interval < 0 else interval


def _count_filter(count: int) -> None:
    if count > FILTERS_MAX:
        raise LimitExceeded("more topic filters than a packet may have here")


def _read_head(reader: Reader, allowed: frozenset[int], version: Version) -> tuple[int, list[Property]]:
    """What opens SUBSCRIBE and UNSUBSCRIBE, where Mosquitto calls every fault malformed."""
    try:
        packet_id = _nonzero(reader.two_bytes())
        return packet_id, read_properties(reader, allowed) if version is Version.V5 else NO_PROPERTIES
    except ProtocolError as error:
        raise MalformedPacket(str(error)) from None


def decode_packet_id(data: bytes, pos: int, end: int) -> int:
    """The packet identifier that opens the body of an acknowledgement."""
    return _nonzero(Reader(data, pos, end).two_bytes())


def _nonzero(packet_id: int) -> int:
    if packet_id == 0:
        raise ProtocolError("packet identifier 0")
    return packet_id
