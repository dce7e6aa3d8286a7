"""From bytes to packets, as strict as the standard.

Each function gets the bytes, and where the packet's body starts and ends. It raises MalformedPacket or
ProtocolError, or LimitExceeded for a packet with more filters or properties than are accepted.
`decode_connect`, and what reads properties, may raise Unanswerable too. Nothing else is raised.
"""

from __future__ import annotations

from gateway.mqtt.data_types import Reader, decode_utf8
from gateway.mqtt.errors import LimitExceeded, MalformedPacket, MqttError, ProtocolError, Unanswerable
from gateway.mqtt.packets import (
    BRIDGE,
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
    value_fault,
)
from gateway.mqtt.reason_codes import Reason
from gateway.mqtt.topics import name_fault

NO_PROPERTIES: list[Property] = []
"""Shared by all packets without properties. Never appended to."""
FILTERS_MAX = 4_096
"""Topic filters in one packet. Deciding about one costs 9 µs, and 16 MiB could hold four million."""
CONNECT_PROPERTIES_MAX = 256
"""Default of the most properties that a CONNECT may have, and as many for its will."""
_USUAL = {b"\0\x04MQTT\x04": Version.V311, b"\0\x04MQTT\x05": Version.V5}
"""First bytes of the body of nearly every CONNECT."""
_NO_MQTT = "the protocol name is not MQTT"
_DISCOURAGED = frozenset(
    chr(point)
    for points in (
        range(0x01, 0x20),
        range(0x7F, 0xA0),
        range(0xFDD0, 0xFDF0),
        *((plane << 16 | 0xFFFE, plane << 16 | 0xFFFF) for plane in range(17)),
    )
    for point in points
)
"""Control characters and non-characters, which the standard advises against (MQTT 5, 1.5.4)."""


class ConnectFault(MqttError):
    """A CONNECT that is answered by a CONNACK with `reason`. `version` is that of the answer."""

    def __init__(self, message: str, reason: Reason, version: Version) -> None:
        super().__init__(message, reason)
        self.version = version


def _is_plain(text: bytes) -> bool:
    """Whether it is printable ASCII only, as most text is: then there is no fault in it."""
    return text.isascii() and text.decode().isprintable()


def decode_connect(data: bytes, pos: int, end: int, most: int = CONNECT_PROPERTIES_MAX) -> Connect:
    """A CONNECT's body (MQTT 5, 3.1), with at most `most` properties and as many of its will.

    The packet is at the start of `data`. Raises ConnectFault for what Mosquitto 2.1 answers with a CONNACK:
    an unknown protocol level, an empty client id where there must be one, and in MQTT 5 most of what is
    malformed; any other MqttError for what Mosquitto answers by closing the connection.
    """
    reader = Reader(data, pos, end)
    level, version = _read_protocol(reader)
    mqtt31 = level & ~BRIDGE == 3
    if data[0] & 0x0F and not mqtt31:
        raise Unanswerable("the flags beside the packet type of CONNECT are set")  # [MQTT-2.1.3-1]
    try:
        return _read_connect(reader, level, version, most)
    except Unanswerable:
        raise
    except MqttError as error:
        if version is not Version.V5:
            raise
        raise ConnectFault(str(error), error.reason, version) from None


def _read_protocol(reader: Reader) -> tuple[int, Version]:
    """The protocol level as it came, and the version whose rules apply."""
    pos = reader.pos
    usual = _USUAL.get(reader.data[pos : pos + 7]) if pos + 7 <= reader.end else None
    if usual is not None:
        reader.pos = pos + 7
        return int(usual), usual
    name = reader.binary()
    if len(name) not in (4, 6):
        raise Unanswerable(_NO_MQTT)
    level = reader.byte()
    plain_level = level & ~BRIDGE
    if plain_level not in (3, 4, 5):
        # Whatever the name is, as on Mosquitto: a future version may have a different one.
        why = f"the protocol level {level} is none of MQTT 3.1, 3.1.1 and 5"
        raise ConnectFault(why, Reason.UNSUPPORTED_PROTOCOL_VERSION, Version.V5)
    name = name.partition(b"\0")[0]  # Mosquitto ignores a NUL and what follows it
    if name not in (b"MQTT", b"MQIsdp"):
        raise Unanswerable(_NO_MQTT)  # [MQTT-3.1.2-1]
    mqtt31 = plain_level == 3
    if mqtt31 != (name == b"MQIsdp"):
        why = f"the protocol level {level} is not one of {name.decode()}"
        raise ConnectFault(why, Reason.UNSUPPORTED_PROTOCOL_VERSION, Version.V311)
    return level, Version.V311 if mqtt31 else Version(plain_level)


