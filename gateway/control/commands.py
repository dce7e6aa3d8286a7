"""What can be asked of a running gateway through its control socket, one class a subject.

    poke         look now at what an administrator changed: store, keys, policy
    connections  who is here; of one device, or of all
    kick         end a device's connections
    refused      who was refused lately
    alerts       what fires, or is about to
    trace        one device's packets and decisions, as they happen

Answers come from memory, a few items at a time, so that no message waits for ten thousand of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from gateway.admin.kick_trace_events import record_kick
from gateway.connection.device_budgets import SILENT
from gateway.connection.transition_table import State
from gateway.control.messages import Request
from gateway.control.server import Answer, Command, Peer
from gateway.control.traces import Traces
from gateway.net.data_plane_parts import DataPlane
from gateway.net.live_connections import LiveConnection
from gateway.net.live_updates import LiveUpdates
from gateway.observe.recent_refusals import RefusedClients
from gateway.store import Store, StoreError
from gateway.store.alerts import AlertRow

_LOOK_SECONDS = 0.8
"""For all looks of a poke: whoever asked for it waits no longer than a second."""

Look: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Puts in force what has changed in one subject (store, keys or policy)."""
Start: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Runs a coroutine to its end in a task of its own: `gateway.net.tasks.Tasks.start`."""


class _Looks:
    """The looks at one subject: one at a time, and each to its end, even if whoever asked for it leaves.

    A look that was ended half-way would have seen a change without putting it in force for all connections,
    and the next look would find nothing new.
    """

    def __init__(self, look: Look, start: Start) -> None:
        self._look = look
        self._start = start
        self._looking = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        """A look that has not begun: it serves all who ask before it does."""

    async def look(self) -> None:
        """Wait for a look that begins from now on."""
        if self._next is None:
            self._next = self._start(self._run())
        await asyncio.shield(self._next)

    async def _run(self) -> None:
        async with self._looking:
            self._next = None
            await self._look()


class Pokes:
    """Has the followers look at once."""

    def __init__(self, looks: Mapping[str, Look], start: Start) -> None:
        """`looks` by subject."""
        self._looks = {name: _Looks(look, start) for name, look in looks.items()}

    async def poke(self, _request: Request, _peer: Peer) -> Answer:
        """Look at everything; an item for each subject that was looked at in time."""
        deadline = asyncio.get_running_loop().time() + _LOOK_SECONDS
        for name, look in self._looks.items():
            try:
                async with asyncio.timeout_at(deadline):
                    await look.look()
            except TimeoutError:
                yield {"subject": name, "looked": False}
            else:
                yield {"subject": name, "looked": True}


class WhoIsHere:
    """The live connections, and how they are ended."""

    def __init__(self, plane: DataPlane, updates: LiveUpdates, store: Store, start: Start) -> None:
        self._start = start
        self._registry = plane.registry
        self._now = plane.context.now
        self._updates = updates
        self._store = store

    async def connections(self, request: Request, _peer: Peer) -> Answer:
        """An item for each connection: of the device in the argument `device_id`, else of all."""
        only = request.arguments.get("device_id")
        live = list(self._registry.of_device(only)) if isinstance(only, str) else self._registry.admitted()
        for side in live:
            if (described := self._described(side)) is not None:
                yield described

    def _described(self, side: LiveConnection) -> Mapping[str, object] | None:
        connection = side.connection
        identity, meter = connection.identity, connection.tls_meter
        if identity is None or meter is None or not side.since or connection.state is State.CLOSED:
            return None
        now, budget = self._now(), meter.budget
        quiet = budget.seconds_since_message
        return {
            "device_id": identity.device_id,
            "client_id": identity.client_id,
            "connected_at": side.since,
            "address": side.address,
            "protocol": connection.protocol,
            "login": side.method,
            "last_message_at": None if quiet == SILENT else now - quiet * 1_000,
            "connection": side.connection_id,
        }

    async def kick(self, request: Request, peer: Peer) -> Answer:
        """End the connections of `device_id`; the item says how many those were."""
        device_id = request.text("device_id")
        count = len(self._registry.of_device(device_id))
        if count:
            # It runs to its end even if whoever asked leaves: what the event says has to come true.
            failed: list[StoreError] = []
            await asyncio.shield(self._start(self._kick(device_id, count, peer.actor, failed)))
            if failed:
                raise failed[0]
        yield {"device_id": device_id, "connections": count}

    async def _kick(self, device_id: str, count: int, actor: str, failed: list[StoreError]) -> None:
        try:
            await record_kick(self._store, device_id, count, actor=actor)
        except StoreError as error:
            failed.append(error)
            return
        await self._updates.kick(device_id)


class RefusedLately:
    """Who was refused lately."""

    def __init__(self, clients: RefusedClients) -> None:
        self._clients = clients

    async def refused(self, _request: Request, _peer: Peer) -> Answer:
        """An item for each entry, the newest first."""
        for entry in self._clients.latest():
            yield asdict(entry)


class AlertsNow:
    """The alerts of the running gateway, which knows them also while the store can't be written."""

    def __init__(self, current: Callable[[], Sequence[AlertRow]]) -> None:
        self._current = current

    async def alerts(self, _request: Request, _peer: Peer) -> Answer:
        """An item for each alert."""
        for row in self._current():
            yield asdict(row)


def commands(
    pokes: Pokes, who: WhoIsHere, refused: RefusedLately, alerts: AlertsNow, traces: Traces
) -> Mapping[str, Command]:
    """What can be asked, by name."""
    return {
        "poke": pokes.poke,
        "connections": who.connections,
        "kick": who.kick,
        "refused": refused.refused,
        "alerts": alerts.alerts,
        "trace": traces.trace,
    }
