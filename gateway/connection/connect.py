"""From a device's CONNECT to the bus's CONNACK: what the gateway checks and changes in them.

Owns the namespace of client ids, whether a will is allowed and sealed, and the properties that concern device
and gateway only. Must not know how anybody is authenticated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.connection.audit_vocabulary import Report, refused_login, refused_session, refused_will
from gateway.connection.authorizer import Authorizer
from gateway.connection.bus_holdings import FOREVER, ConnectionHoldings, Kind
from gateway.connection.process_context import Context
from gateway.connection.wills import WillTerms, sealed_will, terms_of_will
from gateway.keys.sealed_packet_size import announced
from gateway.mqtt.encode import encode_connack
from gateway.mqtt.errors import MqttError
from gateway.mqtt.packets import Connack, Connect, Version, Will
from gateway.mqtt.properties import Property, PropertyId, find, find_number, string_property
from gateway.mqtt.reason_codes import Reason, ReturnCode, return_code
from gateway.policy.engine.identity import Device, Grant, Identity
from gateway.policy.engine.limits import ANY_SIZE
from gateway.policy.engine.rules import Action, OnDeniedWill

TOKEN_METHOD = b"gateway-jwt"
"""The Authentication Method whose data is a token of ours (MQTT 5, 4.12)."""
_STRING_BYTES_MAX = 65_535
"""Longest UTF-8 string there can be in MQTT (MQTT 5, 1.5.4)."""
_BESIDE_REASON = 13
"""Bytes that a PUBACK, PUBREC or DISCONNECT has beside its Reason String, at most."""

# To the bus these would be promises of the gateway: it wants no topic aliases, and a packet limit applies to
# what the device gets, not to the sealed message (`gateway.connection.downstream` sees to it). The bus must
# not see the token.
_NOT_FOR_THE_BUS = frozenset(
    {
        PropertyId.TOPIC_ALIAS_MAXIMUM,
        PropertyId.MAXIMUM_PACKET_SIZE,
        PropertyId.AUTHENTICATION_METHOD,
        PropertyId.AUTHENTICATION_DATA,
    }
)


class ConnectRefused(MqttError):
    """The CONNECT gets a CONNACK with this reason; `report` says more to the admins."""

    def __init__(self, message: str, reason: Reason, report: Report | None = None) -> None:
        super().__init__(message, reason)
        self.report = report


def refused_connect(error: MqttError) -> Report:
    """What the admins learn of a CONNECT that is refused whoever sent it."""
    return refused_login(str(error))


TLS_HELLO = b"\x16\x03"
"""How a TLS client begins. No CONNECT does."""
# By the first byte: more is not waited for, and a report must not depend on how the bytes were cut.
_OTHER_PROTOCOLS = {
    TLS_HELLO[0]: "TLS",
    **dict.fromkeys(b"GHOD", "HTTP"),
    ord("P"): "HTTP or the PROXY protocol",
    ord("\r"): "the PROXY protocol",
    ord("S"): "SSH",
}


def not_mqtt(data: bytes | bytearray) -> str:
    """What is wrong with a connection that does not begin with a CONNECT."""
    spoken = _OTHER_PROTOCOLS.get(data[0])
    return "the first packet is not a CONNECT" + (f"; perhaps it is {spoken}" if spoken else "")


@dataclass(slots=True)
class Terms:
    """What a CONNECT determines for its connection."""

    version: Version
    keep_alive: int
    """Seconds; 0 for none."""
    device_max_size: int
    """Longest packet the device accepts, in bytes (its Maximum Packet Size)."""
    explain: bool
    """Whether the device wants Reason Strings (its Request Problem Information)."""
    assigned: bytes | None
    """The client id that the gateway gave the device, without its namespace; None: it brought its own."""
    will: WillTerms | None
    """The will that the bus was given; None for none."""
    enhanced: bool
    """Whether it is the CONNECT's Authentication Method that authenticates: `gateway-jwt`."""
    mqtt31: bool
    """Whether it is MQTT 3.1, which has most of the rules of 3.1.1."""

    @property
    def delivered_max_size(self) -> int:
        """Longest packet delivered to the device, in bytes.

        One more than it asked for, as on Mosquitto, which does not count the first byte.
        """
        return self.device_max_size + 1

    def explanation(self, text: str) -> str:
        """`text` as a Reason String for the device; empty if it wants none or the packet would be too long.

        A reason must not make a packet too long for its receiver [MQTT-3.4.2-2, MQTT-3.14.2-3].
        """
        fits = self.explain and len(text.encode()) + _BESIDE_REASON <= self.device_max_size
        return text if fits else ""


