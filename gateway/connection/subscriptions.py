"""SUBSCRIBE, decided filter by filter, and its SUBACK, put together again in order (MQTT 5, 3.8, 3.9).

Owns which SUBSCRIBEs wait for the bus and how many filters a connection holds. Filters for the gateway's own
service topics stay here: the bus never sees them. That a filter was allowed gives no right to what it
matches: `gateway.connection.downstream` decides about each topic.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import islice

from gateway.connection.audit_vocabulary import refused_subscribe
from gateway.connection.authorizer import Authorizer
from gateway.connection.bus_holdings import ConnectionHoldings, Kind
from gateway.connection.device_budgets import EFFORT_DECODED, SLICE_EFFORT, Budget
from gateway.connection.limit_reports import too_many_filters
from gateway.connection.one_way_relay import UNFINISHED
from gateway.connection.process_context import EMPTY_SET, Context
from gateway.connection.refusal_report_limit import Reports
from gateway.mqtt.data_types import Reader, decode_utf8
from gateway.mqtt.decode import decode_packet_id, decode_subscribe, decode_unsubscribe
from gateway.mqtt.encode import (
    encode_properties,
    encode_suback,
    encode_subscribe,
    encode_unsuback,
    encode_unsubscribe,
)
from gateway.mqtt.errors import LimitExceeded, MalformedPacket, ProtocolError
from gateway.mqtt.packets import Subscribe, Subscription, Version
from gateway.mqtt.properties import IN_ACKNOWLEDGEMENT, PropertyId, join, read_properties
from gateway.mqtt.reason_codes import Reason
from gateway.mqtt.topics import (
    NO_SHARED_FILTER,
    NO_SHARED_GROUP,
    depth_fault,
    filter_fault,
    matches,
    unshared,
)
from gateway.policy.engine.decision_recorder import RECORD_AGAIN_SECONDS
from gateway.policy.engine.limits import Limits

_FAILURE_311 = 0x80
"""The code of a filter that is refused (MQTT 3.1.1, 3.9.3)."""
_NO_LOCAL = 0x04
"""Its bit in the options of a filter (MQTT 5, 3.8.3.1)."""
_OWN_BYTES_MAX = 131_072
"""Bytes of filters for the gateway's own topics: each is kept whole, to match answers with it."""
_OWN_BYTES_PER_PACKET = 64
"""Bytes of those filters that can be matched with a topic for the effort of one packet."""
_KEPT_BYTES_MAX = 128
"""Longest filter that is kept as it is, in bytes; of a longer one a digest is kept."""
_LENGTH_SHIFT = 4
"""Right shift: a filter costs one unit of effort for every 16 bytes, as the topic of a PUBLISH does."""
_DIGEST = b"\0"
"""First byte of a digest, which no filter has [MQTT-4.7.3-2]."""

_OF_BUS = 0xFF
"""Stands for a code that the bus will give; it is no reason code (MQTT 5, 2.4)."""
_KEPT_CODES_MAX = 65_536
"""Codes kept on one connection, for packets that wait for the bus and have a code of ours; each `_OF_BUS` in
them counts, too. A packet has 4,096 filters at most."""
_Waiting = list[tuple[int, bytes]] | tuple[()]
"""Packet ids that the bus is to answer, each with one code per filter: ours, or `_OF_BUS`; with none if none
is ours, or the answer has no codes (UNSUBACK before MQTT 5). In order, for a packet id may come twice. Most
connections wait for none, and share the tuple."""
_NOTHING: tuple[()] = ()


class _PendingSubscribe:
    """A SUBSCRIBE of whose filters the first `len(codes)` are decided."""

    __slots__ = ("changed", "codes", "granted", "identifier", "packet")

    def __init__(self, packet: Subscribe) -> None:
        self.packet = packet
        self.codes = bytearray()
        self.granted: list[Subscription] = []
        self.changed = False
        """Whether the bus gets less than what came."""
        self.identifier = next(
            (one.raw for one in packet.properties if one.identifier == PropertyId.SUBSCRIPTION_IDENTIFIER),
            b"",
        )


