"""From the bus to the device: each topic is decided for this receiver, and opened if it may read it.

That the subscription was allowed proves nothing: there are retained messages, old subscriptions of a
persistent session, deny rules inside an allowed wildcard, and rules that have changed since. What may not be
delivered is swallowed: left out, and acknowledged to the bus in place of the device (CVE-2021-34434). An
envelope for a receiver that may not open it is written in our canonical form, if it does not have that.
"""

from __future__ import annotations

from gateway.connection.audit_vocabulary import failed_delivery, failed_open
from gateway.connection.authorizer import Authorizer
from gateway.connection.bus_pings import Heartbeat
from gateway.connection.connect import Terms
from gateway.connection.device_budgets import (
    EFFORT_SEALED,
    EFFORT_TOO_MANY_PROPERTIES,
    HEADER_BYTES_FREE,
    Meter,
    header_effort,
)
from gateway.connection.one_way_relay import Relay, rebuilt
from gateway.connection.process_context import EMPTY_SET, Context
from gateway.connection.process_counters import TO_DEVICES
from gateway.connection.qos2_packet_ids import PacketIds, with_id, without_id
from gateway.connection.refusal_report_limit import Reports
from gateway.connection.subscriptions import Subscriptions
from gateway.connection.verdict_cache import CachedVerdict, keep, topic_text
from gateway.connection.waiting_deliveries import WaitingDeliveries
from gateway.keys.payload_envelope import Envelope, OpenFailed, canonical, open_envelope, read_envelope
from gateway.mqtt.acknowledgement_order import Ledger
from gateway.mqtt.decode import decode_packet_id, decode_publish
from gateway.mqtt.encode import encode_ack
from gateway.mqtt.errors import LimitExceeded, ProtocolError
from gateway.mqtt.framing import check_first_byte
from gateway.mqtt.packets import PacketType, Publish, Version
from gateway.mqtt.properties import PropertyId, find
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.policy import Action, Decision
from gateway.policy.engine.service_names import CHECKS

_ENVELOPE_ROOM = 2
"""A sealed packet is at most this many times as long as the plain one (base64, and the JSON around it)."""
_HEADER_MAX = 5 + 2 + 65_535 + 2
"""Bytes of a PUBLISH up to the end of its packet identifier, at most."""