def check_connect(connect: Connect, context: Context) -> None:
    """Raise ConnectRefused for what no device may ask for."""
    properties = connect.properties
    method = find(properties, PropertyId.AUTHENTICATION_METHOD) if properties else None
    if method and method != TOKEN_METHOD:  # an empty one is none, as on Mosquitto
        raise ConnectRefused("no such authentication method", Reason.BAD_AUTHENTICATION_METHOD)
    if connect.version is Version.V5 and not context.bus_speaks_v5:
        raise ConnectRefused("the bus speaks MQTT 3.1.1 only", Reason.UNSUPPORTED_PROTOCOL_VERSION)


def token_of(connect: Connect, terms: Terms) -> bytes | None:
    """Authentication Data of our method (MQTT 5, 3.1.2.11.10), empty for none; None without that method."""
    return (find(connect.properties, PropertyId.AUTHENTICATION_DATA) or b"") if terms.enhanced else None


def terms_of(connect: Connect, context: Context) -> Terms:
    """What the CONNECT determines; gives a client id to a device that brought none."""
    terms = Terms(
        version=connect.version,
        keep_alive=connect.keep_alive,
        device_max_size=ANY_SIZE,
        explain=True,
        assigned=None if connect.client_id else context.new_client_id().encode(),
        will=None,
        enhanced=False,
        mqtt31=connect.is_mqtt31,
    )
    if properties := connect.properties:
        terms.device_max_size = find_number(properties, PropertyId.MAXIMUM_PACKET_SIZE, ANY_SIZE)
        terms.explain = find_number(properties, PropertyId.REQUEST_PROBLEM_INFORMATION, 1) != 0
        terms.enhanced = bool(find(properties, PropertyId.AUTHENTICATION_METHOD))
    return terms


def identity_of(
    device: Device, grant: Grant | None, client_id: str, certificate_ends: int | None = None
) -> Identity:
    """The identity of a connection, by which rules are chosen and their placeholders filled in."""
    until = device.observe_until
    return Identity(device.device_id, device.roles, device.labels, client_id, grant, until, certificate_ends)


def bus_connect(
    connect: Connect, terms: Terms, authorizer: Authorizer, context: Context
) -> tuple[Connect, list[Report]]:
    """The CONNECT for the bus, and what the admins learn of it. Raises MqttError.

    It is the device's own, but for the client id, the credentials, and a will that is sealed or dropped.
    """
    identity = authorizer.identity
    # A device id holds no slash, so no two devices share a client id on the bus (CVE-2026-6564).
    client_id = f"{identity.namespace}/{identity.client_id}".encode()
    if len(client_id) > _STRING_BYTES_MAX:
        raise ConnectRefused("the client id is too long", Reason.CLIENT_IDENTIFIER_NOT_VALID)
    will = connect.will
    reports: list[Report] = []
    if will is not None:
        will_terms = terms_of_will(will, authorizer.policy)
        try:
            will = _checked_will(will, will_terms, authorizer, context)
            terms.will = will_terms
        except _WillDropped as dropped:
            will = None
            reports.append(dropped.report)
    packet = Connect(
        version=connect.version,
        clean_start=connect.clean_start,
        keep_alive=connect.keep_alive,
        client_id=client_id,
        username=context.bus_username,
        password=context.bus_password,
        will=will,
        properties=_for_the_bus(connect.properties, authorizer.limits.in_flight),
        level=connect.level,
    )
    return packet, reports


