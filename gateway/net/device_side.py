"""One device's sockets: tells its DeviceConnection what happens on them, and carries out its commands.

Stands between the event loop and `gateway.connection.device_connection`. Decides only how long to wait for a
login, for the bus, and for the last bytes to be sent.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from gateway.connection import commands as kinds
from gateway.connection import events
from gateway.connection.audit_vocabulary import Report, refused_session
from gateway.connection.commands import Call, Command, SendToBus, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import BusBytes, DeviceBytes, Event, Tick, Turn
from gateway.connection.tick_rests import seconds_of_rest
from gateway.connection.transition_table import State
from gateway.mqtt.reason_codes import Reason
from gateway.net.bounded_tls import tls_of
from gateway.net.bus_side import BusSide, not_connected
from gateway.net.connection_audit_and_log import named
from gateway.net.data_plane_parts import DataPlane
from gateway.net.device_login import authenticate, reauthenticate
from gateway.net.fault_containment import contained
from gateway.net.pause_reasons import AUTHENTICATING, DEVICE_FULL, NOT_ITS_TURN, OVER_RATE, PausedReading
from gateway.net.peer_disconnect_check import has_left
from gateway.net.quick_ack import CONNECT_EXPECTED_S, send_tcp_ack
from gateway.net.service_answer_batching import answer_calls
from gateway.net.tls_decryption_cost import TlsBudget
from gateway.net.tls_handshake_errors import tls_session_failed
from gateway.observe.logs import get_logger
from gateway.system.ip_address_blocks import host_of

_LOGIN_DEADLINE, _BUS_DEADLINE, _CLOSE_DEADLINE = 20.0, 10.0, 5.0
"""Seconds: for a login to be decided (longer than it may wait for its hash); for the bus to accept the
connection, and as many again to answer the CONNECT; for the last bytes to be sent."""

_NOTHING_READ = {State.AUTHENTICATING, State.OPENING_BUS}
"""In these the device is not read, so that each tick has to check whether it has left."""
_TICKED = (State.ESTABLISHED, State.GOODBYE, State.DRAINING)
"""In these the connection gets a Tick each second; in all others `deadline` counts. A tuple: `in` only
compares identities then, and hashes nothing."""

_log = get_logger()


class DeviceSide(PausedReading, asyncio.Protocol):
    """The device's transport, the bus's transport, and the connection between them."""

    __slots__ = (
        "_bus_side",
        "_end_reason",
        "_untaken",
        "_write_paused",
        "address",
        "claimed",
        "connection",
        "connection_id",
        "deadline",
        "host",
        "method",
        "plane",
        "rests_until",
        "since",
        "tick_phase",
        "waiting_for",
    )

    def __init__(self, plane: DataPlane, address: str, connection_id: str, deadline: float) -> None:
        super().__init__()
        self.plane = plane
        self.connection = DeviceConnection(plane.context)
        # `LiveConnection` says what these are.
        self.address = address
        self.host = host_of(address)
        self.connection_id = connection_id
        self.claimed: str | None = None
        self.method = ""
        self.since = 0
        self.tick_phase = 0
        self.rests_until = 0
        self.deadline = deadline
        """When it gives up waiting for the current step, in seconds by the loop's clock."""
        self._bus_side: BusSide | None = None
        self.waiting_for: asyncio.Task[None] | None = None
        """The task of its login while that waits for a hash, then of connecting to the bus; else None."""
        self._write_paused = False
        self._untaken = 0
        """Bytes that wait in the device's write buffer while it is full, as counted in `plane.untaken`."""
        self._end_reason = ""
        """For the log: why it was aborted by the gateway or by an error of TLS; empty if it was not."""

    @contained
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is done."""
        self.transport = cast("asyncio.Transport", transport)
        if (tls := tls_of(transport)) is not None:
            tls.handshake_done(self.transport)
            asyncio.get_running_loop().call_later(CONNECT_EXPECTED_S, self._send_tcp_ack)
        self.plane.registry.arrived(self)

    @contained
    def _send_tcp_ack(self) -> None:
        """The client may hold its CONNECT back until TCP acknowledges the end of its handshake."""
        if self.transport is not None and self.connection.state is State.AWAIT_CONNECT:
            send_tcp_ack(self.transport)

    def data_received(self, data: bytes) -> None:
        """A chunk from the device."""
        self.rests_until = 0
        try:
            established, bus_side = self.connection.established, self._bus_side
            if (
                established is not None
                and bus_side is not None
                and bus_side.transport is not None
                and established.passes(data)
            ):
                bus_side.transport.write(data)
            elif commands := self.connection.receive(DeviceBytes(data)):
                self._carry_out(commands)
        except Exception as error:  # noqa: BLE001 - a fault of ours is this connection's alone
            self.fault(error)

    def bus_bytes(self, data: bytes) -> None:
        """A chunk from the bus."""
        self.rests_until = 0
        try:
            established, transport = self.connection.established, self.transport
            if (
                established is not None
                and transport is not None
                and not self._write_paused
                and established.passes_to_device(data)
            ):
                transport.write(data)
            elif commands := self.connection.receive(BusBytes(data)):
                self._carry_out(commands)
        except Exception as error:  # noqa: BLE001 - as above
            self.fault(error)

    @contained
    def connection_lost(self, exc: Exception | None) -> None:
        """The connection to the device has ended, from either side."""
        if (tls := tls_of(self.transport)) is not None:
            tls.detach()
        self.transport = None
        self.plane.registry.forget(self)
        self._count_untaken(0)
        if isinstance(exc, ssl.SSLError):
            self._end_reason = self._end_reason or tls_session_failed(exc)
            if self.connection.device is not None:
                self.plane.reports.report(self, refused_session(self._end_reason))
        if self.waiting_for is not None:
            self.waiting_for.cancel()  # so that a login leaves the queue for hashes
            self.waiting_for = None
        self.receive(events.DeviceLost())
        self._close_bus()
        bus_transport = self._bus_side.transport if self._bus_side is not None else None
        if bus_transport is not None and bus_transport.get_write_buffer_size():
            # Nobody ticks it any more, so that no `deadline` would end it.
            asyncio.get_running_loop().call_later(_CLOSE_DEADLINE, bus_transport.abort)
        if exc is not None:
            _log.debug("connection lost", address=self.address, reason=str(exc))

    @contained
    def bus_lost(self, exc: Exception | None) -> None:
        """The connection to the bus has ended, from either side."""
        self._bus_side = None
        was_established = self.connection.state is State.ESTABLISHED
        self.plane.bus.losses += was_established
        if exc is not None and self.connection.state is not State.CLOSED:
            _log.warning("bus connection lost", device=named(self), address=self.address, reason=str(exc))
        self.receive(events.BusLost(taken_over=was_established and self.plane.registry.is_taken_over(self)))

    @contained
    def pause_writing(self) -> None:
        """The write buffer towards the device is full."""
        self._write_paused = True
        if self.connection.state in _TICKED:
            self.receive(events.DeviceFull())

    @contained
    def resume_writing(self) -> None:
        """The write buffer towards the device has drained to its low-water mark."""
        self._write_paused = False
        self._count_untaken(0)
        if self.connection.state in _TICKED:
            self.receive(events.DeviceReady())

    def receive(self, event: Event) -> None:
        """Give the connection an event, and carry out its commands."""
        self.rests_until = 0
        try:
            self._carry_out(self.connection.receive(event))
        except Exception as error:  # noqa: BLE001 - as above
            self.fault(error)

    def fault(self, error: Exception) -> None:
        """A fault of ours ends this connection and no other."""
        _log.error("internal error", device=named(self), address=self.address, exc_info=error)
        self.abort("a fault of the gateway")

    def _carry_out(self, commands: list[Command]) -> None:
        rest = iter(commands)
        for command in rest:
            kind = type(command)
            if kind is SendToBus:
                if self._bus_side is not None and self._bus_side.transport is not None:
                    self._bus_side.transport.write(command.data)  # type: ignore[union-attr]
            elif kind is SendToDevice:
                self._send(command.data)  # type: ignore[union-attr]
            elif kind is Call:
                self._carry_out(answer_calls(self, command, rest))  # type: ignore[arg-type]
            else:
                self._carry_out_rare(command)

    def _send(self, data: bytes) -> None:
        transport = self.transport
        if transport is None:
            return
        transport.write(data)
        # While writing is paused deliveries wait: only our own answers are added to what is in the buffer.
        if self._write_paused and not self._count_untaken(transport.get_write_buffer_size()):
            self.abort("it does not read the answers to what it sends")

    def _count_untaken(self, size: int) -> bool:
        """Count `size` bytes of answers as unread; whether that is within the bounds of `UntakenAnswers`."""
        device = self.connection.device
        if size == self._untaken or device is None:
            return True
        more, self._untaken = size - self._untaken, size
        return self.plane.untaken.add(device.device_id, more, self.plane.context.policy.limits)

    def _carry_out_rare(self, command: Command) -> None:
        match command:
            case kinds.Authenticate():
                self.plane.registry.connect_arrived(self)
                self.deadline = self.plane.loop_time() + _LOGIN_DEADLINE
                self.pause_reading(AUTHENTICATING)
                authenticate(self, command)
            case kinds.OpenBus(connect):
                self.deadline = self.plane.loop_time() + _BUS_DEADLINE
                self.waiting_for = self.plane.tasks.start(self._open_bus(connect))
            case kinds.Established():
                if (tls := tls_of(self.transport)) is not None and (meter := self.connection.tls_meter):
                    tls.peer_is_authenticated(TlsBudget(meter, self.plane.turns))
                self.resume_reading(AUTHENTICATING)
                self.since = self.plane.context.now()
                identity = self.connection.identity
                self._log_for_device(
                    "connected",
                    protocol=self.connection.protocol,
                    login=self.method,
                    client_id=identity.client_id if identity else None,
                    narrowed=(identity.grant.narrowed_digest or None)
                    if identity and identity.grant
                    else None,
                )
            case kinds.Reauthenticate(token):
                reauthenticate(self, token)
            case kinds.PauseDevice():
                self.pause_reading(OVER_RATE)
            case kinds.AwaitTurn():
                self._await_turn()
            case Report():
                if self.connection.device is None:
                    self.plane.reports.turned_away(self, command.reason)
                else:
                    self.plane.reports.report(self, command)
            case kinds.Close(why):
                self._close(why)

    def _await_turn(self) -> None:
        if not self.paused & NOT_ITS_TURN:
            self.pause_reading(NOT_ITS_TURN)
            if self._bus_side is not None:
                self._bus_side.pause_reading(NOT_ITS_TURN)
            meter = self.connection.tls_meter
            self.plane.turns.wait(meter.budget if meter else self, self._take_turn)

    @contained
    def _take_turn(self) -> None:
        paused_before, self.paused = self.paused, self.paused & ~NOT_ITS_TURN
        self.receive(Turn())
        self.read_again(paused_before)
        if self._bus_side is not None and not self.paused & NOT_ITS_TURN:
            self._bus_side.resume_reading(NOT_ITS_TURN)

    @property
    def paused_for(self) -> int:
        """Why the device or the bus is not read, as `gateway.net.pause_reasons` says; 0 for no reason."""
        paused = self.paused | (DEVICE_FULL if self._write_paused else 0)
        return paused | (self._bus_side.paused if self._bus_side is not None else 0)

    @property
    def transports(self) -> tuple[asyncio.Transport, asyncio.Transport] | None:
        """The device's transport and the bus's, while both are there."""
        bus_transport = self._bus_side.transport if self._bus_side is not None else None
        return None if self.transport is None or bus_transport is None else (self.transport, bus_transport)

    async def _open_bus(self, connect: bytes) -> None:
        bus_side = BusSide(self)
        try:
            try:
                await bus_side.connect(self.plane.bus)
            except OSError as error:
                self._bus_failed(not_connected(error), connect_sent=False)
                return
            finally:
                self.waiting_for = None
            self._bus_side = bus_side
            self.plane.bus.accepted()
            if self.connection.state is State.OPENING_BUS and bus_side.transport is not None:
                self.deadline = self.plane.loop_time() + _BUS_DEADLINE
                bus_side.transport.write(connect)
            else:
                self._close_bus()
        except Exception as error:  # noqa: BLE001 - as `contain` does, without one more coroutine
            self.fault(error)

    def _bus_failed(self, why: str, *, connect_sent: bool) -> None:
        """The bus could not be reached or, with `connect_sent`, did not answer the CONNECT."""
        self.plane.bus.failed(why)
        self.plane.context.counters.bus_connect_failures += 1
        _log.error("bus unavailable", device=named(self), address=self.address, reason=why)
        self.receive(events.BusUnavailable(connect_sent=connect_sent))

    def _close_bus(self) -> None:
        if self._bus_side is not None and self._bus_side.transport is not None:
            self._bus_side.transport.close()

    @contained
    def tick(self, now: float, second: int) -> None:
        """A second has passed. `now` is the loop's clock; `second` as in `Tick`."""
        state = self.connection.state
        if state in _TICKED:
            established = self.connection.established
            # TLS that yields no data is no event and ends no rest, but a tick has to charge for it.
            if second < self.rests_until and established is not None and not established.tls_meter.effort:
                return
            paused_before, self.paused = self.paused, self.paused & ~OVER_RATE
            self.receive(Tick(reading=not paused_before, second=second))
            self.read_again(paused_before)
            established = self.connection.established
            if established is not None and not self.paused_for:
                self.rests_until = second + seconds_of_rest(established)
        elif state in _NOTHING_READ and has_left(self.transport):
            self.abort("it left before it was let in")
        elif now < self.deadline:
            return
        elif state is State.AWAIT_CONNECT:
            self.turn_away("no whole CONNECT within the deadline")
        elif state is State.AUTHENTICATING:
            self.receive(events.AuthenticationFailed(Reason.SERVER_UNAVAILABLE))
        elif state is State.OPENING_BUS:
            if self.waiting_for is not None:
                self.waiting_for.cancel()
                self._bus_failed("no answer in time", connect_sent=False)
            else:
                self._bus_failed("it accepts connections but does not answer", connect_sent=True)
        else:
            self.abort("its last bytes could not leave")

    def unwritten(self) -> bool:
        """Whether bytes for the bus are not sent yet: the last of them may be the device's DISCONNECT."""
        bus_transport = self._bus_side.transport if self._bus_side is not None else None
        return bus_transport is not None and bus_transport.get_write_buffer_size() > 0

    def turn_away(self, why: str) -> None:
        """Report why a peer that is not authenticated is refused, and end its connection."""
        self.plane.reports.turned_away(self, why)
        self.abort(why)

    def abort(self, why: str) -> None:
        """End it now, even if something is still to be written. `why` is for the log."""
        self._end_reason = self._end_reason or why
        if self._bus_side is not None and self._bus_side.transport is not None:
            self._bus_side.transport.abort()
        if self.transport is not None:
            self.transport.abort()

    def _close(self, why: str) -> None:
        self.deadline = self.plane.loop_time() + _CLOSE_DEADLINE
        self._log_for_device("closed", reason=self._end_reason or why)
        self._close_bus()
        if self.transport is not None:
            if (tls := tls_of(self.transport)) is not None:
                tls.stop_decrypting()
            self.transport.close()

    def _log_for_device(self, event: str, **fields: str | None) -> None:
        """Log at `info` for a device, within bounds, else at `debug`: there may be many strangers."""
        device, reports = self.connection.device, self.plane.reports
        has_line = device is not None and reports.connects.worth_a_line(device.device_id, self.host)
        log = reports.log.info if has_line else reports.log.debug
        log(event, device=named(self), address=self.address, connection=self.connection_id, **fields)
