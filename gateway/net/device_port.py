"""The port for devices: makes a connection of each peer, and gives each connection its tick once a second.

Must not know how peers are accepted (`gateway.net.acceptor`), nor what they send (`gateway.net.device_side`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Sequence
from functools import partial

from gateway.connection.events import ShuttingDown
from gateway.net.acceptor import Acceptor
from gateway.net.data_plane_parts import DataPlane
from gateway.net.device_side import DeviceSide
from gateway.net.handshakes import PendingHandshake
from gateway.net.tls_handshake_errors import HandshakeFault, fault_of, in_words
from gateway.observe.logs import get_logger
from gateway.policy.engine.limits import CONNECT_DEADLINE
from gateway.system.aligned_timers import Rounds
from gateway.system.ip_address_blocks import Address, IPNetwork, place_of, plain, shown
from gateway.system.malloc import map_large_blocks

_BACKLOG = 1024
"""Peers that the system may queue for `accept`."""
_HANDSHAKE_SECONDS_MIN = 0.5
"""Seconds that a handshake gets at least, however long it had to wait for its turn."""
_TICK_PHASES = 5
"""Parts of each second: a connection always gets its tick in the same one, to spread the work."""
_TICKED_TOGETHER = 64
"""Connections that get their tick in one iteration of the event loop: about a millisecond."""
_CLOCK_JUMP_MS = 500
"""Milliseconds of drift between the clock and the loop's, above which it was set or the machine slept."""
_QUIET_SECONDS = 0.1
"""How long after the last new peer `map_large_blocks` is undone: it has sent its CONNECT by then."""
_STOP_PATIENCE = 3.0
"""Seconds for the last bytes to be sent when the gateway stops."""

_log = get_logger()


class DevicePort:
    """Accepts devices. With `tls` None only those on this machine, whatever addresses it listens on."""

    def __init__(
        self, plane: DataPlane, tls: ssl.SSLContext | None, proxies: Sequence[IPNetwork] = ()
    ) -> None:
        self._plane = plane
        self._now = plane.loop_time
        self.acceptor = Acceptor(
            self._handle_peer,
            tls,
            backlog=_BACKLOG,
            loopback_only=tls is None,
            now=plane.loop_time,
            patience=CONNECT_DEADLINE,
            proxies=proxies,
        )
        self._phase = 0
        """The part of the second whose connections got their tick last."""
        self._rounds = Rounds(1 / _TICK_PHASES, 1.0)
        """Wakes `tick` for each part of a second, or once a second while there are no connections."""
        self._next_phase = 0
        """The part that the last accepted connection was put in."""
        self._clock_ahead = 0
        """Unix time less the loop's clock, in milliseconds, at the last look."""
        self._newest = 0.0
        """When the last handshake began, by the loop's clock."""
        self._is_mapped = False
        """Whether `map_large_blocks` is on, so that the memory of TLS buffers made now can be given back."""

    def _handle_peer(self, peer: socket.socket, address: Address, since: float) -> PendingHandshake:
        host = plain(address.host)
        deadline = since + CONNECT_DEADLINE
        side = DeviceSide(self._plane, shown(host, address.port), os.urandom(6).hex(), deadline)
        self._next_phase = side.tick_phase = (self._next_phase + 1) % _TICK_PHASES
        return PendingHandshake(
            peer,
            place_of(host),
            deadline,
            begin=partial(self._begin, peer, side),
            turn_away=partial(self._turn_away, side),
        )

    def _turn_away(self, side: DeviceSide, why: str) -> None:
        """End a peer whose handshake has not begun."""
        is_late = side.deadline <= self._now()
        self._count_failure(HandshakeFault.DEADLINE if is_late else HandshakeFault.CROWDED_OUT)
        side.turn_away(why)

    def _count_failure(self, fault: HandshakeFault) -> None:
        self._plane.context.counters.tls_handshake_failures[fault] += 1

    def _begin(self, peer: socket.socket, side: DeviceSide) -> asyncio.Task[None]:
        return self._plane.tasks.start(self._do_handshake(peer, side))

    async def _do_handshake(self, peer: socket.socket, side: DeviceSide) -> None:
        left = max(side.deadline - self._now(), _HANDSHAKE_SECONDS_MIN)
        try:
            await self.acceptor.do_handshake(peer, partial(self._with_mapped_buffer, side), left)
        except (Exception, asyncio.CancelledError) as error:
            self._count_failure(fault_of(error))
            why = in_words(error) if isinstance(error, OSError) else None
            if why is not None:
                self._plane.reports.turned_away(side, why)
            _log.debug("handshake failed", address=side.address, reason=str(error) or type(error).__name__)
            if not isinstance(error, OSError):
                raise  # `Tasks` logs a fault of ours
        else:
            self._plane.context.counters.tls_handshakes += self.acceptor.tls is not None
            self._rounds.soon()

    def _with_mapped_buffer(self, side: DeviceSide) -> DeviceSide:
        # Called right before the TLS buffer is made. `_unmap_when_quiet` undoes it later.
        self._newest = self._now()
        if not self._is_mapped:
            self._is_mapped = True
            map_large_blocks(wanted=True)
            asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._unmap_when_quiet)
        return side

    def _unmap_when_quiet(self) -> None:
        left = self._newest + _QUIET_SECONDS - self._now()
        if left > 0:
            asyncio.get_running_loop().call_later(left, self._unmap_when_quiet)
        else:
            self._is_mapped = False
            map_large_blocks(wanted=False)

    def check(self) -> tuple[bool, str]:
        """Whether devices can connect, and to which port."""
        return self.acceptor.is_open, f"port {self.acceptor.port}"

    async def tick(self) -> None:
        """Give every connection a tick once a second, for ever; some per iteration of the loop.

        For a connection that rests a tick is one comparison. While there are none it wakes once a second.
        """
        second, work = 0, self._plane.context.budgets.work
        while True:
            if self._plane.registry.live:
                self._rounds.soon()
            is_part = await self._rounds.wait()
            self._phase = (self._phase + 1) % _TICK_PHASES if is_part else 0
            second += self._phase == 0
            work.second = second
            self._look_at_clock()
            due = [side for side in self._plane.registry.live if side.tick_phase == self._phase]
            for number, side in enumerate(due, 1):
                side.tick(self._now(), second)
                if number % _TICKED_TOGETHER == 0:
                    await asyncio.sleep(0)

    def _look_at_clock(self) -> None:
        """End all rests when the clock was set, for a token may have expired."""
        ahead = self._plane.context.now() - round(self._now() * 1_000)
        if abs(ahead - self._clock_ahead) > _CLOCK_JUMP_MS:
            for side in self._plane.registry.live:
                side.rests_until = 0
        self._clock_ahead = ahead

    async def stop(self) -> None:
        """End all connections: with a DISCONNECT and a few seconds for it, then at once."""
        self.acceptor.close()
        leaving = list(self._plane.registry.live)
        for number, side in enumerate(leaving, 1):
            side.receive(ShuttingDown())
            if number % _TICKED_TOGETHER == 0:
                await asyncio.sleep(0)
        deadline = self._now() + _STOP_PATIENCE
        while self._now() < deadline:
            await asyncio.sleep(0.02)
            if not self._plane.registry.live and not any(side.unwritten() for side in leaving):
                break
        for side in list(self._plane.registry.live):
            side.abort("the gateway stops")
        await asyncio.sleep(0)