class Subscriptions:
    """The subscriptions made on one connection."""

    __slots__ = (
        "_budget",
        "_budget_share",
        "_context",
        "_filters",
        "_filters_min",
        "_holdings",
        "_kept_codes",
        "_own",
        "_own_size",
        "_pending",
        "_reports",
        "_subscribing",
        "_unrecorded",
        "_unsubscribing",
        "_version",
    )

    def __init__(
        self,
        context: Context,
        version: Version,
        reports: Reports,
        holdings: ConnectionHoldings,
        budget: Budget,
        *,
        filters_min: int = 1,
    ) -> None:
        """`filters_min`: how many topic filters a packet has to have at least."""
        self._budget = budget
        # Filters of this connection that its device's budget counts.
        self._budget_share = 0
        self._filters_min = filters_min
        self._context = context
        self._holdings = holdings
        self._version = version
        self._reports = reports
        self._filters: frozenset[bytes] | set[bytes] = EMPTY_SET
        # Those for the gateway's own topics, each with its Subscription Identifier as encoded in the packet.
        self._own: dict[str, bytes] = {}
        self._own_size = 0
        self._subscribing: _Waiting = _NOTHING
        self._unsubscribing: _Waiting = _NOTHING
        self._kept_codes = 0
        # A SUBSCRIBE that took more than a slice of work.
        self._pending: _PendingSubscribe | None = None
        # Keys of filters whose decisions are still to be recorded again.
        self._unrecorded: list[bytes] | tuple[()] = _NOTHING

    @property
    def unanswered(self) -> bool:
        """Whether the bus has a SUBSCRIBE or an UNSUBSCRIBE to answer."""
        return bool(self._subscribing or self._unsubscribing)

    def subscribe(
        self, data: bytes, body_at: int, end: int, authorizer: Authorizer, answers: list[bytes]
    ) -> bytes | None:
        """What of a SUBSCRIBE goes to the bus; None for all of it, as it came.

        UNFINISHED after a slice of work: a packet of thousands of filters takes several. Its effort is
        counted here, for each filter when it is decided.
        """
        pending = self._pending
        if pending is None:
            pending = _PendingSubscribe(
                decode_subscribe(data, body_at, end, self._version, filters_min=self._filters_min)
            )
        packet, codes, granted = pending.packet, pending.codes, pending.granted
        self._decide_some(pending, authorizer)
        if len(codes) < len(packet.subscriptions):
            self._pending = pending
            return UNFINISHED
        self._pending = None
        if not granted:
            properties = encode_properties([], self._version)
            answers.append(encode_suback(packet.packet_id, properties, bytes(codes)))
            return b""
        has_own_codes = codes.count(_OF_BUS) < len(codes)
        self._subscribing = self._await_bus(
            self._subscribing, packet.packet_id, codes if has_own_codes else b"", authorizer.limits.in_flight
        )
        if not pending.changed:
            return None
        properties = encode_properties(packet.properties, self._version)
        return encode_subscribe(packet.packet_id, properties, granted)

    def _decide_some(self, pending: _PendingSubscribe, authorizer: Authorizer) -> None:
        """Decide the next filters of a SUBSCRIBE, as many as fit into a slice of work; at least one."""
        meter, effort = self._budget.from_device, authorizer.filter_effort
        most = meter.effort + SLICE_EFFORT
        for one in islice(pending.packet.subscriptions, len(pending.codes), None):
            meter.effort += effort + (len(one.filter) >> _LENGTH_SHIFT)
            code, subscription = self._decide(one, authorizer, pending.identifier)
            pending.codes.append(code)
            pending.changed = pending.changed or subscription is not one
            if subscription is not None:
                pending.granted.append(subscription)
            if meter.effort >= most:
                return

    def _decide(
        self, one: Subscription, authorizer: Authorizer, identifier: bytes
    ) -> tuple[int, Subscription | None]:
        """Our code for this filter, or `_OF_BUS`; and what of it goes to the bus, None for nothing."""
        text = _filter_text(one.filter)
        if one.options & _NO_LOCAL and text.startswith("$share/"):
            raise ProtocolError("No Local on a shared subscription")  # [MQTT-3.8.3-4]
        v5 = self._version is Version.V5
        decision = authorizer.subscribe(text)
        observed = authorizer.record_filter(text, decision)
        max_qos = decision.max_qos if decision.allowed else 2
        if not decision.allowed:
            if not observed:
                self._context.counters.subscriptions_denied += 1
                self._reports.add(refused_subscribe(decision.reason, text, decision.rule_location))
                return (Reason.NOT_AUTHORIZED if v5 else _FAILURE_311), None
            authorizer.let_subscribe(text, decision)
        key = _key(one.filter)
        if key not in self._filters:
            is_own = authorizer.policy.reserves(text)
            own_size = self._own_size + len(one.filter) if is_own else 0
            limits = authorizer.limits
            most_filters = limits.subscriptions
            full = (
                len(self._filters) >= most_filters
                or own_size > _OWN_BYTES_MAX
                or self._is_full(one.filter, limits)
            )
            if full or not (is_own or self._holdings.subscribe(one.filter, most_filters)):
                self._context.counters.holdings_refused[Kind.SUBSCRIPTION] += 1
                reason = too_many_filters(limits, self._context.counters)
                self._reports.add(
                    refused_subscribe(reason, text, limits.role_locations.get("subscriptions", ""))
                )
                return (Reason.QUOTA_EXCEEDED if v5 else _FAILURE_311), None
            if isinstance(self._filters, frozenset):
                self._filters = set()
            self._filters.add(key)
            self._count()
        if authorizer.policy.reserves(text):
            if text not in self._own:
                self._own_size += len(one.filter)
            self._own[text] = identifier
            self._count()
            return one.qos, None
        if one.qos > max_qos:
            # A server may grant less than was asked for (MQTT 5, 3.8.4).
            return _OF_BUS, Subscription(one.filter, one.options & ~3 | max_qos)
        return _OF_BUS, one

    def _is_full(self, topic_filter: bytes, limits: Limits) -> bool:
        """Whether this filter would be one too many for the device, over all its connections."""
        most_filters = limits.subscriptions_in_all
        if most_filters is None or self._holdings.has(topic_filter):
            return False
        return self._holdings.filters_kept + self._budget.filters >= most_filters

    def _count(self) -> None:
        """Have the device's budget count the filters that `ConnectionHoldings` does not count.

        That counts none of the gateway's own topics, nor of a session that ends with its connection.
        """
        count = len(self._own) if self._holdings.keeps else len(self._filters)
        self._budget.filters += count - self._budget_share
        self._budget_share = count

    def release(self) -> None:
        """Take these filters out of the budget: the connection ends."""
        self._budget.filters -= self._budget_share
        self._budget_share = 0

    def begin_recording(self) -> None:
        """Have `record_some` record again the decisions on all filters that are kept whole (`_key`)."""
        self._unrecorded = list(self._filters) or _NOTHING

    @property
    def is_recording(self) -> bool:
        """Whether `record_some` has more to do."""
        return bool(self._unrecorded)

    def record_some(self, authorizer: Authorizer) -> None:
        """Record some of those decisions again, once a second: all of them at once would block the loop."""
        unrecorded = self._unrecorded
        if isinstance(unrecorded, tuple):
            return
        few = unrecorded[-1 - len(self._filters) // RECORD_AGAIN_SECONDS :]
        del unrecorded[-len(few) :]
        if not unrecorded:
            self._unrecorded = _NOTHING
        held = [key.decode() for key in few if key in self._filters and not key.startswith(_DIGEST)]
        # Counts against the loop's iteration, but not against the device: it is the gateway that wants it.
        self._budget.from_device.work.add(len(held) * authorizer.filter_effort)
        for text in held:
            authorizer.record_filter(text, authorizer.subscribe(text))

    @property
    def effort(self) -> int:
        """What `identifiers` costs, in effort (`gateway.connection.device_budgets`)."""
        return self._own_size // _OWN_BYTES_PER_PACKET * EFFORT_DECODED

    def identifiers(self, topic: str) -> bytes:
        """The Subscription Identifiers, encoded, that an answer on this topic carries [MQTT-3.3.4-3]."""
        if self._version is not Version.V5:
            return b""
        return b"".join([raw for own, raw in self._own.items() if raw and matches(own, topic)])

    def unsubscribe(
        self, data: bytes, body_at: int, end: int, authorizer: Authorizer, answers: list[bytes]
    ) -> bytes | None:
        """What of an UNSUBSCRIBE goes to the bus; None for all of it. Nobody needs a right to unsubscribe."""
        packet = decode_unsubscribe(data, body_at, end, self._version, filters_min=self._filters_min)
        codes = bytearray()
        for_the_bus: list[bytes] = []
        for one in packet.filters:
            text = _filter_text(one)
            if authorizer.policy.reserves(unshared(text)):
                existed = self._own.pop(text, None) is not None
                self._own_size -= len(one) if existed else 0
                codes.append(Reason.SUCCESS if existed else Reason.NO_SUBSCRIPTION_EXISTED)
            else:
                codes.append(_OF_BUS)
                for_the_bus.append(one)
                self._holdings.unsubscribe(one)
        if isinstance(self._filters, set):
            self._filters.difference_update(map(_key, packet.filters))
            self._count()
        v5 = self._version is Version.V5
        if not for_the_bus:
            own = bytes(codes) if v5 else b""
            answers.append(encode_unsuback(packet.packet_id, encode_properties([], self._version), own))
            return b""
        is_mixed = len(for_the_bus) < len(codes)
        # An UNSUBACK of 3.1.1 has no codes.
        own_codes = codes if is_mixed and v5 else b""
        self._unsubscribing = self._await_bus(
            self._unsubscribing, packet.packet_id, own_codes, authorizer.limits.in_flight
        )
        if not is_mixed:
            return None
        properties = encode_properties(packet.properties, self._version)
        return encode_unsubscribe(packet.packet_id, properties, for_the_bus)

    def unsuback(self, data: bytes, body_at: int, end: int) -> bytes | None:
        """The bus's UNSUBACK with our codes put in; None when there are none, or nobody waits for it."""
        packet_id = decode_packet_id(data, body_at, end)
        codes, self._unsubscribing = self._take(packet_id, self._unsubscribing)
        if not codes:
            return None
        return encode_unsuback(packet_id, *self._merged(data, body_at, end, codes))

    def suback(self, data: bytes, body_at: int, end: int) -> bytes | None:
        """The bus's SUBACK with our codes put in; None when there are none. Raises ProtocolError."""
        packet_id = decode_packet_id(data, body_at, end)
        codes, self._subscribing = self._take(packet_id, self._subscribing)
        if codes is None:
            raise ProtocolError("a SUBACK nobody waits for")
        if not codes:
            return None
        return encode_suback(packet_id, *self._merged(data, body_at, end, codes))

    def _await_bus(self, waiting: _Waiting, packet_id: int, codes: bytes | bytearray, most: int) -> _Waiting:
        """Wait for the bus's answer to one more packet, `most` at a time. Raises LimitExceeded."""
        if len(waiting) >= most:
            raise LimitExceeded("too many unanswered SUBSCRIBE or UNSUBSCRIBE packets")
        if self._kept_codes + len(codes) > _KEPT_CODES_MAX:
            raise LimitExceeded("too many topic filters in unanswered SUBSCRIBE or UNSUBSCRIBE packets")
        self._kept_codes += len(codes)
        packets = list(waiting) if isinstance(waiting, tuple) else waiting
        packets.append((packet_id, bytes(codes)))
        return packets

    def _take(self, packet_id: int, waiting: _Waiting) -> tuple[bytes | None, _Waiting]:
        """Our codes for the oldest packet of this id, None if none waits; and those that still wait."""
        for at, (waiting_id, codes) in enumerate(waiting):
            if waiting_id == packet_id and isinstance(waiting, list):
                del waiting[at]
                self._kept_codes -= len(codes)
                return codes, waiting or _NOTHING
        return None, waiting

    def _merged(self, data: bytes, body_at: int, end: int, codes: bytes) -> tuple[bytes, bytes]:
        """The properties of the bus's answer, and our codes with the bus's in place of each `_OF_BUS`."""
        reader = Reader(data, body_at + 2, end)
        properties = b""
        if self._version is Version.V5:
            properties = join(read_properties(reader, IN_ACKNOWLEDGEMENT))
        if reader.left != codes.count(_OF_BUS):
            raise ProtocolError("an answer of the bus has the wrong length")
        bus_codes = iter(reader.raw(reader.left))
        return properties, bytes(next(bus_codes) if code == _OF_BUS else code for code in codes)


def _key(topic_filter: bytes) -> bytes:
    """What is kept of a filter, which may have 65,535 bytes: of a long one a digest."""
    if len(topic_filter) <= _KEPT_BYTES_MAX:
        return topic_filter
    return _DIGEST + blake2b(topic_filter, digest_size=16).digest()


def _filter_text(topic_filter: bytes) -> str:
    """A topic filter as text. Raises MqttError when it is not valid (MQTT 5, 4.7 and 4.8.2)."""
    text = decode_utf8(topic_filter)
    fault = filter_fault(text) or depth_fault(text)
    if fault:
        # Its levels are valid, so it is no malformed packet: as on Mosquitto.
        error = ProtocolError if fault in {NO_SHARED_FILTER, NO_SHARED_GROUP} else MalformedPacket
        raise error(f"the topic filter {fault}")
    return text
