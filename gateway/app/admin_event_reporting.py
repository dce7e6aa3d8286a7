"""Reports what `gateway-admin` did, which leaves its events in the store: it has no audit of its own."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.app.periodic import every
from gateway.connection.audit_event_kinds import Origin, Source, report_of_admin
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.logs import get_logger
from gateway.observe.save_failures import Saves
from gateway.store import Store, StoreError

_LOOK_SECONDS = 1.0

_log = get_logger()


class AdminEventReporter:
    """The audit events of `gateway-admin`."""

    def __init__(self, store: Store, audit: Audit, saves: Saves) -> None:
        self._store = store
        self._audit = audit
        self._saves = saves
        self._last = 0
        """The number of the last one that was reported and that the store has not forgotten."""

    async def run(self) -> None:
        """Look every second, for ever."""
        await every(_LOOK_SECONDS, self.report)

    async def report(self) -> None:
        """Report what is new, and then have the store forget it: reported twice is better than never.

        While the store can't be read it waits there.
        """
        try:
            for number, noted in await self._store.admin_events.waiting(after=self._last):
                self._emit(noted)
                self._last = number
            if self._last:
                await self._store.admin_events.forget(self._last)
                self._last = 0
        except StoreError as error:
            self._saves.failed("events of gateway-admin", error)
            return
        self._saves.done("events of gateway-admin")

    def _emit(self, noted: Mapping[str, object]) -> None:
        event = _event(noted)
        if event is None:
            _log.error("event not reported", reason="the store holds one that says nothing")
        else:
            self._audit.emit(event)


def _event(noted: Mapping[str, object]) -> AuditEvent | None:
    time, reason, device, actor = (noted.get(name) for name in ("time", "reason", "device", "actor"))
    if type(time) is not int or not isinstance(reason, str) or not isinstance(actor, str):
        return None
    if device is not None and not isinstance(device, str):
        return None
    try:
        report = report_of_admin(str(noted.get("kind")), str(noted.get("outcome")), reason)
    except ValueError:
        return None
    return AuditEvent.of(report, Origin(source=Source.HOUSE, device=device, address=actor), time)
