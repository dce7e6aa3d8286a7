"""How long the bus takes to answer devices, measured for a few messages a second, whatever the load is.

For a second at a time a few connections are watched: a tap takes the place of the protocol of their two
transports, and passes on all it gets. It waits for a PUBLISH at QoS 1 and its PUBACK, or for a PINGREQ and
its PINGRESP. This way connections that are not watched pay nothing.

For example, a chunk of the device begins `32 0b 00 03 74 2f 31 00 08`: identifier 8. The tap on the
device's side notes the time, and the tap on the bus's side looks for `40 02 00 08`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import cast

from gateway.connection.established import EstablishedConnection
from gateway.mqtt.data_types import read_length
from gateway.mqtt.errors import MqttError
from gateway.net.live_connections import ConnectionRegistry
from gateway.system.aligned_timers import until_next_multiple_of

_WATCHED = 4
"""Connections that are watched at a time."""
_LOOK_SECONDS = 1.0
"""For how long a connection that sends nothing to be answered is watched."""
_PATIENCE = 5.0
"""Seconds after which an answer is given up: the gateway may have answered by itself."""
_CHUNKS_MAX = 20
"""Chunks without anything to be answered, after which a connection is no longer watched: for a device that
sends at QoS 0 alone watching adds a twentieth to the cost of each message."""
_PINGREQ, _PINGRESP = b"\xc0\x00", b"\xd0\x00"


class Tap(asyncio.Protocol):
    """Takes the place of a transport's protocol, and passes on to it all that it gets."""

    def __init__(self, transport: asyncio.Transport, hear: Callable[[bytes], None]) -> None:
        self._real = cast("asyncio.Protocol", transport.get_protocol())
        self._transport = transport
        self._hear = hear
        transport.set_protocol(self)

    def leave(self) -> None:
        """Put the protocol back in its place."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._real)
        # Else tap and sample would be a reference cycle that keeps the connection's 300 KiB of buffers.
        self._hear = _hear_nothing

    def data_received(self, data: bytes) -> None:
        """A chunk."""
        self._hear(data)
        self._real.data_received(data)

    def eof_received(self) -> bool | None:
        """The peer sends no more."""
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
    """What a tap does with a chunk once it has left."""


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
        """When the device sent what is to be answered, by the loop's clock; 0 before that."""
        self.has_ended = False
        self._unasked = 0
        """Chunks so far without anything to be answered."""
        self._device = Tap(ends[0], self._hear_device)
        self._bus: Tap | None = None

    def end(self) -> None:
        """Watch no more."""
        self.has_ended = True
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
    """The first bytes that the bus's answer to this chunk may have; empty if its first packet gets none.

    A PUBACK of MQTT 5 is one reason code longer when nobody is subscribed (3.4.2.1).
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
    """Whether an earlier sample still waits there: of two taps the inner one could not leave first."""
    return isinstance(transport.get_protocol(), Tap)


class RoundTripSamples:
    """Watches a few of all connections."""

    def __init__(self, registry: ConnectionRegistry, answered: Callable[[float], None]) -> None:
        """`answered` is called with the seconds that one answer took."""
        self._registry = registry
        self._answered = answered
        self._seen = 0
        """How many of the registry's connections this round has come by."""
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
        """Once a second: stop watching those that sent nothing to be answered, and watch others."""
        now = asyncio.get_running_loop().time()
        waiting: list[_Sample] = []
        for sample in self._samples:
            if sample.has_ended:
                continue
            if sample.asked_at and now - sample.asked_at < _PATIENCE:
                waiting.append(sample)
            else:
                sample.end()
        self._samples = waiting
        # Counted, not kept: a list of all would keep those that end meanwhile in memory.
        for side in islice(self._registry.live, self._seen, None):
            if len(self._samples) >= _WATCHED:
                return
            self._seen += 1
            ends, established = side.transports, side.connection.established
            if ends is not None and established is not None and not any(map(_is_tapped, ends)):
                self._samples.append(_Sample(ends, established, self._answered))
        self._seen = 0