def _read_connect(reader: Reader, level: int, version: Version, most: int) -> Connect:
    # The conversions to Unanswerable are written out: a context manager took longer than the decoding.
    mqtt31 = level & ~BRIDGE == 3
    try:
        flags = reader.byte()
        if flags & 0x01 and not mqtt31:
            raise MalformedPacket("the reserved flag of CONNECT is set")  # [MQTT-3.1.2-3]
        keep_alive = reader.two_bytes()
    except MqttError as error:
        raise Unanswerable(str(error)) from None
    properties = NO_PROPERTIES
    if version is Version.V5:
        properties = _read_properties(reader, IN_CONNECT, most)
    if flags & 0x18 == 0x18:
        raise Unanswerable("a will of QoS 3")  # [MQTT-3.1.2-12]
    data = find(properties, PropertyId.AUTHENTICATION_DATA) if properties else None
    if data and not find(properties, PropertyId.AUTHENTICATION_METHOD):  # an empty one of either is none
        raise ProtocolError("Authentication Data without a method")  # MQTT 5, 3.1.2.11.10
    try:
        client_id = reader.binary()
    except MqttError as error:
        raise Unanswerable(str(error)) from None
    if not _is_plain(client_id) and (fault := _text_fault(client_id) or _character_fault(client_id)):
        raise MqttError(f"the client id {fault}", Reason.CLIENT_IDENTIFIER_NOT_VALID)
    if not client_id and version is Version.V311 and (mqtt31 or not flags & 0x02):
        # Before anything after the client id is read, as on Mosquitto; [MQTT-3.1.3-8] of 3.1.1.
        why = "MQTT 3.1 knows no empty client id" if mqtt31 else "an empty client id needs a clean session"
        raise ConnectFault(why, Reason.CLIENT_IDENTIFIER_NOT_VALID, version)
    will = _read_will(reader, flags, version, most) if flags & 0x04 else None
    try:
        if will is None and flags & 0x38 and not mqtt31:
            raise MalformedPacket("will flags without a will")  # [MQTT-3.1.2-11, MQTT-3.1.2-13]
        if version is Version.V311 and flags & 0xC0 == 0x40:
            raise MalformedPacket("a password without a user name")  # [MQTT-3.1.2-22] of 3.1.1
        credential = _credential_31 if mqtt31 else Reader.binary
        username = credential(reader) if flags & 0x80 else None
        if (
            username is not None
            and not _is_plain(username)
            and (fault := _text_fault(username) or _character_fault(username))
        ):
            if not mqtt31:
                raise MalformedPacket(f"the user name {fault}")
            username = None
        password = credential(reader) if flags & 0x40 else None
    except MqttError as error:
        raise Unanswerable(str(error)) from None
    if reader.left:
        raise MalformedPacket("bytes after the end of CONNECT")
    return Connect(
        version=version,
        clean_start=bool(flags & 0x02),
        keep_alive=keep_alive,
        client_id=client_id,
        username=username,
        password=password,
        will=will,
        properties=properties,
        level=0 if level == version else level,
    )


def _credential_31(reader: Reader) -> bytes | None:
    """A user name or a password of MQTT 3.1; None where it lets a client set the flag and send none.

    (3.1, Connect flags.) As on Mosquitto, one that is cut off counts as none, and its length as read: if
    bytes follow, the packet is malformed.
    """
    try:
        return reader.binary()
    except MalformedPacket:
        if reader.left >= 2:
            reader.two_bytes()
        return None


def _read_will(reader: Reader, flags: int, version: Version, most: int) -> Will:
    properties = _read_properties(reader, IN_WILL, most) if version is Version.V5 else NO_PROPERTIES
    topic = reader.binary()
    if not topic:
        raise ProtocolError("a will without a topic")
    if fault := _text_fault(topic) or _character_fault(topic) or name_fault(topic.decode()):
        raise Unanswerable(f"a will whose topic {fault}")
    payload = reader.binary()
    return Will(topic, payload, flags >> 3 & 3, bool(flags & 0x20), properties)


def _text_fault(text: bytes) -> str:
    """Why it is not a UTF-8 Encoded String, as the end of a sentence; empty if it is one."""
    try:
        decode_utf8(text)
    except MalformedPacket as error:
        return str(error).replace("a string ", "", 1)
    return ""


def _character_fault(text: bytes) -> str:
    """The same for characters that the standard advises against (MQTT 5, 1.5.4), and Mosquitto refuses.

    In the topic or filter of a later packet the bus itself looks for them.
    """
    return "" if _DISCOURAGED.isdisjoint(text.decode()) else "holds a control character or a non-character"


def _read_properties(reader: Reader, allowed: frozenset[int], most: int) -> list[Property]:
    """The properties of a CONNECT or its will, with their values checked: the bus sees them too late."""
    properties = read_properties(reader, allowed, most, check_text=_check_text)
    for prop in properties:
        if fault := value_fault(prop):
            raise ProtocolError(fault)
    return properties


def _properties_of(reader: Reader, allowed: frozenset[int]) -> list[Property]:
    """The properties of a later packet. Their texts are checked by the bus, if it gets the packet."""
    start = reader.pos
    try:
        return read_properties(reader, allowed)
    except MqttError:
        # Something is wrong with them. If a bad text comes first, Mosquitto closes without an answer.
        reader.pos = start
        read_properties(reader, allowed, check_text=_check_text)
        raise


