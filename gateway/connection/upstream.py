"""From the device to the bus: what it may say, what is sealed on the way, and what ends in the gateway.

Owns the verdicts on topics this connection publishes to, its topic aliases, and the QoS handshakes that end
here: of what was denied, and of requests to our services. Of the other direction it knows the ledger alone.
"""

from __future__ import annotations

from gateway.connection.authorizer import Authorizer
from gateway.connection.bus_holdings import ConnectionHoldings, Kind
from gateway.connection.bus_pings import Heartbeat
from gateway.connection.commands import Call, Command, Reauthenticate
from gateway.connection.connect import NO_ROOM_RETAINED, TOKEN_METHOD, Terms
from gateway.connection.device_budgets import (
    EFFORT_DECODED,
    EFFORT_SEALED,
    HEADER_BYTES_FREE,
    Meter,
    header_effort,
)
from gateway.connection.limit_reports import refused_length
from gateway.connection.one_way_relay import Relay
from gateway.connection.process_context import EMPTY_SET, Context
from gateway.connection.process_counters import FROM_DEVICES
from gateway.connection.qos2_packet_ids import PacketIds, with_id, without_id
from gateway.connection.service_calls import call_of
from gateway.connection.subscriptions import Subscriptions
from gateway.connection.topic_aliases import TopicAliases
from gateway.connection.verdict_cache import CachedVerdict, keep, topic_text
from gateway.keys.payload_envelope import Sealer
from gateway.mqtt.acknowledgement_order import Ledger
from gateway.mqtt.data_types import read_length
from gateway.mqtt.decode import decode_auth, decode_disconnect, decode_packet_id, decode_publish
from gateway.mqtt.encode import encode_ack, encode_publish
from gateway.mqtt.errors import (
    LimitExceeded,
    MalformedPacket,
    MqttError,
    ProtocolError,
    Refused,
    Unanswerable,
)
from gateway.mqtt.framing import check_first_byte
from gateway.mqtt.packet_length_limits import longest_packet, may_be_as_long
from gateway.mqtt.packets import PacketType, Publish, Version
from gateway.mqtt.properties import PropertyId, find, join
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.limits import ANY_SIZE
from gateway.policy.engine.policy import Action, Decision
from gateway.policy.engine.rules import OnDeny

_BYTES_PER_FILTER = 6
"""Bytes that a topic filter is assumed to take in its packet: filters are not counted for their effort."""
_AUTH_EFFORT, _CALL_EFFORT = 1_000, 20
"""Effort of verifying a token, and of a request to a service beyond its packet. That costs more where the
device subscribed to answers: each is matched with those filters (`Subscriptions.effort`)."""
_UNCOUNTED_PER_PACKET = 8
"""Connections of the device that `uncount` a cleared topic for the effort of one packet."""
_ALIAS = frozenset({PropertyId.TOPIC_ALIAS})
"""The properties that a PUBLISH loses when it is sealed."""


