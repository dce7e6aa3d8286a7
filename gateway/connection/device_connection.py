"""One device connection, from its first byte to its last: events in, commands out.

    connection.receive(DeviceBytes(chunk)) -> [SendToBus(chunk)]

Owns the order of things: CONNECT, authentication, the bus's CONNACK, then a `Session` until either
side ends. Knows no socket, clock or task, so a test reads as a trace of the protocol. What it
refuses it explains: to the device by reason code, to the admins by a Report.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import ClassVar

from gateway.connection.audit_reports import Report, refused_session
from gateway.connection.commands import (
    Authenticate,
    Close,
    Command,
    Established,
    OpenBus,
    SendToBus,
    SendToDevice,
)
from gateway.connection.connect import (
    TLS_HELLO,
    ConnectRefused,
    Terms,
    bus_connect,
    check_connect,
    check_sealed_will,
    claim,
    connack_for,
    identity_of,
    not_mqtt,
    refusal_of_bus,
    stranger,
    terms_of,
    token_of,
)
from gateway.connection.context import Context
from gateway.connection.established import EstablishedConnection
from gateway.connection.events import (
    AccessWithdrawn,
    Answer,
    Authenticated,
    AuthenticationFailed,
    BusBytes,
    BusLost,
    BusUnavailable,
    DeviceBytes,
    DeviceLost,
    Event,
    PolicyChanged,
    Reauthenticated,
    ReauthenticationFailed,
    ShuttingDown,
    Tick,
    Turn,
)
from gateway.connection.work_budgets import Meter
from gateway.mqtt.data_types import first_packet
from gateway.mqtt.decode import ConnectFault, decode_connack, decode_connect
from gateway.mqtt.encode import DISCONNECT, encode_connack, encode_connect
from gateway.mqtt.errors import MqttError, PacketTooLarge, ProtocolError
from gateway.mqtt.packets import Connack, Connect, PacketType, Version
from gateway.mqtt.reasons import Reason, return_code
from gateway.policy.engine.identity import Device, Identity
from gateway.policy.engine.limits import CONNACK_MAX_BYTES, CONNECT_MAX_BYTES

_FAREWELL_TICKS = 5
"""How long the bus may take to close after the device's DISCONNECT, in seconds."""
_GOODBYE = "the device said goodbye"
_SPOKEN = {Version.V311: "3.1.1", Version.V5: "5"}


class Phase(Enum):
    """Where a connection stands (DESIGN: one connection, from the first byte)."""

    AWAIT_CONNECT = "await connect"
    AUTHENTICATING = "authenticating"
    OPENING_BUS = "opening bus"
    ESTABLISHED = "established"
    LEAVING = "leaving"
    """The device said goodbye, or broke the protocol; the bus's last words still pass."""
    CLOSED = "closed"