def _check_text(text: bytes) -> None:
    """Raise Unanswerable for a bad text: as soon as it is read, before what is wrong after it."""
    if fault := _text_fault(text) or _character_fault(text):
        raise Unanswerable(f"a property {fault}")


def decode_connack(data: bytes, pos: int, end: int, version: Version) -> Connack:
    """A CONNACK's body (MQTT 5, 3.2). To a v5 CONNECT it may also have the form of 3.1.1."""
    reader = Reader(data, pos, end)
    flags = reader.byte()
    code = reader.byte()
    properties = NO_PROPERTIES
    if version is Version.V5 and reader.left:
        properties = read_properties(reader, IN_CONNACK)
    if reader.left or flags & 0xFE:
        raise MalformedPacket("a CONNACK that is none")
    return Connack(bool(flags), code, properties)


def decode_publish(data: bytes, pos: int, body_at: int, end: int, version: Version) -> Publish:
    """A PUBLISH (MQTT 5, 3.3) whose first byte is at `pos` and whose body starts at `body_at`."""
    first = data[pos]
    qos = first >> 1 & 3
    if qos == 3:
        raise MalformedPacket("QoS 3")  # [MQTT-3.3.1-4]
    at = body_at + 2
    if at > end:
        raise MalformedPacket("a PUBLISH without a topic")
    at += data[body_at] << 8 | data[body_at + 1]
    topic = data[body_at + 2 : at]
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
        properties = _properties_of(reader, IN_PUBLISH)
        at = reader.pos
    return Publish(first, topic, packet_id, properties, at)


def decode_subscribe(data: bytes, pos: int, end: int, version: Version, *, filters_min: int = 1) -> Subscribe:
    """A SUBSCRIBE's body (MQTT 5, 3.8) with at least `filters_min` topic filters: 0 in MQTT 3.1."""
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
    if len(subscriptions) < filters_min:
        raise MalformedPacket("a SUBSCRIBE without a topic filter")  # [MQTT-3.8.3-2]
    return Subscribe(packet_id, properties, subscriptions)


def decode_unsubscribe(
    data: bytes, pos: int, end: int, version: Version, *, filters_min: int = 1
) -> Unsubscribe:
    """An UNSUBSCRIBE's body (MQTT 5, 3.10), likewise."""
    reader = Reader(data, pos, end)
    packet_id, properties = _read_head(reader, IN_UNSUBSCRIBE, version)
    filters: list[bytes] = []
    while reader.left:
        filters.append(reader.binary())
        _count_filter(len(filters))
    if len(filters) < filters_min:
        raise MalformedPacket("an UNSUBSCRIBE without a topic filter")  # [MQTT-3.10.3-2]
    return Unsubscribe(packet_id, properties, filters)


def decode_auth(data: bytes, pos: int, end: int) -> Auth:
    """An AUTH's body (MQTT 5, 3.15.2). An empty one means success."""
    if pos == end:
        return Auth(Reason.SUCCESS, None, b"")
    reader = Reader(data, pos, end)
    code = reader.byte()
    properties = _properties_of(reader, IN_AUTH)
    if reader.left:
        raise MalformedPacket("bytes after an AUTH")
    method = find(properties, PropertyId.AUTHENTICATION_METHOD)
    return Auth(code, method, find(properties, PropertyId.AUTHENTICATION_DATA) or b"")


def decode_disconnect(data: bytes, pos: int, end: int) -> int | None:
    """A client DISCONNECT's Session Expiry Interval in seconds (MQTT 5, 3.14.2.2.2); None for none."""
    reader = Reader(data, pos, end)
    if reader.left < 2:
        return None
    reader.byte()
    properties = read_properties(reader, IN_DISCONNECT)
    if reader.left:
        raise MalformedPacket("bytes after a DISCONNECT")
    interval = find_number(properties, PropertyId.SESSION_EXPIRY_INTERVAL, -1)
    return None if interval < 0 else interval


def _count_filter(count: int) -> None:
    if count > FILTERS_MAX:
        raise LimitExceeded("more topic filters than a packet may have here")


def _read_head(reader: Reader, allowed: frozenset[int], version: Version) -> tuple[int, list[Property]]:
    """The beginning of a SUBSCRIBE or UNSUBSCRIBE, where Mosquitto answers every fault as malformed."""
    try:
        packet_id = _nonzero(reader.two_bytes())
        if version is not Version.V5:
            return packet_id, NO_PROPERTIES
        # Bad text here comes before any fault in the filters.
        return packet_id, read_properties(reader, allowed, check_text=_check_text)
    except ProtocolError as error:
        raise MalformedPacket(str(error)) from None


def decode_packet_id(data: bytes, pos: int, end: int) -> int:
    """The packet identifier that opens the body of an acknowledgement."""
    return _nonzero(Reader(data, pos, end).two_bytes())


def _nonzero(packet_id: int) -> int:
    if packet_id == 0:
        raise ProtocolError("packet identifier 0")
    return packet_id
