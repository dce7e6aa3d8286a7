"""How long the bus takes to answer devices: of some messages, a few a second, whatever the load is.

For a second at a time a few connections are watched: a tap takes the place of each of their two ends
at the transport, and passes on all it hears. What it waits for is a PUBLISH of QoS 1 and its PUBACK, or a
PINGREQ and its PINGRESP. Connections that nobody watches pay nothing, which is why it is done so.

For example, a chunk of the device begins `32 0b 00 03 74 2f 31 00 08`: identifier 8. The tap on the
device's side notes the time, and the tap on the bus's side looks for `40 02 00 08`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import cast

from gateway.connection.established import EstablishedConnection
from gateway.mqtt.data_types import read_length
from gateway.mqtt.errors import MqttError
from gateway.net.live_connections import ConnectionRegistry, LiveConnection
from gateway.system.aligned_timers import until_next_multiple_of

_WATCHED = 4
"""At a time, of those that have said nothing yet."""
_LOOK_SECONDS = 1.0
_PATIENCE = 5.0
"""Seconds after which an answer is not waited for any more: the gateway may have given it itself."""
_CHUNKS_MAX = 20
"""Chunks in which a device may ask nothing: one that speaks at QoS 0 alone is watched for no longer, for to
hear one message a chunk costs a twentieth of passing it on."""
_PINGREQ, _PINGRESP = b"\xc0\x00", b"\xd0\x00"


class Tap(asyncio.Protocol):
    """Hears what a protocol hears, and passes it on."""

    def __init__(self, transport: asyncio.Transport, hear: Callable[[bytes], None]) -> None:
        self._real = cast("asyncio.Protocol", transport.get_protocol())
        self._transport = transport
        self._hear = hear
        transport.set_protocol(self)

    def leave(self) -> None:
        """The protocol hears for itself again."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._real)
        # Else tap and sample are a cycle, and the connection garbage with its 300 KiB of buffers.
        self._hear = _hear_nothing

    def data_received(self, data: bytes) -> None:
        """A chunk."""
        self._hear(data)
        self._real.data_received(data)

    def eof_received(self) -> bool | None:
        """The peer says no more."""
        return self._real.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._real.connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer reads slowly."""
        self._real.pause_writing()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._real.resume_writing()


def _hear_nothing(_: bytes) -> None:
    """What a tap that has left makes of a chunk."""


class _Sample:
    """One connection that is watched, until the bus has answered once."""

    def __init__(
        self,
        ends: tuple[asyncio.Transport, asyncio.Transport],
        established: EstablishedConnection,
        answered: Callable[[float], None],
    ) -> None:
        self._now = asyncio.get_running_loop().time
        self._established = established
        self._answered = answered
        self._bus_transport = ends[1]
        self._answers: tuple[bytes, ...] = ()
        self.asked_at = 0.0
        """By the loop's clock; 0 while the device has asked nothing."""
        self.over = False
        self._unasked = 0
        self._device = Tap(ends[0], self._hear_device)
        self._bus: Tap | None = None

    def end(self) -> None:
        """Watch no more."""
        self.over = True
        self._device.leave()
        if self._bus is not None:
            self._bus.leave()

    def _hear_device(self, data: bytes) -> None:
        self._unasked += 1
        if self._unasked > _CHUNKS_MAX:
            self.end()
            return
        upstream = self._established.upstream
        if upstream.has_partial_packet or upstream.unprocessed is not None:
            return  # it does not begin a packet
        answers = answers_to(data)
        if answers:
            self._answers, self.asked_at = answers, self._now()
            self._device.leave()
            self._bus = Tap(self._bus_transport, self._hear_bus)

    def _hear_bus(self, data: bytes) -> None:
        if any(answer in data for answer in self._answers):
            self._answered(self._now() - self.asked_at)
            self.end()


def answers_to(data: bytes) -> tuple[bytes, ...]:
    """How the answer of the bus may begin; nothing for what is not answered, or not in the first packet here.

    A PUBACK of MQTT 5 has a reason code more when nobody is subscribed (3.4.2.1).
    """
    if data == _PINGREQ:
        return (_PINGRESP,)
    if data[0] & 0xF6 != 0x32:
        return ()
    try:
        length = read_length(data, 1, len(data))
    except MqttError:
        return ()
    if length is None or length[1] + 2 > len(data):
        return ()
    at = length[1] + 2 + (data[length[1]] << 8 | data[length[1] + 1])
    packet_id = data[at : at + 2]
    return (b"\x40\x02" + packet_id, b"\x40\x03" + packet_id) if len(packet_id) == 2 else ()


def _is_tapped(transport: asyncio.Transport) -> bool:
    """Whether an earlier sample waits there. Of two taps the inner one could not leave before the outer."""
    return isinstance(transport.get_protocol(), Tap)


class RoundTripSamples:
    """Watches a few of all connections."""

    def __init__(self, registry: ConnectionRegistry, answered: Callable[[float], None]) -> None:
        """`answered` gets how many seconds one answer took."""
        self._registry = registry
        self._answered = answered
        self._turn: Iterator[LiveConnection] = iter(())
        self._samples: list[_Sample] = []

    async def run(self) -> None:
        """Watch others every second, for ever."""
        try:
            while True:
                self.look()
                await until_next_multiple_of(_LOOK_SECONDS)
        finally:
            for sample in self._samples:
                sample.end()

    def look(self) -> None:
        """A second went by: those that said nothing are left, and others are watched."""
        now = asyncio.get_running_loop().time()
        waiting: list[_Sample] = []
        for sample in self._samples:
            if sample.over:
                continue
            if sample.asked_at and now - sample.asked_at < _PATIENCE:
                waiting.append(sample)
            else:
                sample.end()
        self._samples = waiting
        while len(self._samples) < _WATCHED and (another := self._next()) is not None:
            self._samples.append(another)

    def _next(self) -> _Sample | None:
        for side in self._turn:
            ends, established = side.transports, side.connection.established
            if ends is not None and established is not None and not any(map(_is_tapped, ends)):
                return _Sample(ends, established, self._answered)
        self._turn = iter(tuple(self._registry.live))
        return None