class Upstream(Relay):
    """The relay from the device to the bus."""

    __slots__ = (
        "_authorizer",
        "_bus_max_size",
        "_context",
        "_ended_here",
        "_heartbeat",
        "_holdings",
        "_subscriptions",
        "_terms",
        "aliases",
        "renewable",
        "requests",
    )

    def __init__(
        self,
        context: Context,
        terms: Terms,
        *,
        authorizer: Authorizer,
        subscriptions: Subscriptions,
        holdings: ConnectionHoldings,
        heartbeat: Heartbeat,
        ledger: Ledger,
        other_ledger: Ledger,
        meter: Meter,
    ) -> None:
        """`holdings` counts what this connection leaves on the bus; `other_ledger` is of `Downstream`."""
        super().__init__(terms.version, ledger, other_ledger, authorizer.limits.packet_size, meter)
        self._context = context
        self._terms = terms
        self._authorizer = authorizer
        self._subscriptions = subscriptions
        self._holdings = holdings
        self._heartbeat = heartbeat
        self.retained_verdicts = {}  # of counted topics only: see `_count_retained`
        self.aliases = TopicAliases()
        # QoS 2: packet ids whose PUBREC was ours, so their PUBCOMP is ours too.
        self._ended_here: PacketIds = EMPTY_SET
        self.requests: list[Command] = []
        """What the device asks of the gateway itself. Whoever takes them empties the list."""
        self.renewable = terms.enhanced
        """Whether the device may renew its token by AUTH."""
        self._bus_max_size = ANY_SIZE
        """Longest packet the bus accepts, in bytes, as a bound on `max_size`: see `bound_by_bus`."""

    @property
    def unanswered(self) -> bool:
        """Whether the bus has a handshake at QoS 1 or 2 to finish, or a (UN)SUBSCRIBE to answer."""
        ledger = self.ledger
        return (
            ledger.acked1 < ledger.passed1
            or ledger.acked2 < ledger.passed2
            or ledger.completed < ledger.released
            or self._subscriptions.unanswered
        )

    def authorize_by(self, authorizer: Authorizer) -> None:
        """Ask this authorizer from now on, and drop all verdicts: rules changed, or are to be asked again."""
        self._authorizer = authorizer
        self.max_size = self.unchanged_max_size = min(authorizer.limits.packet_size, self._bus_max_size)
        self.verdicts.clear()
        self.retained_verdicts.clear()
        self.forget_header()

    def bound_by_bus(self, announced: int) -> None:
        """Refuse packets longer than the Maximum Packet Size that the bus announced [MQTT-3.2.2-15].

        The bus would end the session as soon as it saw the header, and its reason (0x95) would be lost when
        the rest of the packet reached a closed socket. Mosquitto counts only one byte of the fixed header,
        which has two to five. Requests to the gateway itself have the same bound: the device was told it.
        """
        self._bus_max_size = longest_packet(announced)
        self.max_size = self.unchanged_max_size = min(self.max_size, self._bus_max_size)

    def handle(self, data: bytes, pos: int, body_at: int, end: int) -> bytes | None:
        """Decide about one packet of the device. None: it passes unchanged; b"": nothing of it passes."""
        if data[pos] & 0xF0 == 0x30:
            return self._publish(data, pos, body_at, end)
        if data[pos] >> 4 == PacketType.CONNECT:
            raise Unanswerable("a second CONNECT")  # [MQTT-3.1.0-2]
        if end - body_at != 2 or data[pos] >= 0xC0:  # two bytes, a packet id, are right for all below PINGREQ
            self.check_beginning(data[pos], end - body_at)
        if data[pos] & 0xF0 == 0x60 and self._terms.mqtt31:
            # An MQTT 3.1 client sends a PUBREL again with DUP (3.1, 3.6): Mosquitto ignores its flags there.
            return self._pubrel(data, body_at, end)
        kind = check_first_byte(data[pos])
        if kind == PacketType.PUBACK:
            return self.acknowledged(data, pos, end, 1)
        if kind == PacketType.PUBREC:
            return self.acknowledged(data, pos, end, 2)
        if kind == PacketType.PUBREL:
            return self._pubrel(data, body_at, end)
        if kind == PacketType.SUBSCRIBE:
            return self._subscriptions.subscribe(data, body_at, end, self._authorizer, self.answers)
        if kind == PacketType.UNSUBSCRIBE:
            self.meter.effort += (end - body_at) // _BYTES_PER_FILTER * EFFORT_DECODED
            return self._subscriptions.unsubscribe(data, body_at, end, self._authorizer, self.answers)
        if kind == PacketType.PINGREQ:
            self._heartbeat.device_pinged()
            return None
        if kind == PacketType.PUBCOMP:
            return None
        if kind == PacketType.DISCONNECT:
            if end - body_at > 2:
                self._disconnect(data, body_at, end)
            self.stopped = True
            return None
        if kind == PacketType.AUTH and self.renewable:
            return self._auth(data, body_at, end)
        # An AUTH without a method to go on with [MQTT-4.12.0-7]; the others only a server sends.
        raise ProtocolError("a packet that may not come here")

    def check_beginning(self, first: int, size: int) -> None:
        """Refuse a packet whose type can't have this remaining length, before the rest of it has come.

        From the header alone, whatever the flags, as on Mosquitto. Raises Unanswerable.
        """
        if not may_be_as_long(first, size, self.version):
            raise Unanswerable("a packet of a length that none of its type has")

    def skip_oversized(self, data: bytes, pos: int, body_at: int, end: int) -> bool:
        """Refuse a packet over `max_size`, if need be as longer than its type can be. Always raises."""
        if (length := read_length(data, pos + 1, body_at)) is None:
            return super().skip_oversized(data, pos, body_at, end)
        self.check_beginning(data[pos], length[0])
        size = body_at + length[0] - pos
        raise refused_length(size, self.max_size, self.receiver_max_size, self._authorizer.limits)

    def _auth(self, data: bytes, body_at: int, end: int) -> bytes:
        """Re-authentication with a new token (MQTT 5, 4.12.1): one AUTH each way."""
        auth = decode_auth(data, body_at, end)
        if auth.code != Reason.REAUTHENTICATE or auth.method != TOKEN_METHOD:
            raise ProtocolError("an AUTH that is no re-authentication with the method of the CONNECT")
        self.meter.effort += _AUTH_EFFORT
        self.requests.append(Reauthenticate(auth.data))
        return b""

    def _disconnect(self, data: bytes, body_at: int, end: int) -> None:
        """Take the session's lifetime in seconds from a DISCONNECT that has one (MQTT 5, 3.14.2.2.2)."""
        try:
            lifetime = decode_disconnect(data, body_at, end) if self.version is Version.V5 else None
        except MqttError:
            return  # the bus refuses the packet: the session keeps the lifetime it had
        if lifetime is not None:
            if lifetime and not self._holdings.lifetime:
                raise ProtocolError("a Session Expiry Interval where the CONNECT had none")
            self._holdings.lifetime = lifetime

    def _pubrel(self, data: bytes, body_at: int, end: int) -> bytes | None:
        packet_id = decode_packet_id(data, body_at, end) if self._ended_here else 0
        if packet_id not in self._ended_here:
            self.ledger.released += 1
            return None
        self._ended_here = without_id(self._ended_here, packet_id)
        self.answers.append(encode_ack(PacketType.PUBCOMP, packet_id))
        return b""

    def _publish(self, data: bytes, pos: int, body_at: int, end: int) -> bytes | None:
        packet = decode_publish(data, pos, body_at, end, self.version)
        meter = self.meter
        meter.messages += 1
        topic, alias = self._resolve(packet)
        # A topic costs the same when an alias stands for it.
        header = packet.payload_at - body_at + (0 if packet.topic else len(topic))
        if header > HEADER_BYTES_FREE:
            meter.effort += header_effort(len(topic), header)
        cached = self.verdicts.get(topic) or self._decide(topic)
        size = end - packet.payload_at
        if cached.service is not None:
            return self._call_service(call_of(cached.service, packet, data[packet.payload_at : end]), packet)
        if cached.conditional:
            decision = cached.decision.with_message(packet.qos, packet.retain, size)
            if not decision.allowed:
                if not self._authorizer.observes(cached.topic, decision):
                    return self._deny(packet, cached, decision)
                self._authorizer.let_pass(Action.PUBLISH, cached, decision)
        # An empty retained message clears the topic; sealed, it would not be empty.
        if cached.sensitive and (size or not packet.retain):
            return self._seal(packet, cached, topic, data[packet.payload_at : end])
        replacement = None
        is_new_to_bus = bool(alias) and self.aliases.bus.get(alias) != topic
        if is_new_to_bus and not packet.topic:
            # The bus never learnt what the alias stands for: the topic goes with it this time.
            payload, properties = data[packet.payload_at : end], join(packet.properties)
            replacement = encode_publish(packet.first_byte, topic, packet.packet_id, properties, payload)
            if len(replacement) > self.receiver_max_size:
                return self._too_long(packet, cached, "With its topic", len(replacement))
        if data[pos] & 1 and not self._count_retained(cached, topic, size):
            return self._over_quota(packet, cached)
        self.ledger.passed(packet.qos)
        if self._ended_here:
            self._ended_here = without_id(self._ended_here, packet.packet_id)
        if is_new_to_bus:
            self.aliases.bus[alias] = topic
        elif cached.passes_always and (size or not data[pos] & 1):  # what clears a topic changes a count
            self.remember_header(packet, data, pos, body_at, end)
        return replacement

    def _count_retained(self, cached: CachedVerdict, topic: bytes, size: int) -> bool:
        """Count a retained topic, or forget it if `size` is 0. False: the device has as many as it may."""
        if not size:
            self.meter.effort += self._holdings.clear(topic) // _UNCOUNTED_PER_PACKET * EFFORT_DECODED
        elif topic not in self.retained_verdicts:
            if not self._holdings.retain(topic, self._authorizer.limits.retained_topics, self):
                return False
            keep(self.retained_verdicts, topic, cached)
        return True

    def uncount(self, topic: bytes | None) -> None:
        """The device no longer holds this retained topic; with None: none of its topics."""
        if topic is None:
            self.retained_verdicts.clear()
        else:
            self.retained_verdicts.pop(topic, None)
        self.forget_header()

    def _resolve(self, packet: Publish) -> tuple[bytes, int]:
        """The topic of a packet, and its topic alias (MQTT 5, 3.3.2.3.4); 0 for none. Raises MqttError."""
        value = find(packet.properties, PropertyId.TOPIC_ALIAS) if packet.properties else None
        if value is None:
            if not packet.topic and self.version is Version.V5:
                raise MalformedPacket("neither a topic nor a topic alias")
            return packet.topic, 0
        alias = int.from_bytes(value, "big")
        self.aliases.check(alias)
        if not packet.topic:
            return self.aliases.topic(alias), alias
        if self.aliases.learn(alias, packet.topic):
            self.forget_header()
        return packet.topic, alias

    def _decide(self, topic: bytes) -> CachedVerdict:
        self.meter.effort += self._authorizer.token_effort
        cached = self._authorizer.publish(topic_text(topic))
        if cached.decision.allowed:  # what refuses it, or lets it pass, records that
            self._authorizer.record(Action.PUBLISH, cached.topic, cached.decision)
        return keep(self.verdicts, topic, cached)

    def _seal(self, packet: Publish, cached: CachedVerdict, topic: bytes, payload: bytes) -> bytes:
        context = self._context
        if cached.sealer is None:
            cached.sealer = Sealer(
                context.ring, context.now, topic=cached.topic, sender=self._authorizer.identity.device_id
            )
        # Without its alias, so that for the bus the alias keeps its meaning.
        properties = join(packet.properties, without=_ALIAS) if self.version is Version.V5 else b""
        sealed = cached.sealer.seal(payload)
        changed = encode_publish(packet.first_byte, topic, packet.packet_id, properties, sealed)
        self.meter.effort += EFFORT_SEALED + (len(payload) >> 8)
        if len(changed) > self.receiver_max_size:
            return self._too_long(packet, cached, "Sealed", len(changed))
        # Only now: a message that is too long for the bus is not retained there.
        if packet.retain and not self._count_retained(cached, topic, len(payload)):
            return self._over_quota(packet, cached)
        self.sealed += 1
        self.ledger.passed(packet.qos)
        if self._ended_here:
            self._ended_here = without_id(self._ended_here, packet.packet_id)
        return changed

    def _call_service(self, call: Call, packet: Publish) -> bytes:
        """Take a request to a service of ours: the bus never sees it."""
        if packet.qos < 2 or packet.packet_id not in self._ended_here:
            # A byte is read as JSON, as base64, and as what is sealed: 16 MiB take a tenth of a second.
            self.meter.effort += _CALL_EFFORT + self._subscriptions.effort + (len(call.payload) >> 6)
            self.requests.append(call)
        return self._end_here(packet)

    def _too_long(self, packet: Publish, cached: CachedVerdict, how: str, size: int) -> bytes:
        """Answer a PUBLISH that the gateway made too long for the bus, which would end the connection for it.

        Sent again after a reconnect it would be too long again. For one message MQTT 5 has no better code
        than Quota exceeded (3.4.2.1), and 3.1.1 has none: like a denied one it is dropped and logged.
        """
        why = (
            f"{how}, the message has {size:,} bytes, and the bus takes packets of "
            f"{self.receiver_max_size:,} at most (its max_packet_size)."
        )
        self._authorizer.too_long(cached, why)
        code = Reason.QUOTA_EXCEEDED if self.version is Version.V5 else 0
        return self._end_here(packet, code, self._terms.explanation(why) if code else "")

    def _deny(self, packet: Publish, cached: CachedVerdict, decision: Decision) -> bytes:
        """Answer a denied PUBLISH as its version and QoS allow (MQTT 5, 3.4.2.1; 3.1.1, 3.3.5)."""
        self._context.counters.publishes_denied += 1
        self._authorizer.refuse(Action.PUBLISH, cached, decision)
        return self._refuse(packet, Reason.NOT_AUTHORIZED, decision.reason)

    def _over_quota(self, packet: Publish, cached: CachedVerdict) -> bytes:
        """Answer a retained PUBLISH for which the device has no room left."""
        self._context.counters.holdings_refused[Kind.RETAINED] += 1
        if cached.first_report("quota"):
            self._authorizer.refuse_quota(cached.topic, NO_ROOM_RETAINED)
        return self._refuse(packet, Reason.QUOTA_EXCEEDED, NO_ROOM_RETAINED)

    def _refuse(self, packet: Publish, code: Reason, why: str) -> bytes:
        if self.version is Version.V5:
            return self._end_here(packet, code, self._terms.explanation(why))
        if packet.qos and self._context.on_deny is OnDeny.DISCONNECT:
            self._context.counters.messages_ended[FROM_DEVICES] += 1
            raise Refused(why)
        return self._end_here(packet)

    def _end_here(self, packet: Publish, code: int = 0, explanation: str = "") -> bytes:
        """Acknowledge a PUBLISH in place of the bus, in order with the bus's own acknowledgements."""
        self._context.counters.messages_ended[FROM_DEVICES] += 1
        if packet.qos == 0:
            return b""
        kind = PacketType.PUBACK if packet.qos == 1 else PacketType.PUBREC
        in_flight = self._authorizer.limits.in_flight
        if packet.qos == 2 and not code:
            # The handshake goes on, with us [MQTT-4.3.3-4].
            if len(self._ended_here) >= in_flight:
                raise LimitExceeded("too many unfinished QoS 2 messages", Reason.RECEIVE_MAXIMUM_EXCEEDED)
            self._ended_here = with_id(self._ended_here, packet.packet_id)
        answer = encode_ack(kind, packet.packet_id, code, explanation)
        answer = self.ledger.answer(packet.qos, answer, in_flight)
        if answer:
            self.answers.append(answer)
        return b""
