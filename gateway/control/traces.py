"""One device's packets and decisions, live, for whoever asks on the control socket.

Owns how much is shown: lines a second, in all, and for how long. Whoever reads too slowly misses lines, and
is told how many. The lines themselves are made in `gateway.connection.packet_tracing`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial

from gateway.admin.errors import Refused
from gateway.admin.kick_trace_events import record_trace
from gateway.connection.packet_tracing import ConnectionTrace, TracedConnection
from gateway.connection.transition_table import State
from gateway.control.messages import Request
from gateway.control.server import Answer, Peer
from gateway.mqtt.packet_summary import Shown
from gateway.net.data_plane_parts import DataPlane
from gateway.net.live_connections import LiveConnection
from gateway.observe.audit_event import AuditEvent
from gateway.observe.device_watchers import EventListeners
from gateway.store import Store

SECONDS_MAX = 3_600
"""Seconds that a trace may take."""
_LINES_MAX = 100_000
"""Lines of a trace, after which it ends."""
_LINES_PER_SECOND = 500
"""Lines made in a second, which takes about 10 ms."""
_WAITING_MAX = 1_000
"""Lines that wait to be read."""
_TRACES_MAX = 4
"""Traces that run at once."""


class Traces:
    """The traces that run, one at a time for each device."""

    def __init__(self, plane: DataPlane, store: Store, events: EventListeners) -> None:
        self._plane = plane
        self._store = store
        self._events = events
        self._running: set[str] = set()

    async def trace(self, request: Request, peer: Peer) -> Answer:
        """Lines about `device_id` as they come, for `seconds`; also of connections that are made later."""
        device_id, seconds = request.text("device_id"), request.number("seconds")
        if not 0 < seconds <= SECONDS_MAX:
            raise Refused(f"a trace takes from 1 s to {SECONDS_MAX // 60} minutes")
        if device_id in self._running:
            raise Refused(f"somebody looks at {device_id} already")
        if len(self._running) >= _TRACES_MAX:
            raise Refused(f"{_TRACES_MAX} other devices are looked at already")
        self._running.add(device_id)
        trace = _DeviceTrace(self._plane, self._events, device_id)
        try:
            await record_trace(self._store, device_id, seconds, actor=peer.actor)
            trace.begin()
            async for line in trace.lines(seconds):
                yield line
        finally:
            trace.end()
            self._running.discard(device_id)


class _DeviceTrace:
    """The trace of one device."""

    def __init__(self, plane: DataPlane, events: EventListeners, device_id: str) -> None:
        self._plane = plane
        self._events = events
        self._device_id = device_id
        self._waiting: deque[Shown] = deque()
        self._more = asyncio.Event()
        self._missed = 0
        self._missed_more = False
        """Whether more was missed than `_missed` counts: packets that were not even looked into."""
        self._second = 0
        self._made = 0
        """Lines made in this second."""
        self._sides: list[LiveConnection] = []

    def begin(self) -> None:
        """Trace the connections that are there, and those that are made later."""
        self._plane.registry.watched[self._device_id] = self._arrived
        self._events.of_device[self._device_id] = self._reported
        there = self._plane.registry.of_device(self._device_id)
        self._put("", {"event": "begins", "connections": len(there)})
        for side in there:
            self._put(
                side.connection_id, {"event": "connected", "address": side.address, "since": side.since}
            )
            self._attach(side)

    def end(self) -> None:
        """Stop tracing."""
        self._plane.registry.watched.pop(self._device_id, None)
        self._events.of_device.pop(self._device_id, None)
        for side in self._sides:
            if isinstance(side.connection, TracedConnection):
                side.connection = side.connection.untraced()

    def _arrived(self, side: LiveConnection) -> None:
        self._sides = [one for one in self._sides if one.connection.state is not State.CLOSED]
        self._put(
            side.connection_id, {"event": "connects", "address": side.address, "login": side.method or None}
        )
        self._attach(side).show_connect()

    def _attach(self, side: LiveConnection) -> TracedConnection:
        trace = ConnectionTrace(partial(self._put, side.connection_id), self._room, self._unread)
        traced = TracedConnection(side.connection, trace)
        side.connection = traced
        self._sides.append(side)
        return traced

    def _reported(self, event: AuditEvent) -> None:
        """Show an audit event about this device, or about a stranger that claims to be it."""
        said = {
            "event": "audit",
            "kind": event.kind.value,
            "outcome": event.outcome.value,
            "reason": event.reason,
            "action": event.action,
            "topic": event.topic,
            "rule": event.rule,
            "id": event.id,
            "address": event.address,
        }
        self._put(event.connection or "", {name: value for name, value in said.items() if value is not None})

    def _room(self) -> bool:
        """Whether one more line may be made now; if not, it is counted as missed."""
        second = int(self._plane.loop_time())
        if second != self._second:
            self._second, self._made = second, 0
        if self._made < _LINES_PER_SECOND and len(self._waiting) < _WAITING_MAX:
            self._made += 1
            return True
        self._missed += 1
        return False

    def _unread(self) -> None:
        """Packets came that were neither shown nor counted (`ConnectionTrace`)."""
        self._missed_more = True

    def _put(self, connection_id: str, line: Shown) -> None:
        if len(self._waiting) >= _WAITING_MAX:
            self._missed += 1
            return
        at: Shown = {"at": self._plane.context.now()}
        self._waiting.append(at | ({"connection": connection_id} if connection_id else {}) | line)
        self._more.set()

    async def lines(self, seconds: int) -> Answer:
        """All that is to be shown, for `seconds`."""
        deadline = self._plane.loop_time() + seconds
        shown = 0
        while shown < _LINES_MAX:
            while self._waiting and shown < _LINES_MAX and self._plane.loop_time() < deadline:
                yield self._waiting.popleft()
                shown += 1
            if self._missed or self._missed_more:
                missed: Shown = {"event": "missed", "lines": self._missed, "more": self._missed_more}
                self._missed, self._missed_more = 0, False
                yield {"at": self._plane.context.now()} | missed
            self._more.clear()
            if self._waiting and self._plane.loop_time() < deadline:
                continue
            try:
                async with asyncio.timeout_at(deadline):
                    await self._more.wait()
            except TimeoutError:
                yield self._over(f"{seconds} s are over")
                return
        yield self._over(f"{_LINES_MAX:,} lines were shown")

    def _over(self, why: str) -> Shown:
        return {"at": self._plane.context.now(), "event": "ends", "reason": why}
