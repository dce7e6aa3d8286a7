"""One device's connection: carries out what its DeviceConnection says, and brings it what happens.

Stands between the event loop and `gateway.connection.device_connection`. Decides nothing but patience.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from gateway.connection import commands as asked
from gateway.connection.audit_vocabulary import Report, refused_session
from gateway.connection.commands import Call, Command, SendToBus, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import (
    AuthenticationFailed,
    BusBytes,
    BusLost,
    BusUnavailable,
    DeviceBytes,
    DeviceLost,
    Event,
    Tick,
    Turn,
)
from gateway.connection.state_table import State
from gateway.mqtt.reason_codes import Reason
from gateway.net.answered_calls import answered
from gateway.net.bus_side import BusSide, not_connected
from gateway.net.connection_reports import named
from gateway.net.data_plane_parts import DataPlane
from gateway.net.device_login import authenticate, reauthenticate
from gateway.net.fault_containment import contained
from gateway.net.paused_reading import AUTHENTICATING, DEVICE_FULL, NOT_ITS_TURN, OVER_RATE, PausedReading
from gateway.net.peer_disconnect_check import has_left
from gateway.net.quick_ack import CONNECT_EXPECTED, acknowledge_at_once
from gateway.net.tls_decryption_cost import TlsBudget
from gateway.net.tls_handshake_errors import of_session
from gateway.net.tls_record_limits import tls_of
from gateway.observe.logs import get_logger
from gateway.system.addresses import host_of

_LOGIN_DEADLINE, _BUS_DEADLINE, _CLOSE_DEADLINE = 20.0, 10.0, 5.0
"""Seconds for a login to be decided (what waits for the password pool at most, with room), for the bus to
accept the connection and again to answer the CONNECT, and for the last bytes to leave."""

_UNREAD = {State.AUTHENTICATING, State.OPENING_BUS}  # so that nobody says that the device has gone
_TICKING = (State.ESTABLISHED, State.GOODBYE, State.DRAINING)
"""Whose seconds the connection counts itself. A tuple: compared by identity."""

_log = get_logger()


class DeviceSide(PausedReading, asyncio.Protocol):
    """The device's transport, the bus's transport, and the connection between them."""

    __slots__ = (
        "_bus",
        "_unread",
        "_why",
        "_write_paused",
        "address",
        "claimed",
        "connection",
        "connection_id",
        "deadline",
        "host",
        "method",
        "plane",
        "since",
        "turn",
        "waiting_for",
    )

    def __init__(self, plane: DataPlane, address: str, connection_id: str, deadline: float) -> None:
        super().__init__()
        self.plane = plane
        self.connection = DeviceConnection(plane.context)
        self.address = address
        """Of the peer, `host:port`."""
        self.host = host_of(address)
        self.connection_id = connection_id
        """Ties together what is logged of this connection."""
        self.claimed: str | None = None
        """The device that it named, and was not let in as."""
        self.method = ""
        """How it logged in: `secret`, `token` or `certificate`."""
        self.since = 0
        """When it was established, in Unix milliseconds."""
        self.turn = 0
        """In which part of a second it gets its tick."""
        self.deadline = deadline
        """Of what it waits for now, by the loop's clock."""
        self._bus: BusSide | None = None
        self.waiting_for: asyncio.Task[None] | None = None
        """Its login, while that waits for a hash; then its connection to the bus, while that is made."""
        self._write_paused = False
        self._unread = 0
        """Bytes of answers that the device does not take, as they are counted with those of others."""
        self._why = ""
        """Why the gateway ended it, if it did so without a word."""

    @contained
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is done."""
        self.transport = cast("asyncio.Transport", transport)
        if (tls := tls_of(transport)) is not None:
            tls.handshake_done(self.transport)
            asyncio.get_running_loop().call_later(CONNECT_EXPECTED, self._acknowledge)
        self.plane.registry.arrived(self)

    @contained
    def _acknowledge(self) -> None:
        """The client may hold its CONNECT back until the end of its handshake is acknowledged."""
        if self.transport is not None and self.connection.state is State.AWAIT_CONNECT:
            acknowledge_at_once(self.transport)

    def data_received(self, data: bytes) -> None:
        """A chunk from the device."""
        try:
            established, bus = self.connection.established, self._bus
            if (
                established is not None
                and bus is not None
                and bus.transport is not None
                and established.passes(data)
            ):
                bus.transport.write(data)
            elif commands := self.connection.receive(DeviceBytes(data)):
                self._carry_out(commands)
        except Exception as error:  # noqa: BLE001 - a fault of ours is this connection's alone
            self.fault(error)

    def bus_bytes(self, data: bytes) -> None:
        """A chunk from the bus."""
        try:
            established, transport = self.connection.established, self.transport
            if (
                established is not None
                and transport is not None
                and not self._write_paused
                and established.is_delivered(data)
            ):
                transport.write(data)
            elif commands := self.connection.receive(BusBytes(data)):
                self._carry_out(commands)
        except Exception as error:  # noqa: BLE001 - as above
            self.fault(error)

    @contained
    def connection_lost(self, exc: Exception | None) -> None:
        """The device is gone, or we closed."""
        if (tls := tls_of(self.transport)) is not None:
            tls.detach()
        self.transport = None
        self.plane.registry.forget(self)
        self._count_unread(0)
        if isinstance(exc, ssl.SSLError):
            self._why = self._why or of_session(exc)
            if self.connection.device is not None:
                self.plane.reports.report(self, refused_session(self._why))
        if self.waiting_for is not None:
            self.waiting_for.cancel()  # a login's place in the queue is another's
            self.waiting_for = None
        self.receive(DeviceLost())
        self._close_bus()
        bus = self._bus.transport if self._bus is not None else None
        if bus is not None and bus.get_write_buffer_size():
            # Nobody else looks after it any more.
            asyncio.get_running_loop().call_later(_CLOSE_DEADLINE, bus.abort)
        if exc is not None:
            _log.debug("connection lost", address=self.address, reason=str(exc))

    @contained
    def bus_lost(self, exc: Exception | None) -> None:
        """The bus is gone, or we closed."""
        self._bus = None
        established = self.connection.state is State.ESTABLISHED
        self.plane.bus.losses += established
        if exc is not None and self.connection.state is not State.CLOSED:
            _log.warning("bus connection lost", device=named(self), address=self.address, reason=str(exc))
        self.receive(BusLost(taken_over=established and self.plane.registry.came_again(self)))

    @contained
    def pause_writing(self) -> None:
        """The device reads slower than the bus writes."""
        self._write_paused = True
        if self._bus is not None:
            self._bus.pause_reading(DEVICE_FULL)

    @contained
    def resume_writing(self) -> None:
        """The device caught up."""
        self._write_paused = False
        self._count_unread(0)
        if self._bus is not None:
            self._bus.resume_reading(DEVICE_FULL)

    def receive(self, event: Event) -> None:
        """Give the connection an event and do what it says."""
        try:
            self._carry_out(self.connection.receive(event))
        except Exception as error:  # noqa: BLE001 - as above
            self.fault(error)

    def fault(self, error: Exception) -> None:
        """A fault of ours ends this connection and no other."""
        _log.error("internal error", device=named(self), address=self.address, exc_info=error)
        self.abort("a fault of the gateway")

    def _carry_out(self, commands: list[Command]) -> None:
        left = iter(commands)
        for command in left:
            kind = type(command)
            if kind is SendToBus:
                if self._bus is not None and self._bus.transport is not None:
                    self._bus.transport.write(command.data)  # type: ignore[union-attr]
            elif kind is SendToDevice:
                self._send(command.data)  # type: ignore[union-attr]
            elif kind is Call:
                self._carry_out(answered(self, command, left))  # type: ignore[arg-type]
            else:
                self._carry_out_rare(command)

    def _send(self, data: bytes) -> None:
        transport = self.transport
        if transport is None:
            return
        transport.write(data)
        # The bus is not read any more then: this is answers of ours to a device that does not take them.
        if self._write_paused and not self._count_unread(transport.get_write_buffer_size()):
            self.abort("it does not read the answers to what it sends")

    def _count_unread(self, size: int) -> bool:
        """Count what the device does not take; whether that is within the bounds for it and for all."""
        device = self.connection.device
        if size == self._unread or device is None:
            return True
        more, self._unread = size - self._unread, size
        return self.plane.unread.add(device.device_id, more, self.plane.context.policy.limits)

    def _carry_out_rare(self, command: Command) -> None:
        match command:
            case asked.Authenticate():
                self.plane.registry.introduced(self)
                self.deadline = self.plane.now() + _LOGIN_DEADLINE
                self.pause_reading(AUTHENTICATING)
                authenticate(self, command)
            case asked.OpenBus(connect):
                self.deadline = self.plane.now() + _BUS_DEADLINE
                self.waiting_for = self.plane.tasks.start(self._open_bus(connect))
            case asked.Established():
                if (tls := tls_of(self.transport)) is not None and (meter := self.connection.meter):
                    tls.peer_is_authenticated(TlsBudget(meter, self.plane.turns))
                self.resume_reading(AUTHENTICATING)
                self.since = self.plane.context.now()
                identity = self.connection.identity
                self._note(
                    "connected",
                    protocol=self.connection.protocol,
                    login=self.method,
                    client_id=identity.client_id if identity else None,
                    narrowed=(identity.grant.narrowed or None) if identity and identity.grant else None,
                )
            case asked.Reauthenticate(token):
                reauthenticate(self, token)
            case asked.PauseDevice():
                self.pause_reading(OVER_RATE)
            case asked.PauseBus():
                if self._bus is not None:
                    self._bus.pause_reading(OVER_RATE)
            case asked.AwaitTurn():
                self._await_turn()
            case Report():
                if self.connection.device is None:
                    self.plane.reports.turned_away(self, command.reason)
                else:
                    self.plane.reports.report(self, command)
            case asked.Close(why):
                self._close(why)

    def _await_turn(self) -> None:
        if not self.paused & NOT_ITS_TURN:
            self.pause_reading(NOT_ITS_TURN)
            if self._bus is not None:
                self._bus.pause_reading(NOT_ITS_TURN)
            meter = self.connection.meter
            self.plane.turns.wait(meter.budget if meter else self, self._take_turn)

    @contained
    def _take_turn(self) -> None:
        was, self.paused = self.paused, self.paused & ~NOT_ITS_TURN
        self.receive(Turn())
        self.read_again(was)
        if self._bus is not None and not self.paused & NOT_ITS_TURN:
            self._bus.resume_reading(NOT_ITS_TURN)

    @property
    def unread_for(self) -> int:
        """Why the device or the bus is not read, as `gateway.net.paused_reading` says; 0 for no reason."""
        return self.paused | (self._bus.paused if self._bus is not None else 0)

    @property
    def ends(self) -> tuple[asyncio.Transport, asyncio.Transport] | None:
        """The device's transport and the bus's, while both are there."""
        bus = self._bus.transport if self._bus is not None else None
        return None if self.transport is None or bus is None else (self.transport, bus)

    async def _open_bus(self, connect: bytes) -> None:
        bus = BusSide(self)
        try:
            try:
                await bus.connect(self.plane.bus)
            except OSError as error:
                self._bus_failed(not_connected(error), asked=False)
                return
            finally:
                self.waiting_for = None
            self._bus = bus
            self.plane.bus.answered()
            if self.connection.state is State.OPENING_BUS and bus.transport is not None:
                self.deadline = self.plane.now() + _BUS_DEADLINE
                bus.transport.write(connect)
            else:
                self._close_bus()
        except Exception as error:  # noqa: BLE001 - as `contain` would, for a frame less at each step
            self.fault(error)

    def _bus_failed(self, why: str, *, asked: bool) -> None:
        """The bus could not be reached; `asked`: it was, and did not answer the CONNECT."""
        self.plane.bus.failed(why)
        self.plane.context.counters.bus_connect_failures += 1
        _log.error("bus unavailable", device=named(self), address=self.address, reason=why)
        self.receive(BusUnavailable(asked=asked))

    def _close_bus(self) -> None:
        if self._bus is not None and self._bus.transport is not None:
            self._bus.transport.close()

    @contained
    def tick(self, now: float, second: int) -> None:
        """A second went by: the one of this number."""
        state = self.connection.state
        if state in _TICKING:
            was, self.paused = self.paused, self.paused & ~OVER_RATE
            if self._bus is not None and self._bus.paused:
                self._bus.resume_reading(OVER_RATE)
            self.receive(Tick(reading=not was, second=second))
            self.read_again(was)
        elif state in _UNREAD and has_left(self.transport):
            self.abort("it left before it was let in")
        elif now < self.deadline:
            return
        elif state is State.AWAIT_CONNECT:
            self.turn_away("no whole CONNECT within the deadline")
        elif state is State.AUTHENTICATING:
            self.receive(AuthenticationFailed(Reason.SERVER_UNAVAILABLE))
        elif state is State.OPENING_BUS:
            if self.waiting_for is not None:
                self.waiting_for.cancel()
                self._bus_failed("no answer in time", asked=False)
            else:
                self._bus_failed("it accepts connections but does not answer", asked=True)
        else:
            self.abort("its last bytes could not leave")

    def unwritten(self) -> bool:
        """Whether bytes for the bus are still to leave, the last of which may be a goodbye."""
        transport = self._bus.transport if self._bus is not None else None
        return transport is not None and transport.get_write_buffer_size() > 0

    def turn_away(self, why: str) -> None:
        """End it before anybody is authenticated."""
        self.plane.reports.turned_away(self, why)
        self.abort(why)

    def abort(self, why: str) -> None:
        """End it now, whatever is still to be written. `why` is for the log."""
        self._why = self._why or why
        if self._bus is not None and self._bus.transport is not None:
            self._bus.transport.abort()
        if self.transport is not None:
            self.transport.abort()

    def _close(self, why: str) -> None:
        self.deadline = self.plane.now() + _CLOSE_DEADLINE
        self._note("closed", reason=self._why or why)
        self._close_bus()
        if self.transport is not None:
            if (tls := tls_of(self.transport)) is not None:
                tls.stop_decrypting()
            self.transport.close()

    def _note(self, event: str, **said: str | None) -> None:
        """A line of its own for a device, within bounds; of strangers there may be any number."""
        device, reports = self.connection.device, self.plane.reports
        worth = device is not None and reports.connects.worth_a_line(device.device_id, self.host)
        log = reports.log.info if worth else reports.log.debug
        log(event, device=named(self), address=self.address, connection=self.connection_id, **said)
