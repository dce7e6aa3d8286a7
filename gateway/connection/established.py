"""An established connection: its two relays, the budget they share, and the heartbeat between them.

Owns all that depends on time, which it gets as ticks. Must not know how the connection was established
(`gateway.connection.opening`), nor which state it is in: `gateway.connection.transition_table` calls the
handler that fits.
"""

from __future__ import annotations

from gateway.connection.authorizer import Authorizer
from gateway.connection.bus_holdings import ConnectionHoldings
from gateway.connection.bus_pings import Heartbeat
from gateway.connection.commands import AwaitTurn, Command, PauseDevice, SendToBus, SendToDevice
from gateway.connection.connect import Terms, identity_of
from gateway.connection.device_budgets import Meter
from gateway.connection.downstream import Downstream
from gateway.connection.events import Answer, BusBytes, DeviceBytes, Tick, Turn
from gateway.connection.handler_outcomes import Ended, Fault, Result, SaidGoodbye
from gateway.connection.limit_reports import too_fast, too_long, too_slow
from gateway.connection.passed_message_counts import PassedMessages
from gateway.connection.process_context import Context
from gateway.connection.refusal_report_limit import Reports
from gateway.connection.service_calls import answer_within
from gateway.connection.subscriptions import Subscriptions
from gateway.connection.upstream import Upstream
from gateway.connection.writes import sent
from gateway.mqtt.acknowledgement_order import Ledger
from gateway.mqtt.encode import PINGREQ, encode_disconnect
from gateway.mqtt.errors import LimitExceeded, MqttError, PacketOverLimit, Refused, Unanswerable
from gateway.mqtt.packets import Connack, Version
from gateway.mqtt.properties import PropertyId, find_number
from gateway.mqtt.reason_codes import Reason, why_ended
from gateway.policy.engine.decision_recorder import RECORD_AGAIN_SECONDS
from gateway.policy.engine.identity import Device, Grant, Identity
from gateway.policy.engine.limits import ANY_SIZE
from gateway.policy.engine.policy import Action

_NOTHING_NEW_FROM_DEVICE = DeviceBytes(b"")
_NOTHING_NEW_FROM_BUS = BusBytes(b"")
"""Events without bytes: process what waits for its turn."""
_GOODBYE = Ended([], "the device said goodbye")