def _for_the_bus(properties: list[Property], in_flight: int) -> list[Property]:
    """The CONNECT's properties, without those that do not concern the bus.

    A Receive Maximum above `in_flight` is lowered to it: the bus may send less at once than a device allows
    (MQTT 5, 3.1.2.11.3), and what the device then does not read is held in the gateway.
    """
    kept = [prop for prop in properties if prop.identifier not in _NOT_FOR_THE_BUS]
    identifier = PropertyId.RECEIVE_MAXIMUM
    if not kept or find_number(kept, identifier, 0) <= in_flight:
        return kept
    most = in_flight.to_bytes(2, "big")
    lowered = Property(identifier, most, bytes((identifier,)) + most)
    return [lowered if prop.identifier == identifier else prop for prop in kept]


class _WillDropped(Exception):
    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report


def _checked_will(will: Will, terms: WillTerms, authorizer: Authorizer, context: Context) -> Will:
    identity = authorizer.identity
    on_topic, decision = authorizer.will(terms)
    observed = not decision.allowed and authorizer.observes(terms.topic, decision)
    authorizer.record(Action.PUBLISH, terms.topic, decision if observed else on_topic, observed=observed)
    if not decision.allowed:
        note = _refused_will_note(authorizer, terms, context, observed=observed)
        words = f"{decision.reason} {note}".rstrip()
        report = refused_will(words, terms.topic, decision.rule_location)
        if note:
            raise _WillDropped(report)
        raise ConnectRefused(decision.reason, Reason.NOT_AUTHORIZED, report)
    sealed = sealed_will(will, terms, identity, context)
    if isinstance(sealed, Will):
        return sealed
    reason, why = sealed
    raise ConnectRefused(why, reason, refused_will(why, terms.topic))


def _refused_will_note(authorizer: Authorizer, terms: WillTerms, context: Context, *, observed: bool) -> str:
    """For the report: that the CONNECT goes on without its refused will; empty if it is refused too."""
    identity = authorizer.identity
    if authorizer.policy.on_denied_will(identity.roles, context.on_denied_will) is OnDeniedWill.DROP:
        return "The connection goes on without its will."
    if context.revoked_wills.has(identity.device_id, terms.topic):
        return "It was taken back when the rules changed: the connection goes on without its will."
    if observed:
        return "The device is observed: the connection goes on without its will."
    return ""


def check_sealed_will(size: int, terms: Terms, context: Context) -> None:
    """Refuse a CONNECT of `size` bytes if its sealed will makes it too long for the bus. ConnectRefused."""
    will = terms.will
    if will is not None and will.sealed and size > context.bus_packet_max:
        limit = f"the bus takes packets of {context.bus_packet_max:,} at most (its max_packet_size)"
        why = f"With its will sealed the CONNECT has {size:,} bytes, and {limit}."
        report = refused_will(why, will.topic)
        raise ConnectRefused(why, Reason.PACKET_TOO_LARGE, report)


NO_ROOM_RETAINED = "The device has retained messages on as many topics as it may."
_NO_ROOM_SESSION = "The device has as many sessions on the bus as it may."


def count_holdings(connect: Connect, authorizer: Authorizer, context: Context) -> ConnectionHoldings:
    """Count what a connection with this CONNECT adds to what its device holds on the bus.

    Raises ConnectRefused when there is no room for the session, or for the message of a will.
    """
    limits = authorizer.limits
    holdings = ConnectionHoldings(context.holdings, authorizer.identity.device_id)
    now = context.now() // 1_000
    if not holdings.count_session(connect.client_id, session_lifetime(connect), limits.sessions, now):
        context.counters.holdings_refused[Kind.SESSION] += 1
        report = refused_session(_NO_ROOM_SESSION)
        raise ConnectRefused(_NO_ROOM_SESSION, Reason.QUOTA_EXCEEDED, report)
    will = connect.will
    # A will without a payload takes no room. Nor does it free any: it may never be published.
    if will and will.retain and will.payload and not holdings.retain(will.topic, limits.retained_topics):
        holdings.refused()
        context.counters.holdings_refused[Kind.RETAINED] += 1
        report = refused_will(NO_ROOM_RETAINED, will.topic.decode())
        raise ConnectRefused(NO_ROOM_RETAINED, Reason.QUOTA_EXCEEDED, report)
    return holdings


def session_lifetime(connect: Connect) -> int:
    """For how many seconds the session is to outlive its connection (MQTT 5, 3.1.2.11.2; 3.1.1, 3.1.2.4)."""
    if connect.version is Version.V311:
        return 0 if connect.clean_start else FOREVER
    return find_number(connect.properties, PropertyId.SESSION_EXPIRY_INTERVAL, 0)


