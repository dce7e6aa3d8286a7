"""Shows the packets of one connection and what is decided about them, for as long as somebody looks.

    device -> gateway  PUBLISH devices/lamp-1/state/locked    refused, acl/roles/sensor.toml:9
    gateway -> device  PUBACK, code 0x87

A packet that passes unchanged is one line, from one end to the other; one that is changed, answered or left
out has a line for each side that sees it. Verdicts are asked of the connection's own authorizer, which
changes nothing; what the rules do not decide (room on the bus, a rate) shows in the code of the answer,
and in the audit events beside these lines. Tracing counts as the device's effort: of a flood only the
beginning of a chunk is read, and nothing in an iteration of the event loop that is full.

Never shown: payloads, user properties, user names and passwords, tokens. Costs nothing while nobody traces:
`TracedConnection` takes the place of a connection for that time. Whoever gets the lines says how many there
may be; the others are only counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gateway.connection.commands import Command, SendToBus, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.established import EstablishedConnection
from gateway.connection.events import BusBytes, DeviceBytes, Event
from gateway.connection.handler_outcomes import Ended, Outcome
from gateway.connection.opening import Opening
from gateway.connection.transition_table import State
from gateway.connection.verdict_cache import CachedVerdict, topic_text
from gateway.mqtt.decode import decode_subscribe
from gateway.mqtt.errors import MqttError
from gateway.mqtt.packet_summary import (
    Packet,
    PacketReader,
    Shown,
    connect_shown,
    payload_size,
    publish_of,
    shown,
)
from gateway.mqtt.packets import PacketType, Publish, Version
from gateway.mqtt.properties import PropertyId, find_number
from gateway.mqtt.topics import unshared
from gateway.policy.engine.policy import Decision

if TYPE_CHECKING:
    from gateway.connection.authorizer import Authorizer

_FILTERS_MAX = 32
"""Topic filters of one packet that are shown, at most."""
PACKETS_READ_MAX = 1_000
"""Packets of one chunk that are read, at most. A chunk may hold 30,000, of two microseconds each."""
_EFFORT_READ = 2
"""Effort of reading a packet (`gateway.connection.device_budgets`)."""
DEVICE, GATEWAY, BUS = "device", "gateway", "bus"


class ConnectionTrace:
    """Makes the lines that show one connection."""

    def __init__(
        self, put: Callable[[Shown], None], room: Callable[[], bool], missed: Callable[[], None]
    ) -> None:
        """`put` gets each line. `room` says whether one more may be made now, and counts it if not.

        `missed` is called when packets came that were neither shown nor counted.
        """
        self._put = put
        self._room = room
        self._missed = missed
        self._from_device: PacketReader | None = None
        self._from_bus: PacketReader | None = None
        """None until the next packet begins: if tracing starts in the middle of one, that one is left out."""
        self._aliases: dict[int, bytes] = {}
        self._came: list[tuple[str, Packet, Shown]] = []
        """Side, packet and line of what came with the event that is being handled."""

    def connects(self, opening: Opening) -> None:
        """Show the CONNECT, if it is still kept."""
        if opening.pending_connect is not None:
            self._put({"from": DEVICE, "to": GATEWAY, **connect_shown(opening.pending_connect)})

    def before(self, event: Event, stage: Opening | EstablishedConnection) -> None:
        """The connection is about to handle this event."""
        if not isinstance(stage, EstablishedConnection):
            return
        if isinstance(event, DeviceBytes):
            if self._from_device is None and stage.upstream.at_packet_start:
                self._from_device = PacketReader()
                self._aliases = dict(stage.upstream.aliases.topics)
            self._from_device = self._read(DEVICE, self._from_device, event.data, stage)
        elif isinstance(event, BusBytes):
            if self._from_bus is None and stage.downstream.at_packet_start:
                self._from_bus = PacketReader()
            self._from_bus = self._read(BUS, self._from_bus, event.data, stage)

    def _read(
        self, side: str, reader: PacketReader | None, data: bytes, stage: EstablishedConnection
    ) -> PacketReader | None:
        """Read a chunk. Returns the reader; None if it has to start again where a packet begins."""
        if reader is None:
            return None
        meter = (stage.upstream if side == DEVICE else stage.downstream).meter
        if meter.work.iteration_is_full:
            self._missed()
            return None
        for read, packet in enumerate(reader.feed(data)):
            if read == PACKETS_READ_MAX:
                self._missed()
                return None
            meter.effort += _EFFORT_READ
            meter.work.add(_EFFORT_READ)
            # Its alias has to be learned even if there is no room to show it.
            publish = (
                self._publish(packet, stage.terms.version) if packet.kind == PacketType.PUBLISH else None
            )
            if publish is not None and side == DEVICE:
                self._learn(publish)
            if not self._room():
                continue
            line = shown(packet, stage.terms.version)
            try:
                if publish is not None:
                    line |= self._decided(side, packet, publish, stage.authorizer)
                elif packet.kind == PacketType.SUBSCRIBE and side == DEVICE:
                    line |= _filters_decided(packet, stage)
            except MqttError as error:
                line["fault"] = str(error)
            self._came.append((side, packet, line))
        return reader

    def _publish(self, packet: Packet, version: Version) -> Publish | None:
        try:
            return publish_of(packet, version)
        except MqttError:
            return None  # `shown` says what is wrong with it

    def _learn(self, publish: Publish) -> None:
        alias = find_number(publish.properties, PropertyId.TOPIC_ALIAS, 0)
        if alias and publish.topic:
            self._aliases[alias] = publish.topic

    def _decided(self, side: str, packet: Packet, publish: Publish, authorizer: Authorizer) -> Shown:
        line: Shown = {}
        topic = publish.topic
        if not topic:
            topic = self._aliases.get(find_number(publish.properties, PropertyId.TOPIC_ALIAS, 0), b"")
            if not topic:
                return {}
            line["topic"] = topic_text(topic)
        size = payload_size(packet, publish)
        name = topic_text(topic)
        if side == DEVICE:
            cached = authorizer.publish(name)
            if cached.service is not None:
                return line | {"service": cached.service.value}
            decision = cached.decision.with_message(publish.qos, publish.retain, size)
        else:
            cached = authorizer.receive(name)
            decision = cached.decision
            if not cached.sensitive:  # else the size before sealing would count, which is not known here
                decision = decision.with_message(0, publish.retain, size)
        if cached.sensitive:
            line["sensitive"] = True
        return line | _verdict(decision, observed=_observed(authorizer, cached, decision))

    def after(self, commands: list[Command], stage: Opening | EstablishedConnection) -> None:
        """The connection has handled the event, and returned these commands."""
        came, self._came = self._came, []
        version = stage.terms.version if stage.terms is not None else Version.V311
        to_bus = [packet for one in commands if type(one) is SendToBus for packet in _packets(one.data)]
        to_device = [packet for one in commands if type(one) is SendToDevice for packet in _packets(one.data)]
        if isinstance(stage, EstablishedConnection):
            for packets, relay in ((to_bus, stage.upstream), (to_device, stage.downstream)):
                relay.meter.effort += _EFFORT_READ * len(packets)
                relay.meter.work.add(_EFFORT_READ * len(packets))
        passed = {
            DEVICE: Counter(packet.fingerprint for packet in to_bus),
            BUS: Counter(packet.fingerprint for packet in to_device),
        }
        for side, packet, line in came:
            other = BUS if side == DEVICE else DEVICE
            went = passed[side][packet.fingerprint] > 0
            if went:
                passed[side][packet.fingerprint] -= 1
            self._put({"from": side, "to": other if went else GATEWAY, **line})
        for to, packets, source in ((BUS, to_bus, DEVICE), (DEVICE, to_device, BUS)):
            own = passed[source]
            for packet in packets:
                if own[packet.fingerprint] > 0:
                    own[packet.fingerprint] -= 1
                    if self._room():
                        self._put({"from": GATEWAY, "to": to, **shown(packet, version)})

    def ends(self, why: str) -> None:
        """The connection is over."""
        self._put({"event": "closed", "reason": why})


def _packets(data: bytes) -> list[Packet]:
    return list(PacketReader().feed(data))


def _observed(authorizer: Authorizer, cached: CachedVerdict, decision: Decision) -> bool:
    return not decision.allowed and authorizer.observes(cached.topic, decision)


def _filters_decided(packet: Packet, stage: EstablishedConnection) -> Shown:
    if packet.size > len(packet.head):
        return {}
    subscribe = decode_subscribe(packet.head, packet.body, packet.size, stage.terms.version, filters_min=0)
    decided: list[Mapping[str, object]] = []
    for one in subscribe.subscriptions[:_FILTERS_MAX]:
        name = one.filter.decode("utf-8", "backslashreplace")
        decision = stage.authorizer.subscribe(name)
        seen = not decision.allowed and stage.authorizer.observes(unshared(name), decision)
        decided.append({"filter": name, "qos": one.qos, **_verdict(decision, observed=seen)})
    return {"filters": decided}


def _verdict(decision: Decision, *, observed: bool = False) -> Shown:
    line: Shown = {"allowed": decision.allowed or observed}
    if not decision.allowed:
        line["reason"] = decision.reason
    if decision.rule is not None:
        line["rule"] = decision.rule_location
    if observed:
        line["observed"] = True
    return line


class TracedConnection(DeviceConnection):
    """A connection that is traced: it does the same, but each chunk becomes an event."""

    __slots__ = ("_depth", "_over", "_trace")

    def __init__(self, plain: DeviceConnection, trace: ConnectionTrace) -> None:
        self._become(plain)
        self.established = None
        self._trace = trace
        self._depth = 0
        self._over: Ended | None = None

    def show_connect(self) -> None:
        """Show the CONNECT, if it is not answered yet."""
        if isinstance(self._stage, Opening):
            self._trace.connects(self._stage)

    def receive(self, event: Event) -> list[Command]:
        """Handle an event, and show what it was and what came of it."""
        self._trace.before(event, self._stage)
        self._depth += 1
        try:
            commands = super().receive(event)
        finally:
            self._depth -= 1
        if not self._depth:  # bytes that came early are handled within another event, and shown with that one
            self._trace.after(commands, self._stage)
            if self._over is not None:
                self._trace.ends(self._over.why)
                self._over = None
        return commands

    def _follow(self, after: Mapping[type[Outcome], State], outcome: Outcome) -> list[Command]:
        if isinstance(outcome, Ended):
            self._over = outcome
        return super()._follow(after, outcome)

    def _enter(self, state: State) -> None:
        super()._enter(state)
        self.established = None

    def untraced(self) -> DeviceConnection:
        """The same connection, no longer traced."""
        plain = DeviceConnection.__new__(DeviceConnection)
        plain._become(self)  # noqa: SLF001 - of the same class
        return plain