class DeviceConnection:
    """The state of one device connection. After `Close` it ignores whatever still comes."""

    __slots__ = (
        "_connect",
        "_context",
        "_early",
        "_established",
        "_handlers",
        "_leaving",
        "_terms",
        "device",
        "established",
        "phase",
    )

    def __init__(self, context: Context) -> None:
        self._context = context
        self._established: EstablishedConnection | None = None
        self._enter(Phase.AWAIT_CONNECT)
        self._early = bytearray()
        """What can't be looked at yet: a CONNECT in pieces, then what the device sent behind it."""
        self._connect: Connect | None = None
        self._terms: Terms | None = None
        self.device: Device | None = None
        """Whose it is, once authenticated, as it was told last: the registry compares the store with it."""
        self._leaving = 0

    @property
    def identity(self) -> Identity | None:
        """By what `device` is judged here: with its client id, and the token it may have come with."""
        return self._established.identity if self._established else None

    @property
    def meter(self) -> Meter | None:
        """What undoing the device's TLS may cost in this second, once authenticated."""
        return self._established.secured if self._established else None

    @property
    def protocol(self) -> str:
        """The version of MQTT that it speaks, as people say it; empty before its CONNECT."""
        version = self._terms.version if self._terms else None
        return "" if version is None else _SPOKEN.get(version, str(int(version)))

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.established = self._established if phase is Phase.ESTABLISHED else None
        """The session, while chunks may pass by `Session.passes` and `is_delivered` alone."""
        self._handlers = self._transitions[phase]

    def receive(self, event: Event) -> list[Command]:
        """Take an event. Never raises for what a peer sends: a broken peer is answered by commands."""
        handler = self._handlers.get(type(event))
        if handler is None:
            raise RuntimeError(f"{type(event).__name__} can't happen while {self.phase.value}")
        commands = handler(self, event)
        # Once: what came early is taken by a call within a call.
        if commands and type(commands[-1]) is Close and self.phase is not Phase.CLOSED:
            if self._established is not None:
                self._established.close()
                commands[-1:-1] = self._established.last_reports()
            self._enter(Phase.CLOSED)
            self._connect = None
            self._early = bytearray()
        return commands

    # From the first byte to the CONNACK

    def _first_bytes(self, event: DeviceBytes) -> list[Command]:
        self._early.extend(event.data)
        try:
            connect = self._take_connect()
            if connect is None:
                return []
            self._connect = connect
            self._terms = terms_of(connect, self._context)
            check_connect(connect, self._context)
        except ConnectFault as error:
            self._context.counters.protocol_errors += 1
            return self._refuse(error.reason, str(error), stranger(error), version=error.version)
        except ConnectRefused as error:
            return self._refuse(error.reason, str(error), error.report or stranger(error))
        except MqttError as error:
            # Without a whole CONNECT there is nobody to answer (MQTT 5, 4.13.1: "MAY send a CONNACK").
            return [stranger(error), *self._broken(error)]
        self._enter(Phase.AUTHENTICATING)
        return [Authenticate(connect.username, connect.password, token_of(connect, self._terms))]

    def _take_connect(self) -> Connect | None:
        data = self._early
        if data[0] >> 4 != PacketType.CONNECT or data.startswith(TLS_HELLO):
            raise ProtocolError(not_mqtt(data))  # [MQTT-3.1.0-1]
        too_long = "the CONNECT is longer than may come before authentication"
        found = first_packet(data, CONNECT_MAX_BYTES, too_long)
        if found is None:
            return None
        body, end = found
        connect = decode_connect(bytes(data), body, end, self._context.policy.limits.connect_properties)
        self._early = data[end:]
        return connect

    def _early_bytes(self, event: DeviceBytes) -> list[Command]:
        # A client may send before its CONNACK came (MQTT 5, 3.1.4); reading is paused, so it is little.
        if len(self._early) > CONNECT_MAX_BYTES:
            error = PacketTooLarge("too much was sent before authentication")
            return [stranger(error), *self._broken(error)]
        self._early.extend(event.data)
        return []

    def _authenticated(self, event: Authenticated) -> list[Command]:
        connect, terms = self._settled()
        self.device = event.device
        try:
            identity = identity_of(event.device, event.grant, connect, terms)
            packet, reports = bus_connect(connect, terms, identity, self._context)
            opening = encode_connect(packet)
            check_sealed_will(len(opening), terms, self._context)
            holder = claim(packet, identity, self._context)
        except ConnectRefused as error:
            return self._refuse(error.reason, str(error), error.report or stranger(error))
        except MqttError as error:
            return [stranger(error), *self._broken(error)]
        self._established = EstablishedConnection(self._context, terms, identity, holder)
        # Password and will are not kept for the life of the connection.
        self._connect = None
        self._enter(Phase.OPENING_BUS)
        return [*reports, OpenBus(opening)]

    def _settled(self) -> tuple[Connect, Terms]:
        if self._connect is None or self._terms is None:
            raise RuntimeError("no CONNECT came")
        return self._connect, self._terms

    def _authentication_failed(self, event: AuthenticationFailed) -> list[Command]:
        return self._refuse(event.reason, "authentication failed")

    def _bus_unavailable(self, event: BusUnavailable) -> list[Command]:
        if not event.asked:
            self._open_session().holder.refused()
        return self._refuse(Reason.SERVER_UNAVAILABLE, "the bus can't be reached")

    def _refuse(
        self, reason: Reason, why: str, report: Report | None = None, version: Version | None = None
    ) -> list[Command]:
        self._context.counters.connections_refused[reason] += 1
        version = version or (self._terms.version if self._terms else Version.V311)
        told: list[Command] = [report] if report else []
        code = reason if version is Version.V5 else return_code(reason)
        refusal = encode_connack(Connack(session_present=False, code=code, properties=[]), version)
        return [*told, SendToDevice(refusal), Close(why)]

    def _connack_bytes(self, event: BusBytes) -> list[Command]:
        established = self._open_session()
        early, version = established.from_bus_early, established.terms.version
        early.extend(event.data)
        try:
            if early[0] != PacketType.CONNACK << 4:
                raise ProtocolError("the bus answered a CONNECT with something else")
            found = first_packet(early, CONNACK_MAX_BYTES, "the CONNACK is longer than any can be")
            if found is None:
                return []
            (body, end), data = found, bytes(early)
            connack = decode_connack(data, body, end, version)
        except MqttError as error:
            return self._broken(error)
        if connack.code:
            established.holder.refused()
            will = established.terms.will is not None and self._context.bus_trusts_us
            code, why = refusal_of_bus(connack.code, version, for_its_will=will)
            own = encode_connack(Connack(session_present=False, code=code, properties=[]), version)
            return [SendToDevice(data[:end] if code == connack.code else own), Close(why)]
        answer = connack_for(data[:end], connack, established.terms, seals_for=established.seals_for)
        if len(answer) > established.terms.delivered_max_size:
            return [Close("the CONNACK is longer than the device takes")]
        established.from_bus_early = bytearray()
        established.begin(connack)
        self._enter(Phase.ESTABLISHED)
        self._context.counters.connections_opened += 1
        self._context.bus_trusts_us = True
        commands: list[Command] = [SendToDevice(answer), Established()]
        sent, self._early = bytes(self._early), bytearray()
        if len(data) > end:
            commands += self.receive(BusBytes(data[end:]))
        if sent:
            commands += self.receive(DeviceBytes(sent))
        return commands

    def _open_session(self) -> EstablishedConnection:
        if self._established is None:
            raise RuntimeError("nobody is there yet")
        return self._established

    # Established, and the end

    def _device_bytes(self, event: DeviceBytes) -> list[Command]:
        established = self._established
        assert established is not None  # noqa: S101 - the table lets no byte pass before; on the path of each message
        commands = established.device_bytes(event.data)
        if established.upstream.stopped:
            self._enter(Phase.LEAVING)
        return commands

    def _bus_bytes(self, event: BusBytes) -> list[Command]:
        established = self._established
        assert established is not None  # noqa: S101 - as above
        return established.bus_bytes(event.data)

    def _last_words(self, event: BusBytes | Turn) -> list[Command]:
        established = self._open_session()
        commands = (
            established.bus_bytes(event.data) if isinstance(event, BusBytes) else established.bus_turn()
        )
        if not self._open_session().said_goodbye:
            return commands
        # The bus was sent the device's DISCONNECT: no answer of ours may follow it [MQTT-3.14.4-1].
        return [command for command in commands if type(command) is not SendToBus]

    def _answer(self, event: Answer) -> list[Command]:
        return self._open_session().answer(event)

    def _renewed(self, event: Reauthenticated) -> list[Command]:
        commands = self._open_session().renew(event.device, event.grant)
        ends = type(commands[-1]) is Close
        return [SendToBus(DISCONNECT), *commands] if ends else commands

    def _not_renewed(self, event: ReauthenticationFailed) -> list[Command]:
        return self._withdrawn(AccessWithdrawn(event.why))

    def _policy_changed(self, event: PolicyChanged) -> list[Command]:
        self.device = event.device
        commands = self._open_session().authorize_by(event.device)
        if not commands:
            return []
        if self.phase is Phase.OPENING_BUS:
            commands = [commands[0], *self._refuse(Reason.NOT_AUTHORIZED, "the will is not allowed any more")]
        return [SendToBus(DISCONNECT), *commands]

    def _tick(self, event: Tick) -> list[Command]:
        established = self._open_session()
        if established.expired:
            why = "The token has expired."
            return [refused_session(why), *self._withdrawn(AccessWithdrawn(why))]
        return established.tick(reading=event.reading, second=event.second)

    def _turn(self, _: Turn) -> list[Command]:
        established = self._open_session()
        commands = established.turn()
        if established.upstream.stopped:
            self._enter(Phase.LEAVING)
        return commands

    def _leaving_tick(self, event: Tick) -> list[Command]:
        self._leaving += 1
        if self._leaving <= _FAREWELL_TICKS:
            self._open_session().begin_second(event.second)
            return self._open_session().bus_waits()
        if self._said_goodbye:
            return [Close(_GOODBYE)]
        return self._open_session().last_words or [Close("the bus did not close")]

    def _broken(self, error: MqttError) -> list[Command]:
        self._context.counters.protocol_errors += 1
        return [Close(f"{type(error).__name__}: {error}")]

    def _device_lost(self, _: DeviceLost) -> list[Command]:
        return [Close(_GOODBYE if self._said_goodbye else "the device closed the connection")]

    def _bus_lost(self, _: BusLost) -> list[Command]:
        return [Close(_GOODBYE if self._said_goodbye else "the bus closed the connection")]

    @property
    def _said_goodbye(self) -> bool:
        return self._established is not None and self._established.said_goodbye

    def _withdrawn(self, event: AccessWithdrawn) -> list[Command]:
        # With a DISCONNECT, for the will of a device without rights is not to be published.
        established = self._open_session()
        goodbye: list[Command] = [] if established.said_goodbye else [SendToBus(DISCONNECT)]
        if self.phase is Phase.OPENING_BUS:
            return goodbye + self._refuse(Reason.NOT_AUTHORIZED, event.why)
        return goodbye + established.farewell(Reason.NOT_AUTHORIZED, event.why)

    def _stop(self, _: ShuttingDown) -> list[Command]:
        return [Close("the gateway stops")]

    def _stop_opening(self, _: ShuttingDown) -> list[Command]:
        # Perhaps the bus has the CONNECT already, and the will with it.
        return [SendToBus(DISCONNECT), Close("the gateway stops")]

    def _stop_session(self, _: ShuttingDown) -> list[Command]:
        # A planned stop is no reason to publish a will: the bus hears a goodbye, and keeps the session.
        goodbye: list[Command] = [SendToBus(DISCONNECT)] if self.phase is Phase.ESTABLISHED else []
        return goodbye + self._open_session().farewell(Reason.SERVER_SHUTTING_DOWN, "the gateway stops")

    def _nothing(self, _: Event) -> list[Command]:
        return []

    # What may happen when. A missing entry is a fault of ours, not of a peer.
    _transitions: ClassVar[dict[Phase, dict[type[Event], Callable[..., list[Command]]]]] = {
        Phase.AWAIT_CONNECT: {
            DeviceBytes: _first_bytes,
            DeviceLost: _device_lost,
            ShuttingDown: _stop,
            Tick: _nothing,
        },
        Phase.AUTHENTICATING: {
            DeviceBytes: _early_bytes,
            Authenticated: _authenticated,
            AuthenticationFailed: _authentication_failed,
            DeviceLost: _device_lost,
            ShuttingDown: _stop,
            Tick: _nothing,
        },
        Phase.OPENING_BUS: {
            DeviceBytes: _early_bytes,
            BusBytes: _connack_bytes,
            BusUnavailable: _bus_unavailable,
            BusLost: _bus_lost,
            PolicyChanged: _policy_changed,
            AccessWithdrawn: _withdrawn,
            DeviceLost: _device_lost,
            ShuttingDown: _stop_opening,
            Tick: _nothing,
        },
        Phase.ESTABLISHED: {
            DeviceBytes: _device_bytes,
            BusBytes: _bus_bytes,
            Answer: _answer,
            Reauthenticated: _renewed,
            ReauthenticationFailed: _not_renewed,
            PolicyChanged: _policy_changed,
            AccessWithdrawn: _withdrawn,
            DeviceLost: _device_lost,
            BusLost: _bus_lost,
            ShuttingDown: _stop_session,
            Tick: _tick,
            Turn: _turn,
        },
        Phase.LEAVING: {
            DeviceBytes: _nothing,
            BusBytes: _last_words,
            Answer: _answer,
            Reauthenticated: _nothing,
            ReauthenticationFailed: _not_renewed,
            PolicyChanged: _policy_changed,
            AccessWithdrawn: _withdrawn,
            DeviceLost: _device_lost,
            BusLost: _bus_lost,
            ShuttingDown: _stop_session,
            Tick: _leaving_tick,
            Turn: _last_words,
        },
        Phase.CLOSED: dict.fromkeys(
            (
                DeviceBytes,
                BusBytes,
                Answer,
                Authenticated,
                AuthenticationFailed,
                BusUnavailable,
                PolicyChanged,
                Reauthenticated,
                ReauthenticationFailed,
                AccessWithdrawn,
                DeviceLost,
                BusLost,
                ShuttingDown,
                Tick,
                Turn,
            ),
            _nothing,
        ),
    }