METHOD_PROPERTY = Property(
    PropertyId.AUTHENTICATION_METHOD,
    TOKEN_METHOD,
    string_property(PropertyId.AUTHENTICATION_METHOD, TOKEN_METHOD.decode()),
)
_BEFORE_ASSIGNED = frozenset({PropertyId.TOPIC_ALIAS_MAXIMUM, PropertyId.SERVER_KEEP_ALIVE})


def connack_for(raw: bytes, connack: Connack, terms: Terms, *, sealing_device_id: str = "") -> bytes:
    """The bus's CONNACK, with the client id that we assigned, our method, and room for sealing put in.

    `sealing_device_id` is the device's id if any topic it may publish to is sensitive; empty if none is.
    Then a lower Maximum Packet Size is announced, for the sealed message is longer.
    """
    bus_max = find(connack.properties, PropertyId.MAXIMUM_PACKET_SIZE) if sealing_device_id else None
    if terms.version is Version.V311 or not (terms.assigned or terms.enhanced or bus_max):
        return raw
    properties = connack.properties
    if bus_max:  # MQTT 5, 3.2.2.3.6
        identifier = PropertyId.MAXIMUM_PACKET_SIZE
        lowered_max = announced(int.from_bytes(bus_max, "big"), sealing_device_id).to_bytes(4, "big")
        lowered = Property(identifier, lowered_max, bytes((identifier,)) + lowered_max)
        properties = [lowered if prop.identifier == identifier else prop for prop in properties]
    if terms.assigned is not None:  # MQTT 5, 3.2.2.3.7
        assigned = PropertyId.ASSIGNED_CLIENT_IDENTIFIER
        ours = Property(assigned, terms.assigned, string_property(assigned, terms.assigned.decode()))
        kept = [prop for prop in properties if prop.identifier != assigned]
        # It stands where Mosquitto puts it.
        at = sum(prop.identifier in _BEFORE_ASSIGNED for prop in kept)
        properties = [*kept[:at], ours, *kept[at:]]
    if terms.enhanced:  # [MQTT-4.12.0-5]
        properties = [*properties, METHOD_PROPERTY]
    return encode_connack(replace(connack, properties=properties), terms.version)


# With these the bus refuses the gateway's own credentials: for the device that is an outage, not its fault.
_CREDENTIALS_REFUSED = frozenset(
    {Reason.BAD_USER_NAME_OR_PASSWORD, Reason.NOT_AUTHORIZED, Reason.BAD_AUTHENTICATION_METHOD}
)
_CREDENTIALS_REFUSED_311 = frozenset({ReturnCode.BAD_USER_NAME_OR_PASSWORD, ReturnCode.NOT_AUTHORIZED})


def refusal_of_bus(code: int, version: Version, *, for_its_will: bool = False) -> tuple[int, str]:
    """The CONNACK code for the device, and what the log says of it, when the bus refused with `code`.

    `for_its_will`: the CONNECT has a will, and the bus has accepted the gateway's credentials before. In
    3.1.1 the bus has one code for bad credentials and for a will that is too long.
    """
    v5 = version is Version.V5
    if for_its_will and not v5 and code == ReturnCode.NOT_AUTHORIZED:
        return code, "the bus refused the will: it is longer than the bus's message_size_limit, most likely"
    if code in (_CREDENTIALS_REFUSED if v5 else _CREDENTIALS_REFUSED_311):
        unavailable = Reason.SERVER_UNAVAILABLE
        return (
            unavailable if v5 else return_code(unavailable),
            "the bus refuses our credentials (MQTT_USERNAME, MQTT_PASSWORD), or its clientid_prefixes the id",
        )
    if v5 and code in {ReturnCode.UNACCEPTABLE_PROTOCOL_VERSION, Reason.UNSUPPORTED_PROTOCOL_VERSION}:
        return Reason.UNSUPPORTED_PROTOCOL_VERSION, "the bus speaks MQTT 3.1.1 only"
    return code, f"the bus refused the connection with code {code:#04x}"
