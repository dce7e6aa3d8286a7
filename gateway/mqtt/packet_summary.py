"""What a trace shows of a packet: its header, and never a payload or a secret.

Must not know what is decided about it. Of each packet only the beginning is kept, as many bytes as the
longest header has, and read as far as it goes. Of a malformed packet only the fault is shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.mqtt.data_types import Reader, read_length
from gateway.mqtt.decode import decode_publish, decode_subscribe, decode_unsubscribe
from gateway.mqtt.errors import MqttError
from gateway.mqtt.packets import Connect, PacketType, Publish, Version, Will
from gateway.mqtt.properties import Property, PropertyId, find, find_number

HEAD_BYTES_MAX = 65_536 + 512
"""Bytes of a packet that are kept, at most: a topic has up to 65,535."""
TEXT_MAX = 1_024
"""Characters of a topic, a topic filter or a client id that are shown, at most."""
_FILTERS_MAX = 32
"""Topic filters, codes or properties of a packet that are shown, at most."""
_CODE_AT = {
    PacketType.PUBACK: 2,
    PacketType.PUBREC: 2,
    PacketType.PUBREL: 2,
    PacketType.PUBCOMP: 2,
    PacketType.DISCONNECT: 0,
    PacketType.AUTH: 0,
}
"""Where the reason code stands in the body of an MQTT 5 packet, if it is there."""
_NUMBERED = frozenset(
    {
        PacketType.PUBACK,
        PacketType.PUBREC,
        PacketType.PUBREL,
        PacketType.PUBCOMP,
        PacketType.SUBACK,
        PacketType.UNSUBACK,
    }
)
"""Packet types whose body begins with a packet identifier, beside PUBLISH and (UN)SUBSCRIBE."""

Shown = dict[str, object]
"""What is shown of a packet: field names and values, as they become JSON."""


class Packet:
    """One packet of a stream."""

    __slots__ = ("body", "head", "size")

    def __init__(self, head: bytes, body: int, size: int) -> None:
        self.head = head
        """Its beginning, `HEAD_BYTES_MAX` bytes at most."""
        self.body = body
        """Where its body begins."""
        self.size = size
        """Bytes of the whole packet."""

    @property
    def kind(self) -> int:
        """The upper four bits of the first byte."""
        return self.head[0] >> 4

    @property
    def fingerprint(self) -> tuple[int, bytes]:
        """To recognise a packet that passed unchanged: its size and first 256 bytes."""
        return self.size, self.head[:256]


class PacketReader:
    """Cuts a stream into packets, and keeps no more than `HEAD_BYTES_MAX` bytes of each."""

    __slots__ = ("_head", "_missing", "lost")

    def __init__(self) -> None:
        self._head = bytearray()
        self._missing = -1
        """Bytes of the packet that are still to come; -1 while its fixed header is incomplete."""
        self.lost = False
        """Whether nothing more can be read, because what came is not MQTT."""

    def feed(self, chunk: bytes) -> Iterator[Packet]:
        """The packets that end in this chunk."""
        pos, end = 0, len(chunk)
        while pos < end and not self.lost:
            if self._missing < 0:
                self._head += chunk[pos : pos + 5]
                before = len(self._head) - len(chunk[pos : pos + 5])
                try:
                    length = read_length(self._head, 1, len(self._head))
                except MqttError:
                    self.lost = True
                    return
                if length is None:
                    pos = end
                    continue
                self._missing, body = length
                del self._head[body:]
                pos += body - before
            take = min(self._missing, end - pos)
            self._head += chunk[pos : pos + min(take, max(0, HEAD_BYTES_MAX - len(self._head)))]
            self._missing -= take
            pos += take
            if not self._missing:
                yield self._whole()

    def _whole(self) -> Packet:
        head, self._head, self._missing = bytes(self._head), bytearray(), -1
        size, body = read_length(head, 1, len(head)) or (0, len(head))
        return Packet(head, body, body + size)


def shown(packet: Packet, version: Version) -> Shown:
    """The packet by its header: what it is, how long, and what it is about."""
    kind = packet.kind
    name = PacketType(kind).name if kind else "RESERVED"
    line: Shown = {"packet": name, "size": packet.size}
    try:
        if kind == PacketType.PUBLISH:
            return line | _publish(packet, publish_of(packet, version))
        if kind == PacketType.SUBSCRIBE:
            return line | _subscribe(packet, version)
        if kind == PacketType.UNSUBSCRIBE:
            return line | _unsubscribe(packet, version)
        return line | _other(packet, version)
    except MqttError as error:
        return line | {"fault": str(error)}


def publish_of(packet: Packet, version: Version) -> Publish:
    """A PUBLISH as far as its payload. Raises MqttError."""
    return decode_publish(packet.head, 0, packet.body, len(packet.head), version)


def payload_size(packet: Packet, publish: Publish) -> int:
    """Bytes of its payload."""
    return packet.size - publish.payload_at


def _publish(packet: Packet, publish: Publish) -> Shown:
    properties = publish.properties
    response = find(properties, PropertyId.RESPONSE_TOPIC)
    line: Shown = {
        "topic": text(publish.topic),
        "qos": publish.qos,
        "retain": publish.retain,
        "dup": bool(publish.first_byte & 8),
        "payload_size": payload_size(packet, publish),
    }
    if publish.qos:
        line["packet_id"] = publish.packet_id
    if alias := find_number(properties, PropertyId.TOPIC_ALIAS, 0):
        line["topic_alias"] = alias
    if response is not None:
        line["response_topic"] = text(response)
    return line | _properties(properties)


def _subscribe(packet: Packet, version: Version) -> Shown:
    if packet.size > len(packet.head):
        return {}
    subscribe = decode_subscribe(packet.head, packet.body, packet.size, version, filters_min=0)
    filters = [{"filter": text(one.filter), "qos": one.qos} for one in subscribe.subscriptions]
    return {"packet_id": subscribe.packet_id, "filters": filters[:_FILTERS_MAX], **_more(len(filters))}


def _unsubscribe(packet: Packet, version: Version) -> Shown:
    if packet.size > len(packet.head):
        return {}
    unsubscribe = decode_unsubscribe(packet.head, packet.body, packet.size, version, filters_min=0)
    filters = [{"filter": text(one)} for one in unsubscribe.filters]
    return {"packet_id": unsubscribe.packet_id, "filters": filters[:_FILTERS_MAX], **_more(len(filters))}


def _other(packet: Packet, version: Version) -> Shown:
    kind, reader = packet.kind, Reader(packet.head, packet.body, len(packet.head))
    line: Shown = {}
    if kind == PacketType.CONNACK:
        return {"session_present": bool(reader.byte()), "code": reader.byte()}
    if kind in _NUMBERED:
        line["packet_id"] = reader.two_bytes()
    if kind == PacketType.SUBACK or (kind == PacketType.UNSUBACK and version is Version.V5):
        if version is Version.V5:
            reader.raw(reader.length())  # its properties
        codes = list(reader.raw(min(reader.left, _FILTERS_MAX + 1)))
        line |= {"codes": codes[:_FILTERS_MAX], **_more(len(codes))}
    elif kind in _CODE_AT and version is Version.V5:
        line["code"] = reader.byte() if reader.left else 0
    return line


def _more(count: int) -> Shown:
    return {"more": True} if count > _FILTERS_MAX else {}


def connect_shown(connect: Connect) -> Shown:
    """A CONNECT: what it asks for, and which credentials it shows, by their kind."""
    method = find(connect.properties, PropertyId.AUTHENTICATION_METHOD)
    return {
        "packet": "CONNECT",
        "protocol": "3.1" if connect.is_mqtt31 else "5" if connect.version is Version.V5 else "3.1.1",
        "client_id": text(connect.client_id),
        "clean_start": connect.clean_start,
        "keep_alive": connect.keep_alive,
        "user_name": connect.username is not None,
        "password": connect.password is not None,
        **({"authentication_method": text(method)} if method else {}),
        **_will(connect.will),
        **_properties(connect.properties),
    }


def _will(will: Will | None) -> Shown:
    if will is None:
        return {}
    return {
        "will_topic": text(will.topic),
        "will_qos": will.qos,
        "will_retain": will.retain,
        "will_payload_size": len(will.payload),
    }


def _properties(properties: list[Property]) -> Shown:
    """Names only: the value of a user property may be a secret."""
    if not properties:
        return {}
    names = [_name(prop.identifier) for prop in properties[:_FILTERS_MAX]]
    return {"properties": sorted(set(names))}


def _name(identifier: int) -> str:
    try:
        return PropertyId(identifier).name.lower()
    except ValueError:
        return str(identifier)


def text(data: bytes) -> str:
    """Text from a peer, at most `TEXT_MAX` characters; bytes that are not UTF-8 are shown as escapes."""
    shown_text = data[: TEXT_MAX * 4].decode("utf-8", "backslashreplace")
    return shown_text if len(shown_text) <= TEXT_MAX else f"{shown_text[:TEXT_MAX]}…"