class EstablishedConnection:
    """What passes between a device and the bus once both the gateway and the bus accepted its CONNECT."""

    __slots__ = (
        "_budget",
        "_context",
        "_meter",
        "_partial_packets_before",
        "_passed",
        "_reports",
        "_second",
        "_stuck_ticks",
        "authorizer",
        "device",
        "downstream",
        "from_bus_early",
        "heartbeat",
        "holdings",
        "leaving_ticks",
        "planned_end",
        "seconds_since_recorded",
        "subscriptions",
        "terms",
        "upstream",
    )

    def __init__(
        self,
        context: Context,
        terms: Terms,
        device: Device,
        authorizer: Authorizer,
        *,
        reports: Reports,
        holdings: ConnectionHoldings,
    ) -> None:
        """`reports` is where `authorizer` puts its reports, too."""
        self._context = context
        self.terms = terms
        self.device = device
        """As the store has it: without the narrower rights of a token."""
        self.holdings = holdings
        self.from_bus_early = bytearray()
        """While opening: as much of the CONNACK as has come."""
        self._reports = reports
        self.authorizer = authorizer
        budget = self._budget = context.budgets.join(device.device_id, authorizer.limits)
        subscriptions = self.subscriptions = Subscriptions(
            context, terms.version, reports, holdings, budget, filters_min=0 if terms.mqtt31 else 1
        )
        self._meter = budget.from_device
        from_device, from_bus = Ledger(), Ledger()
        self.heartbeat = Heartbeat(terms.keep_alive)
        self.upstream = Upstream(
            context,
            terms,
            authorizer=authorizer,
            subscriptions=subscriptions,
            holdings=holdings,
            heartbeat=self.heartbeat,
            ledger=from_device,
            other_ledger=from_bus,
            meter=budget.from_device,
        )
        # More than the standard asks for [MQTT-4.12.0-7]: few libraries can name a method in CONNECT.
        self.upstream.renewable |= terms.version is Version.V5 and self.identity.grant is not None
        self.downstream = Downstream(
            context,
            terms,
            authorizer=authorizer,
            subscriptions=subscriptions,
            reports=reports,
            heartbeat=self.heartbeat,
            ledger=from_bus,
            other_ledger=from_device,
            meter=budget.from_bus,
        )
        self.planned_end = _GOODBYE
        """How it ends, after a goodbye or a drain, if the bus does not close it first."""
        self.leaving_ticks = 0
        """Ticks since it began to wait for the bus alone, after a goodbye or a fault."""
        self._partial_packets_before = self._stuck_ticks = 0
        """`Relay.partial_packets` at the last tick, and for how many ticks the same packet is incomplete."""
        self._second, self.seconds_since_recorded = -1, 0
        """Number of the last tick's second, -1 for none; seconds since its decisions were last recorded."""
        self._passed = PassedMessages(context.counters, self.upstream, self.downstream)

    @property
    def identity(self) -> Identity:
        """What the rules are asked with: the device, its client id, and the rights of its token."""
        return self.authorizer.identity

    @property
    def sealing_device_id(self) -> str:
        """The device's id if any topic it may publish to is sensitive; empty if none is."""
        identity = self.identity
        seals = identity.observe_until or self.authorizer.policy.may_need_sealing(identity.roles)
        return identity.device_id if seals else ""

    def begin(self, connack: Connack) -> None:
        """The bus accepted the CONNECT: apply the limits that its CONNACK names."""
        properties = connack.properties
        lifetime = find_number(properties, PropertyId.SESSION_EXPIRY_INTERVAL, -1) if properties else -1
        self.holdings.established(
            session_present=connack.session_present, lifetime=None if lifetime < 0 else lifetime
        )
        self.upstream.aliases.alias_max = find_number(properties, PropertyId.TOPIC_ALIAS_MAXIMUM, 0)
        if self.terms.version is Version.V5:
            self._context.bus_packet_max = find_number(properties, PropertyId.MAXIMUM_PACKET_SIZE, ANY_SIZE)
            self.upstream.bound_by_bus(self._context.bus_packet_max)
        # In 3.1.1 the bus does not say how long a packet may be: what it said last in MQTT 5 holds.
        self.upstream.receiver_max_size = self._context.bus_packet_max
        heartbeat = self.heartbeat
        heartbeat.keep_alive = find_number(properties, PropertyId.SERVER_KEEP_ALIVE, heartbeat.keep_alive)

    def passes(self, data: bytes) -> bool:
        """Whether a chunk from the device may go to the bus unchanged. If so, it is counted here."""
        meter = self._meter
        if (
            meter.bytes + len(data) > meter.bytes_left
            or meter.effort > meter.effort_left
            or not self.upstream.takes_fast_path(data)
        ):
            return False
        meter.bytes += len(data)
        heartbeat = self.heartbeat
        heartbeat.heard, heartbeat.silent = False, 0
        return True

    def passes_to_device(self, data: bytes) -> bool:
        """The same of a chunk from the bus."""
        passes = self.downstream.takes_fast_path(data)
        if passes:
            self._context.counters.bytes_to_devices += len(data)
        return passes

    def device_bytes(self, event: DeviceBytes) -> Result:
        """A chunk from the device; an empty one processes what waits for its turn."""
        data = event.data
        upstream, heartbeat = self.upstream, self.heartbeat
        meter = self._meter
        error: MqttError | None = None
        meter.bytes += len(data)
        try:
            if data:
                upstream.feed(data)
            else:
                upstream.go_on()
        except MqttError as caught:
            # A traceback holds this frame, which holds the error: a reference cycle that would keep the
            # connection alive until the garbage collector runs.
            error = caught.with_traceback(None)
        commands: list[Command] = []
        if upstream.out:
            commands += sent(SendToBus, upstream.out)
            heartbeat.heard, heartbeat.silent = False, 0
        else:
            heartbeat.heard = True
        if upstream.answers:
            commands += sent(SendToDevice, upstream.answers)
        if upstream.requests:
            commands += upstream.requests
            upstream.requests = []
        if self._reports.pending:
            self._take_reports(commands)
        if error is not None:
            if isinstance(error, PacketOverLimit):
                commands.append(too_long(self.authorizer.limits, self._context.counters))
            return self._fault(error, commands)
        # `Meter.is_exceeded`, without the call: this is done for each chunk.
        if (
            meter.messages > meter.messages_left
            or meter.bytes > meter.bytes_left
            or meter.effort > meter.effort_left
        ):
            if report := too_fast(self._budget, self.authorizer.limits, self._context.counters):
                commands.append(report)
            commands.append(PauseDevice())
        elif upstream.unprocessed is not None:
            commands.append(AwaitTurn())
        return SaidGoodbye(commands) if upstream.stopped else commands

    def bus_bytes(self, event: BusBytes) -> list[Command] | Ended:
        """A chunk from the bus; an empty one processes what waits for its turn."""
        data = event.data
        downstream = self.downstream
        error: MqttError | None = None
        self._context.counters.bytes_to_devices += len(data)
        try:
            if data:
                downstream.feed(data)
            else:
                downstream.go_on()
        except MqttError as caught:
            error = caught.with_traceback(None)  # as above
        commands: list[Command] = []
        if downstream.out:
            commands += sent(SendToDevice, downstream.out)
        if downstream.answers:
            commands += sent(SendToBus, downstream.answers)
        if self._reports.pending:
            self._take_reports(commands)
        if error is not None:
            return self._failed(error, commands)
        if downstream.stopped:
            # Never after the bus's own DISCONNECT: a device gets one DISCONNECT.
            if self.heartbeat.is_drained:
                return Ended(commands + self.planned_end.commands, self.planned_end.why)
            return Ended(
                commands, f"the bus ended the session: {why_ended(downstream.bus_disconnect_reason)}"
            )
        if downstream.unprocessed is not None or downstream.waiting is not None:
            dropped, downstream.dropped = downstream.dropped, 0
            if dropped and (report := too_slow(self._budget, self.authorizer.limits, self._context.counters)):
                commands.append(report)
            if self._meter.work.iteration_is_full or downstream.may_go_on:
                commands.append(AwaitTurn())
        return commands

    def turn(self, _: Turn) -> Result:
        """It is its turn again: process a slice of what waits, in both directions."""
        commands: list[Command] = []
        if self.upstream.unprocessed is not None and self._meter.is_exceeded:
            commands.append(PauseDevice())  # it could do nothing in its turns before the next tick
        elif self.upstream.unprocessed is not None:
            result = self.device_bytes(_NOTHING_NEW_FROM_DEVICE)
            if isinstance(result, SaidGoodbye | Fault) and self.downstream.waits:
                # The bus was sent the device's last packet: its answers are processed in the next turn.
                result.commands.append(AwaitTurn())
            if not isinstance(result, list):
                return result
            commands = result
        rest = self.process_waiting_from_bus()
        return commands + rest if isinstance(rest, list) else Ended(commands + rest.commands, rest.why)

    def process_waiting_from_bus(self) -> list[Command] | Ended:
        """Process a slice of what the bus sent."""
        return self.bus_bytes(_NOTHING_NEW_FROM_BUS) if self.downstream.may_go_on else []

    def answer(self, answer: Answer) -> list[Command]:
        """What a service answers to a request of this connection: for this device alone."""
        identifiers = self.subscriptions.identifiers(answer.topic)
        packet = answer_within(self.terms.device_max_size, answer, self.terms.version, identifiers)
        commands: list[Command] = [SendToDevice(packet)] if packet else []
        if answer.report is not None:
            self._reports.add(answer.report)
            self._take_reports(commands)
        return commands

    def take_device(self, device: Device) -> None:
        """Apply the policy in force to the device as it is now, with the same token as before."""
        self.device = device
        self.take_rules(device, self.identity.grant)

    def take_rules(self, device: Device, grant: Grant | None) -> None:
        """Apply the policy in force to this device and token, for both directions at once."""
        before = self.identity
        identity = identity_of(device, grant, before.client_id, before.certificate_ends)
        authorizer = self.authorizer = Authorizer(self._context, identity, self._reports)
        self.upstream.authorize_by(authorizer)
        self.downstream.authorize_by(authorizer)

    def begin_second(self, second: int) -> None:
        """Count what passed, and give the device its budget for a new second."""
        self._budget.tick(second, self.authorizer.limits, self._context.counters)
        self._passed.count()

    def bus_waits(self) -> list[Command]:
        """Ask for a turn if something the bus sent is unprocessed."""
        return [AwaitTurn()] if self.downstream.may_go_on else []

    def tick(self, event: Tick) -> Result:
        """One second has passed, or several without ticks: budgets, deadlines, heartbeat."""
        commands: list[Command] = []
        upstream, budget = self.upstream, self._budget
        before, self._second = self._second, event.second
        seconds = event.second - before if 0 <= before < event.second else 1
        self.begin_second(event.second)
        self.seconds_since_recorded += seconds
        if self.seconds_since_recorded >= RECORD_AGAIN_SECONDS:
            self._record_again()
        self.subscriptions.record_some(self.authorizer)
        self._reports.tick()
        self._take_reports(commands)
        if upstream.has_partial_packet and upstream.partial_packets == self._partial_packets_before:
            self._stuck_ticks += event.reading
            if self._stuck_ticks > self.authorizer.limits.packet_seconds:
                return self._failed(LimitExceeded("a packet took too long to come"), commands)
        else:
            self._partial_packets_before, self._stuck_ticks = upstream.partial_packets, 0
        if budget.from_device.is_used_up_by_debt:
            commands.append(PauseDevice())
        elif upstream.unprocessed is not None:
            commands.append(AwaitTurn())
        commands += self.bus_waits()
        if self.heartbeat.tick(seconds):
            commands.append(SendToBus(PINGREQ))
        return commands

    def _record_again(self) -> None:
        """Drop all verdicts, so that a long-lived connection's decisions are made and recorded once more."""
        self.seconds_since_recorded = 0
        authorizer = self.authorizer
        self.upstream.authorize_by(authorizer)
        self.downstream.authorize_by(authorizer)
        self.subscriptions.begin_recording()
        if (will := self.terms.will) is not None:
            authorizer.record(Action.PUBLISH, will.topic, authorizer.will(will).on_topic)

    @property
    def tls_meter(self) -> Meter:
        """What decrypting the device's TLS may cost in this second."""
        return self._budget.tls

    def end(self) -> list[Command]:
        """Free what is held, count what passed and what stays on the bus. Returns the last reports."""
        self.upstream.release()
        self.downstream.release()
        self._budget.count_up(self._context.counters)
        self._budget.connections -= 1
        self.subscriptions.release()
        self._passed.count()
        self.holdings.end(self._context.now() // 1_000)
        self.holdings.remove_publisher(self.upstream)
        self._reports.tick()
        return [*self._reports.pending]

    def disconnect_device(self, reason: Reason, why: str, *before: Command) -> Ended:
        """End the connection; in MQTT 5 the device gets a DISCONNECT that says why."""
        commands = list(before)
        if self.terms.version is Version.V5:
            commands.append(SendToDevice(encode_disconnect(reason, self.terms.explanation(why))))
        return Ended(commands, why)

    def _fault(self, error: MqttError, commands: list[Command]) -> Fault | Ended:
        """A fault of the device: it gets what the bus still has to answer first, as on Mosquitto."""
        answered = self.heartbeat.all_answered and not self.upstream.unanswered
        if answered or isinstance(error, LimitExceeded):
            return self._failed(error, commands)
        self.planned_end = self._failed(error, [])
        self.heartbeat.drain()
        return Fault([*commands, SendToBus(PINGREQ)])

    def _failed(self, error: MqttError, commands: list[Command]) -> Ended:
        """End the connection after these commands: a peer broke the protocol or a bound."""
        self._context.counters.protocol_errors += 1
        if isinstance(error, LimitExceeded | PacketOverLimit | Refused):
            return self.disconnect_device(error.reason, str(error), *commands)
        # A fault of the protocol gets its code and no words, or nothing at all, as Mosquitto answers it.
        if self.terms.version is Version.V5 and not isinstance(error, Unanswerable):
            commands.append(SendToDevice(encode_disconnect(error.reason)))
        return Ended(commands, str(error))

    def _take_reports(self, commands: list[Command]) -> None:
        commands += self._reports.pending
        self._reports.pending = []
