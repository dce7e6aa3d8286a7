"""An established connection: the two relays, their rate, and the heartbeat between.

Owns what is measured in seconds, by ticks from outside. Must not know how the session came about,
which is `gateway.connection.device_connection`'s.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.connection.audit_reports import refused_login, refused_will
from gateway.connection.authorizer import Authorizer
from gateway.connection.bus_holdings import Holder
from gateway.connection.commands import (
    AwaitTurn,
    Close,
    Command,
    PauseBus,
    PauseDevice,
    SendToBus,
    SendToDevice,
)
from gateway.connection.connect import METHOD_PROPERTY, Terms
from gateway.connection.context import Context
from gateway.connection.downstream import Downstream
from gateway.connection.events import Answer
from gateway.connection.refusal_reports import Reports
from gateway.connection.service_calls import TOO_LARGE, answer_packet
from gateway.connection.subscriptions import Subscriptions
from gateway.connection.upstream import Upstream
from gateway.connection.work_budgets import Meter
from gateway.mqtt.acknowledgement_order import Ledger
from gateway.mqtt.encode import PINGREQ, encode_auth, encode_disconnect
from gateway.mqtt.errors import LimitExceeded, MqttError, Refused, Unanswerable
from gateway.mqtt.packets import Connack, Version
from gateway.mqtt.properties import PropertyId, find_number
from gateway.mqtt.reasons import Reason
from gateway.policy.engine.identity import Device, Grant, Identity
from gateway.policy.engine.limits import ANY_SIZE
from gateway.policy.engine.usage_recorder import AGAIN


class EstablishedConnection:
    """What passes between a device and the bus once both said yes."""

    __slots__ = (
        "_age",
        "_authorizer",
        "_begun",
        "_budget",
        "_context",
        "_downstream",
        "_heard",
        "_reports",
        "_silent",
        "_spoken",
        "_stuck",
        "_subscriptions",
        "from_bus_early",
        "holder",
        "identity",
        "last_words",
        "terms",
        "upstream",
    )

    def __init__(self, context: Context, terms: Terms, identity: Identity, holder: Holder) -> None:
        self._context = context
        self.terms = terms
        self.identity = identity
        self.holder = holder
        self.from_bus_early = bytearray()
        """A CONNACK in pieces."""
        self._reports = Reports()
        authorizer = self._authorizer = Authorizer(context, identity, self._reports)
        subscriptions = self._subscriptions = Subscriptions(context, terms.version, self._reports, holder)
        budget = self._budget = context.budgets.join(identity.device_id, context.policy.limits)
        self._spoken = budget.spoken
        spoken, heard = Ledger(), Ledger()
        self.upstream = Upstream(
            context,
            terms,
            sender=identity.device_id,
            authorizer=authorizer,
            subscriptions=subscriptions,
            holder=holder,
            ledger=spoken,
            returned=heard,
            meter=budget.spoken,
        )
        # More than the standard asks for [MQTT-4.12.0-7]: few libraries can name a method in CONNECT.
        self.upstream.renewable |= terms.version is Version.V5 and identity.grant is not None
        self._downstream = Downstream(
            context,
            terms,
            authorizer=authorizer,
            subscriptions=subscriptions,
            reports=self._reports,
            ledger=heard,
            returned=spoken,
            meter=budget.heard,
        )
        self._heard = False
        """The device spoke since the bus last heard of it."""
        self._silent = 0
        """Ticks since the bus was last sent something."""
        self.last_words: list[Command] = []
        """What the device gets when the bus has answered what went before its fault."""
        self._begun = 0
        self._stuck = 0
        """Ticks for which the same packet has been incomplete."""
        self._age = 0
        """Ticks since all that goes on was recorded anew."""

    @property
    def seals_for(self) -> str:
        """The device, if what it may publish is sealed in places; empty if not."""
        identity = self.identity
        seals = identity.observe_until or self._context.policy.may_need_sealing(identity.roles)
        return identity.device_id if seals else ""

    def begin(self, connack: Connack) -> None:
        """The bus took the session: what it said of itself."""
        properties = connack.properties
        lifetime = find_number(properties, PropertyId.SESSION_EXPIRY_INTERVAL, -1)
        self.holder.established(
            session_present=connack.session_present, lifetime=None if lifetime < 0 else lifetime
        )
        self.upstream.alias_max = find_number(properties, PropertyId.TOPIC_ALIAS_MAXIMUM, 0)
        if self.terms.version is Version.V5:
            self._context.bus_packet_max = find_number(properties, PropertyId.MAXIMUM_PACKET_SIZE, ANY_SIZE)
            self.upstream.bound_by_bus(self._context.bus_packet_max)
        # In 3.1.1 the bus does not say it: what it said last in MQTT 5.
        self.upstream.receiver_max_size = self._context.bus_packet_max
        self.terms.keep_alive = find_number(properties, PropertyId.SERVER_KEEP_ALIVE, self.terms.keep_alive)

    def passes(self, data: bytes) -> bool:
        """Whether a chunk from the device goes to the bus as it came: it is counted then, and that is all."""
        spoken = self._spoken
        if (
            spoken.bytes + len(data) > spoken.bytes_left
            or spoken.effort > spoken.effort_left
            or not self.upstream.alike(data)
        ):
            return False
        spoken.bytes += len(data)
        self._heard, self._silent = False, 0
        return True

    def is_delivered(self, data: bytes) -> bool:
        """Whether a chunk from the bus goes to the device as it came. It is counted then, too."""
        passes = self._downstream.alike(data)
        if passes:
            self._context.counters.bytes_to_devices += len(data)
        return passes

    def device_bytes(self, data: bytes) -> list[Command]:
        """A chunk from the device; an empty one for what waits for its turn."""
        upstream = self.upstream
        spoken = self._spoken
        error: MqttError | None = None
        spoken.bytes += len(data)
        try:
            if data:
                upstream.feed(data)
            else:
                upstream.go_on()
        except MqttError as caught:
            error = caught
        commands: list[Command] = []
        if upstream.out:
            commands.append(SendToBus(_taken(upstream.out)))
            self._heard, self._silent = False, 0
        else:
            self._heard = True
        if upstream.answers:
            commands.append(SendToDevice(_taken(upstream.answers)))
        if upstream.asked:
            commands += upstream.asked
            upstream.asked = []
        if self._reports.pending:
            self._tell(commands)
        if error is not None:
            return commands + self._end(error)
        # `Meter.is_over`, without the call: this is done for each chunk.
        if (
            spoken.messages > spoken.messages_left
            or spoken.bytes > spoken.bytes_left
            or spoken.effort > spoken.effort_left
        ):
            commands.append(PauseDevice())
        elif upstream.rest is not None:
            commands.append(AwaitTurn())
        return commands

    def bus_bytes(self, data: bytes) -> list[Command]:
        """A chunk from the bus; an empty one for what waits for its turn."""
        downstream = self._downstream
        error: MqttError | None = None
        self._context.counters.bytes_to_devices += len(data)
        try:
            if data:
                downstream.feed(data)
            else:
                downstream.go_on()
        except MqttError as caught:
            error = caught
        commands: list[Command] = []
        if downstream.out:
            commands.append(SendToDevice(_taken(downstream.out)))
        if downstream.answers:
            commands.append(SendToBus(_taken(downstream.answers)))
        if self._reports.pending:
            self._tell(commands)
        if error is not None:
            return commands + self._fail(error)
        if downstream.stopped:
            # Not after a DISCONNECT of the bus's own: a device gets one.
            answered = 0 < downstream.last_ping <= downstream.pings
            commands += self.last_words if answered else [Close("the bus ended the session")]
        elif downstream.rest is not None:
            commands.append(PauseBus() if self._budget.heard.is_over else AwaitTurn())
        return commands

    def turn(self) -> list[Command]:
        """Others had their turn: a slice of what waits, in both directions."""
        commands: list[Command] = []
        if self.upstream.rest is not None and not self.upstream.stopped and not self._spoken.is_over:
            commands = self.device_bytes(b"")
            if commands and type(commands[-1]) is Close:
                return commands
            if self.upstream.stopped:
                # The bus was sent the device's DISCONNECT: what it says is looked at in the next turn.
                return [*commands, AwaitTurn()] if self._downstream.rest is not None else commands
        return commands + self.bus_turn()

    def bus_turn(self) -> list[Command]:
        """The same of what comes from the bus."""
        return self.bus_bytes(b"") if self._downstream.rest is not None else []

    @property
    def said_goodbye(self) -> bool:
        """Whether the bus has the device's own DISCONNECT, which ended the will too."""
        return self.upstream.stopped and not self.last_words

    def answer(self, answer: Answer) -> list[Command]:
        """What a service answers to a request of this connection: for this device alone."""
        identifiers = self._subscriptions.identifiers(answer.topic)
        commands: list[Command] = []
        for payload in (answer.payload, TOO_LARGE):
            packet = answer_packet(answer, payload, self.terms.version, identifiers)
            if len(packet) <= self.terms.device_max_size:
                commands.append(SendToDevice(packet))
                break
        if answer.report is not None:
            self._reports.add(answer.report)
            self._tell(commands)
        return commands

    def renew(self, device: Device, grant: Grant) -> list[Command]:
        """Another token took the place of the one before (MQTT 5, 4.12.1)."""
        renewed = replace(self.identity, grant=grant)
        if renewed.namespace != self.identity.namespace:
            why = "The token was narrowed otherwise than that of the session."
            return [refused_login(why), *self.farewell(Reason.NOT_AUTHORIZED, why)]
        self.identity = renewed
        return self.authorize_by(device) or [SendToDevice(encode_auth(Reason.SUCCESS, [METHOD_PROPERTY]))]

    @property
    def expired(self) -> bool:
        """Whether the token it was opened with, or the one that renewed it, has come to its end."""
        grant = self.identity.grant
        return grant is not None and self._context.now() >= grant.expires_at * 1000

    def authorize_by(self, device: Device) -> list[Command]:
        """Another policy is in force, or the device has other roles or labels. Commands only to end it."""
        self.identity = replace(
            self.identity, roles=device.roles, labels=device.labels, observe_until=device.observe_until
        )
        authorizer = self._authorizer = Authorizer(self._context, self.identity, self._reports)
        self.upstream.authorize_by(authorizer)
        self._downstream.authorize_by(authorizer)
        will = self.terms.will
        if will is None or self.said_goodbye:
            return []
        decision = will.decide(authorizer, self._context.policy)
        why, place = decision.reason, decision.place
        if decision.allowed:
            if will.sealed or not will.must_be_sealed(self._context.policy):
                return []
            why, place = "The topic of the will has become sensitive, and the bus has it in plain.", ""
        report = refused_will(why, will.topic, place)
        return [report, *self.farewell(Reason.NOT_AUTHORIZED, why)]

    def begin_second(self, second: int) -> None:
        """Settle what passed, and have the budget of another second."""
        self._budget.tick(second, self._context.policy.limits, self._context.counters)
        self._count_sealed()

    def bus_waits(self) -> list[Command]:
        """What is to be done about what the bus sent and nobody looked at."""
        if self._downstream.rest is None:
            return []
        return [PauseBus() if self._budget.heard.is_spent else AwaitTurn()]

    def tick(self, *, reading: bool, second: int) -> list[Command]:
        """A second went by: rates, patience, heartbeat. `reading` is whether the device was read from."""
        commands: list[Command] = []
        upstream, budget = self.upstream, self._budget
        self.begin_second(second)
        self._age += 1
        if self._age >= AGAIN:
            self._record_again()
        self._reports.tick()
        self._tell(commands)
        if upstream.waits_for_rest and upstream.begun == self._begun:
            self._stuck += reading
            if self._stuck > self._context.policy.limits.packet_seconds:
                return commands + self._fail(LimitExceeded("a packet took too long to come"))
        else:
            self._begun, self._stuck = upstream.begun, 0
        if budget.spoken.is_spent:
            commands.append(PauseDevice())
        elif upstream.rest is not None:
            commands.append(AwaitTurn())
        commands += self.bus_waits()
        self._silent += 1
        keep_alive = self.terms.keep_alive
        if self._heard and keep_alive and self._silent * 2 >= keep_alive:
            # The device spoke and nothing of it reached the bus, which would take it for gone.
            self._downstream.own_pings += 1
            self.upstream.pings += 1
            self._heard, self._silent = False, 0
            commands.append(SendToBus(PINGREQ))
        return commands

    def _record_again(self) -> None:
        """What goes on as it has for long: its next message is judged, and recorded, once more."""
        self._age = 0
        authorizer = self._authorizer
        self.upstream.authorize_by(authorizer)
        self._downstream.authorize_by(authorizer)
        self._subscriptions.note_again(authorizer)
        if self.terms.will is not None:
            self.terms.will.decide(authorizer, self._context.policy)

    @property
    def secured(self) -> Meter:
        """What undoing the device's TLS may cost in this second."""
        return self._budget.secured

    def close(self) -> None:
        """The connection ends: what it held is free, what it did and what it leaves on the bus is counted."""
        self.upstream.release()
        self._downstream.release()
        self._budget.settle(self._context.counters)
        self._budget.connections -= 1
        self._count_sealed()
        self.holder.end(self._context.now() // 1_000)
        self.holder.part(self.upstream)

    def _count_sealed(self) -> None:
        self._context.counters.sealed += self.upstream.sealed
        self.upstream.sealed = 0

    def last_reports(self) -> list[Command]:
        """What was left out so far, for no tick comes after the end."""
        commands: list[Command] = []
        self._reports.tick()
        self._tell(commands)
        return commands

    def farewell(self, reason: Reason, why: str) -> list[Command]:
        """End it and say why, as the device's version can."""
        commands: list[Command] = []
        if self.terms.version is Version.V5:
            commands.append(SendToDevice(encode_disconnect(reason, self.terms.explanation(why))))
        return [*commands, Close(why)]

    def _end(self, error: MqttError) -> list[Command]:
        """A fault of the device: what the bus still has to answer goes first, as on Mosquitto."""
        last_words = self._fail(error)
        answered = self.upstream.pings == self._downstream.pings and not self.upstream.unanswered
        if answered or isinstance(error, LimitExceeded):
            return last_words
        self.last_words = last_words
        self.upstream.stopped = True
        self.upstream.pings += 1
        self._downstream.last_ping = self.upstream.pings
        return [SendToBus(PINGREQ)]

    def _fail(self, error: MqttError) -> list[Command]:
        """A peer broke the protocol or a bound."""
        self._context.counters.protocol_errors += 1
        if isinstance(error, LimitExceeded | Refused):
            return self.farewell(error.reason, str(error))
        # A fault of the protocol gets its code and no words, or nothing at all, as Mosquitto answers it.
        commands: list[Command] = []
        if self.terms.version is Version.V5 and not isinstance(error, Unanswerable):
            commands.append(SendToDevice(encode_disconnect(error.reason)))
        return [*commands, Close(str(error))]

    def _tell(self, commands: list[Command]) -> None:
        commands += self._reports.pending
        self._reports.pending = []


def _taken(pieces: list[bytes]) -> bytes:
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    pieces.clear()
    return data