class Downstream(Relay):
    """The relay from the bus to the device."""

    __slots__ = (
        "_authorizer",
        "_context",
        "_heartbeat",
        "_reports",
        "_subscriptions",
        "_swallowed",
        "bus_disconnect_reason",
        "device_full",
        "dropped",
        "waiting",
    )

    def __init__(
        self,
        context: Context,
        terms: Terms,
        *,
        authorizer: Authorizer,
        subscriptions: Subscriptions,
        reports: Reports,
        heartbeat: Heartbeat,
        ledger: Ledger,
        other_ledger: Ledger,
        meter: Meter,
    ) -> None:
        super().__init__(terms.version, ledger, other_ledger, _bus_limit(authorizer), meter)
        self._context = context
        self._authorizer = authorizer
        self._subscriptions = subscriptions
        self._reports = reports
        self._heartbeat = heartbeat
        # QoS 2: packet ids whose PUBREC to the bus was ours, so their PUBCOMP is ours too.
        self._swallowed: PacketIds = EMPTY_SET
        self.bus_disconnect_reason: int = Reason.SUCCESS
        """The reason code of the bus's DISCONNECT, once it came."""
        self.unchanged_max_size = terms.delivered_max_size
        self.device_full = False
        """Whether nothing may be written to the device now (`DeviceFull`)."""
        self.waiting: WaitingDeliveries | None = None
        """What came while the device was full, or while `unprocessed`, which goes first, was waiting."""
        self.dropped = 0
        """Messages that found no room in `waiting`. Whoever reports that resets it to 0."""

    def authorize_by(self, authorizer: Authorizer) -> None:
        """Ask this authorizer from now on, and drop all verdicts: rules changed, or are to be asked again."""
        self._authorizer = authorizer
        self.max_size = _bus_limit(authorizer)
        self.verdicts.clear()
        self.forget_header()

    @property
    def waits(self) -> bool:
        """Whether something the bus sent is unprocessed."""
        return self.unprocessed is not None or self.waiting is not None

    @property
    def may_go_on(self) -> bool:
        """Whether it may be processed now: the device is not full, and its budget has something left."""
        return self.waits and not self.device_full and not self.meter.is_exceeded

    def stop_delivering(self) -> None:
        """The device is full: all that comes from now on waits."""
        self.device_full = True
        if self.unprocessed is None and self.waiting is None:
            self._begin_to_wait()

    def resume_delivering(self) -> None:
        """The device is ready again: `go_on` delivers what waits."""
        self.device_full = False
        if self.unprocessed is None and not self.waiting:
            self._wait_no_more()

    def go_on(self) -> None:
        """Process a slice of what waits. Raises MqttError, as `feed`."""
        if self.unprocessed is not None:
            super().go_on()
        elif self.waiting:
            self._at_packet_start = True
            taken = self.waiting.take()
            # What is not processed now goes to `unprocessed`, and may stay there for long.
            self._hold(len(taken))
            self._run(taken, 0)
        if self.waiting or (self.unprocessed is not None and self.waiting is not None):
            self._at_packet_start = False
        else:
            self._wait_no_more()

    def _begin_to_wait(self) -> WaitingDeliveries:
        waiting = self.waiting = WaitingDeliveries(self.meter, self._skip)
        begun, self._partial = self._partial or b"", None
        rest, self.unprocessed = self.unprocessed, None
        self._skip, self._at_packet_start = 0, False
        self._let_go()
        waiting.begin(begun)
        if rest is not None:
            waiting.add(rest[self._at :])
        return waiting

    def _wait_no_more(self) -> None:
        if self.waiting is None:
            return
        begun, self._skip = self.waiting.end()
        self.waiting = None
        self._at_packet_start = not self._skip
        if begun:
            self._keep(begun, 0, len(begun) + 1)

    def _gather(self, chunk: bytes) -> bytes | None:
        if self.unprocessed is None and self.waiting is None:
            return super()._gather(chunk)
        waiting = self._begin_to_wait() if self.waiting is None else self.waiting
        waiting.add(chunk)
        if waiting.dropped:
            dropped, waiting.dropped = waiting.dropped, 0
            self.dropped += dropped
            self.meter.messages += dropped
            self._context.counters.messages_ended[TO_DEVICES] += dropped
            self._context.counters.deliveries_dropped += dropped
        return None

    def release(self) -> None:
        """Drop what is held here: the connection ends."""
        super().release()
        if self.waiting is not None:
            self.waiting.end()
            # Dropped when it is no longer counted, for this object may outlive the connection by seconds.
            self.waiting = None

    def handle(self, data: bytes, pos: int, body_at: int, end: int) -> bytes | None:
        """Decide about one packet of the bus."""
        if data[pos] & 0xF0 == 0x30:
            return self._publish(data, pos, body_at, end)
        kind = check_first_byte(data[pos])
        if kind == PacketType.PUBACK:
            return self.acknowledged(data, pos, end, 1)
        if kind == PacketType.PUBREC:
            return self.acknowledged(data, pos, end, 2)
        if kind == PacketType.PUBREL:
            return self._pubrel(data, body_at, end)
        if kind == PacketType.SUBACK:
            return self._subscriptions.suback(data, body_at, end)
        if kind == PacketType.UNSUBACK:
            return self._subscriptions.unsuback(data, body_at, end)
        if kind == PacketType.PUBCOMP:
            self.other_ledger.completed += 1
            return None
        if kind == PacketType.PINGRESP:
            is_of_device = self._heartbeat.bus_ponged()
            self.stopped = self._heartbeat.is_drained
            return None if is_of_device else b""
        if kind == PacketType.DISCONNECT and self.version is Version.V5:
            self.stopped = True
            self.bus_disconnect_reason = data[body_at] if body_at < end else Reason.SUCCESS
            return None
        raise ProtocolError("a packet that a server may not send here")

    def _pubrel(self, data: bytes, body_at: int, end: int) -> bytes | None:
        if not self._swallowed:
            return None
        packet_id = decode_packet_id(data, body_at, end)
        if packet_id not in self._swallowed:
            return None
        self._swallowed = without_id(self._swallowed, packet_id)
        self.answers.append(encode_ack(PacketType.PUBCOMP, packet_id))
        return b""

    def _publish(self, data: bytes, pos: int, body_at: int, end: int) -> bytes | None:  # noqa: C901 - one way, and no call for each step of it
        try:
            packet = decode_publish(data, pos, body_at, end, self.version)
        except LimitExceeded as error:
            # Whoever sent it must not be able to throw this receiver out, again at each redelivery.
            self.meter.effort += EFFORT_TOO_MANY_PROPERTIES
            return self._swallow_unread(data, pos, body_at, end, str(error))
        if packet.properties and find(packet.properties, PropertyId.TOPIC_ALIAS):
            raise ProtocolError("a topic alias that nobody asked for")
        self.meter.messages += 1
        header = packet.payload_at - body_at
        if header > HEADER_BYTES_FREE:
            self.meter.effort += header_effort(len(packet.topic), header)
        cached = self.verdicts.get(packet.topic) or self._cached(packet.topic)
        size = end - packet.payload_at
        replacement: bytes | None = None
        authorizer = self._authorizer
        if not cached.decision.allowed:
            if not authorizer.observes(cached.topic, cached.decision):
                return self._refuse(packet, cached, cached.decision)
            authorizer.let_pass(Action.SUBSCRIBE, cached, cached.decision)
        envelope: Envelope | None = None
        plain = b""
        may_open = cached.may_open
        if cached.sensitive and size:
            self.meter.effort += EFFORT_SEALED + (size >> 8)
            opened = self._open(packet, cached, data[packet.payload_at : end])
            if opened is None:
                return self._swallow(packet)
            envelope, plain = opened
            # A rule's `max_payload` means the payload as it was before sealing.
            size = len(plain)
        elif cached.sensitive and not packet.retain:
            # Not sealed: anybody on the bus may have sent it. With the retain flag it only says that the
            # topic was cleared.
            self._context.counters.empty_unsealed_dropped += 1
            return self._swallow(packet)
        if cached.conditional:
            # Rules on QoS were applied to the subscription: they have no part in a delivery.
            decision = cached.decision.with_message(0, packet.retain, size)
            if not decision.allowed:
                if not authorizer.observes(cached.topic, decision):
                    return self._refuse(packet, cached, decision)
                authorizer.let_pass(Action.SUBSCRIBE, cached, decision)
                may_open = False  # observe mode gives nobody the plaintext
        if envelope is not None:
            payload = plain if may_open else canonical(envelope)
            if not data.startswith(payload, packet.payload_at) or len(payload) != end - packet.payload_at:
                replacement = rebuilt(data, pos, body_at, packet.payload_at, payload)
        length = end - pos if replacement is None else len(replacement)
        if length > self.unchanged_max_size:
            # Behave as if it had been sent [MQTT-3.1.2-25].
            self._context.counters.deliveries_too_large += 1
            return self._swallow(packet)
        self.ledger.passed(packet.qos)
        if cached.passes_always:
            self.remember_header(packet, data, pos, body_at, end)
        if envelope is not None and may_open:
            self._context.counters.opened += 1
        return replacement

    def _open(self, packet: Publish, cached: CachedVerdict, message: bytes) -> tuple[Envelope, bytes] | None:
        """The envelope of a message on a sensitive topic, and its plaintext. None: not to be delivered."""
        try:
            envelope = read_envelope(message, topic=cached.topic)
            plain = open_envelope(self._context.ring, envelope)
        except OpenFailed as error:
            self._context.counters.open_failed += 1
            self._reports.add(failed_open(str(error), cached.topic))
            return None
        if envelope.rewrapped and not packet.retain:
            # It was delivered when it was first sealed; this is the same message under another key.
            self._context.counters.rewrapped_dropped += 1
            return None
        return envelope, plain

    def _cached(self, topic: bytes) -> CachedVerdict:
        authorizer = self._authorizer
        self.meter.effort += authorizer.token_effort
        cached = authorizer.receive(topic_text(topic))
        if cached.decision.allowed:  # what refuses it, or lets it pass, records that
            authorizer.record(Action.SUBSCRIBE, cached.topic, cached.decision)
        if cached.opening is not None:
            authorizer.record(Action.DECRYPT, cached.topic, cached.opening)
        return keep(self.verdicts, topic, cached)

    def _refuse(self, packet: Publish, cached: CachedVerdict, decision: Decision) -> bytes:
        """Swallow what the policy denies, and report it once per topic."""
        own = self._authorizer.policy.reserved + CHECKS
        if not cached.topic.startswith(own):  # a wide subscription matches the gateway's health checks too
            self._context.counters.deliveries_denied += 1
            self._authorizer.refuse(Action.SUBSCRIBE, cached, decision)
        return self._swallow(packet)

    def _swallow(self, packet: Publish) -> bytes:
        """Acknowledge to the bus what the device does not get."""
        self._context.counters.messages_ended[TO_DEVICES] += 1
        if packet.qos == 0:
            return b""
        most = self._authorizer.limits.in_flight
        kind = PacketType.PUBACK
        if packet.qos == 2:
            kind = PacketType.PUBREC
            if len(self._swallowed) >= most:
                raise LimitExceeded("too many unfinished QoS 2 messages")
            self._swallowed = with_id(self._swallowed, packet.packet_id)
        answer = self.ledger.answer(packet.qos, encode_ack(kind, packet.packet_id), most)
        if answer:
            self.answers.append(answer)
        return b""

    def skip_oversized(self, data: bytes, pos: int, body_at: int, end: int) -> bool:
        """A packet too long to hold: a PUBLISH is swallowed by its header, without being gathered."""
        if data[pos] >> 4 != PacketType.PUBLISH:
            return super().skip_oversized(data, pos, body_at, end)
        if end - pos < _HEADER_MAX:
            return False
        limits = self._authorizer.limits
        location, limit = limits.location("packet_size"), limits.packet_size
        self._swallow_unread(
            data, pos, body_at, end, f"the message is longer than packet_size = {limit:,} ({location})"
        )
        return True

    def _swallow_unread(self, data: bytes, pos: int, body_at: int, end: int, why: str) -> bytes:
        # Up to the packet identifier both versions look alike.
        packet = decode_publish(data, pos, body_at, end, Version.V311)
        self.meter.messages += 1
        self._context.counters.deliveries_too_large += 1
        self._reports.add(failed_delivery(why))
        return self._swallow(packet)


def _bus_limit(authorizer: Authorizer) -> int:
    # Not below what is needed to see a whole header.
    return max(authorizer.limits.packet_size * _ENVELOPE_ROOM, _HEADER_MAX)
