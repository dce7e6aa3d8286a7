"""Saves what the policy refused, by the id in the audit line, for `gateway-admin acl why` to explain it."""

from __future__ import annotations

from collections import Counter

from gateway.app.savers.saver import ROWS_MAX, Saver
from gateway.connection.process_counters import Counters
from gateway.observe.audit_dispatch import AuditEvent
from gateway.observe.audit_rate_limit import AuditRateLimit
from gateway.observe.save_failures import Saves
from gateway.store import Store, StoredRefusal

_WAITING_MAX = 5_000
"""Refusals that may wait for the store."""
_FIRST = 2
"""Refusals of one device that may wait however many of others do."""


class PolicyDenialsSaver(Saver):
    """A consumer of the audit, with the rate limit of the log, so that each line there can be explained."""

    subject = "refusals"
    saves_of_a_round = 6
    """240 refusals a second: the rate limit lets 200 in."""

    def __init__(self, store: Store, counters: Counters, saves: Saves) -> None:
        super().__init__(saves)
        self._store = store
        self._counters = counters
        self._rate_limit = AuditRateLimit()
        self._unsaved: list[StoredRefusal] = []
        self._waiting: Counter[str] = Counter()

    def __call__(self, event: AuditEvent) -> None:
        """Keep a refusal until it is saved, within bounds: an attack must not fill the memory."""
        if event.id is None or not event.explicable:
            return
        device_id = event.device or ""
        full = len(self._unsaved) >= _WAITING_MAX and self._waiting[device_id] >= _FIRST
        if full or not self._rate_limit.admits(event, event.time):
            self._counters.refusals_not_kept += 1
            return
        self._waiting[device_id] += 1
        self._unsaved.append(
            StoredRefusal(
                event.id,
                event.time // 1_000,
                device_id,
                event.action or "",
                event.topic or "",
                event.reason,
                event.rule or "",
            )
        )

    async def write(self) -> bool:
        """The oldest of those that wait."""
        oldest = tuple(self._unsaved[:ROWS_MAX])
        await self._store.refusals.add(oldest)
        del self._unsaved[: len(oldest)]
        self._waiting -= Counter(one.device_id for one in oldest)
        return bool(oldest)
