"""Reports what `gateway-admin` did: it has no audit of its own, and leaves its events in the store.

Each event is in the audit trail exactly once, by its id, even if this process is killed at any moment: the
store forgets it only when the trail has it on disk; and what a killed process had written to the trail, but
the store not yet forgotten, is found in the trail by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from msgspec.structs import replace

from gateway.app.savers.audit_trail_thread import AuditTrail
from gateway.connection.audit_vocabulary import Origin, Source, report_of_admin
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.logs import get_logger
from gateway.observe.save_failures import Saves
from gateway.store import Store, StoreError

_LOOK_SECONDS = 60.0
_AGAIN_SECONDS = 1.0

_log = get_logger()


class AdminEventReporter:
    """The audit events of `gateway-admin`."""

    def __init__(self, store: Store, audit: Audit, saves: Saves, trail: AuditTrail | None = None) -> None:
        self._trail = trail
        self._reported_before: frozenset[str] | None = None
        """The ids of those that the trail had when this process started."""
        self._store = store
        self._audit = audit
        self._saves = saves
        self._commits = asyncio.Event()
        self._done = False
        """Whether at the last look all could be reported, and the store could forget it."""
        self._last = 0
        """The number of the last event that was reported and is still in the store; 0: there is none."""

    async def run(self) -> None:
        """Report after each commit, and every minute in any case; every second while store or trail fail."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS if self._done else _AGAIN_SECONDS):
                    await self._commits.wait()
            self._commits.clear()
            await self.report()

    def committed(self) -> None:
        """Somebody may have committed something to the store."""
        self._commits.set()

    async def report(self) -> None:
        """Report what is new, and have the store forget it when the trail has it.

        While the store can't be read, or the trail not be written, it waits there.
        """
        self._done = False
        try:
            await self._keep()
            for number, fields in await self._store.admin_events.waiting(after=self._last):
                await self._emit(number, fields)
                self._last = number
            await self._keep()
            if self._last:
                await self._forget()
        except StoreError as error:
            self._saves.failed("events of gateway-admin", error)
            return
        except OSError:
            return  # of the trail, which says so itself
        self._done = True
        self._saves.done("events of gateway-admin")

    async def _keep(self) -> None:
        """Wait until what was reported is in the trail on disk. Raises OSError."""
        if self._trail is not None and self._last:
            await self._trail.durable()

    async def _forget(self) -> None:
        size = self._trail.size if self._trail else 0
        await self._store.admin_events.forget(self._last)
        self._last = 0
        if self._trail is not None:
            await self._trail.looked_through(size)

    async def _emit(self, number: int, fields: Mapping[str, object]) -> None:
        if self._reported_before is None:
            self._reported_before = await self._trail.ids_before() if self._trail else frozenset()
        event = _event(number, fields)
        if event is None:
            _log.error("event not reported", reason="the store holds one that says nothing")
        elif event.id not in self._reported_before:
            self._audit.emit(event)


def _event(number: int, fields: Mapping[str, object]) -> AuditEvent | None:
    """The event with these fields, as the store has it in row `number`; None if they make none."""
    time, reason, device, actor = (fields.get(name) for name in ("time", "reason", "device", "actor"))
    if type(time) is not int or not isinstance(reason, str) or not isinstance(actor, str):
        return None
    if device is not None and not isinstance(device, str):
        return None
    try:
        report = report_of_admin(str(fields.get("kind")), str(fields.get("outcome")), reason)
    except ValueError:
        return None
    event = AuditEvent.of(report, Origin(source=Source.HOUSE, device=device, address=actor), time)
    # One of an older version has no id of its own.
    return replace(event, id=str(fields.get("id") or f"row-{number}"))
