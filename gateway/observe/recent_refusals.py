"""Who was refused lately, from where, why and how often: what a security person looks at first.

Refusals that are alike are one entry: those of the same device, host, kind and reason. Bounded so that nobody
can push out what others were refused: an authenticated device (the store says `proven`) has entries of its
own, strangers share those of their place, and neither kind takes room from the other. Must not know where
entries are saved.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from gateway.connection.audit_vocabulary import Outcome, Source, refused_login
from gateway.observe.audit_event import AuditEvent
from gateway.store import RefusedClient
from gateway.store.recent_refusals import KEPT_SECONDS
from gateway.system.ip_address_blocks import host_of, place_of

OF_A_DEVICE = 50
"""Entries of one device, at most."""
OF_A_PLACE = 200
"""Entries of the strangers of one place."""
OF_ALL = 2_500
"""Entries of all devices together; and as many of all strangers."""
_REASON_MAX = 300
_TOPIC_MAX = 256
"""Characters that are kept of a reason and of a topic."""

Key = tuple[str, str, str, str]
"""Device, host, kind, reason."""


class _Pool:
    """Entries, in groups of one device or place.

    Those whose last refusal is longest ago are dropped first: of a group that is full, else of all.
    """

    def __init__(self, of_a_group: int) -> None:
        self._of_a_group = of_a_group
        self._entries: OrderedDict[Key, RefusedClient] = OrderedDict()
        self._groups: dict[str, OrderedDict[Key, None]] = {}

    def __iter__(self) -> Iterator[RefusedClient]:
        return iter(self._entries.values())

    def get(self, key: Key) -> RefusedClient | None:
        return self._entries.get(key)

    def touch(self, entry: RefusedClient, group: str) -> None:
        """Add this entry, or have it be the newest now."""
        key = key_of(entry)
        if key not in self._entries:
            self._make_room(group)
            self._entries[key] = entry
        self._entries.move_to_end(key)
        own = self._groups.get(group)
        if own is None:
            own = self._groups[group] = OrderedDict()
        own[key] = None
        own.move_to_end(key)

    def _make_room(self, group: str) -> None:
        own = self._groups.get(group, ())
        if len(own) >= self._of_a_group:
            self._drop(next(iter(own)), group)
        elif len(self._entries) >= OF_ALL:
            oldest = next(iter(self._entries.values()))
            self._drop(key_of(oldest), group_of(oldest))

    def _drop(self, key: Key, group: str) -> None:
        del self._entries[key]
        own = self._groups[group]
        del own[key]
        if not own:
            del self._groups[group]


def key_of(entry: RefusedClient) -> Key:
    """What the refusals of one entry have in common."""
    return entry.device_id, entry.host, entry.kind, entry.reason


def group_of(entry: RefusedClient) -> str:
    """The group that an entry belongs to: a device id, or a place."""
    return entry.device_id if entry.proven else place_of(entry.host)


class RefusedClients:
    """A consumer of the audit."""

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` gives Unix milliseconds."""
        self._now = now
        self._devices = _Pool(OF_A_DEVICE)
        self._strangers = _Pool(OF_A_PLACE)
        self._unsaved: OrderedDict[Key, bool] = OrderedDict()
        """The keys, and whether the device is proven. (A plain dict looks for its oldest past all that were
        taken out of it.)"""

    def load(self, entries: Iterable[RefusedClient]) -> None:
        """Go on from what is saved."""
        for entry in sorted(entries, key=lambda one: one.last_at):
            self._pool(entry.proven).touch(entry, group_of(entry))

    def __call__(self, event: AuditEvent) -> None:
        """Count a refusal. About two microseconds."""
        if event.outcome is not Outcome.REFUSED or event.source is Source.HOUSE:
            return
        proven = event.source is Source.DEVICE and event.device is not None
        host = host_of(event.address or "")
        reason = event.reason[:_REASON_MAX]
        key: Key = (event.device or "", host, event.kind.value, reason)
        pool, now = self._pool(proven), event.time // 1_000
        entry = pool.get(key)
        if entry is None:
            entry = RefusedClient(*key, proven, "", "", "", "", first_at=now, last_at=now, count=0)
        entry.count += event.count
        entry.last_at = now
        entry.action = event.action or ""
        entry.topic = (event.topic or "")[:_TOPIC_MAX]
        entry.rule = event.rule or ""
        entry.refusal_id = event.id or ""
        pool.touch(entry, group_of(entry))
        self._unsaved[key] = proven

    def again(self, device_id: str, host: str, reason: str) -> None:
        """A login was refused for the same reason as one before it, for which there was an event."""
        key: Key = (device_id, host, refused_login(reason).kind.value, reason[:_REASON_MAX])
        for proven in (False, True):
            pool = self._pool(proven)
            if (entry := pool.get(key)) is not None:
                entry.count += 1
                entry.last_at = self._now() // 1_000
                pool.touch(entry, group_of(entry))
                self._unsaved[key] = proven

    def _pool(self, proven: bool) -> _Pool:  # noqa: FBT001 - which of the two
        return self._devices if proven else self._strangers

    def latest(self) -> list[RefusedClient]:
        """Those of the last three days, the newest first."""
        since = self._now() // 1_000 - KEPT_SECONDS
        found = [one for pool in (self._devices, self._strangers) for one in pool if one.last_at >= since]
        # Of those of the same second the later comes first, too: a pool has its newest at the end.
        return sorted(found, key=lambda one: one.last_at)[::-1]

    def take_unsaved(self, most: int) -> Sequence[RefusedClient]:
        """Some of those that have changed since they were saved; they count as saved."""
        taken: list[RefusedClient] = []
        while self._unsaved and len(taken) < most:
            key, proven = self._unsaved.popitem(last=False)
            entry = self._pool(proven).get(key)
            if entry is not None:
                taken.append(replace(entry))  # a thread saves it while refusals change this one
        return taken

    def put_back(self, entries: Sequence[RefusedClient]) -> None:
        """These could not be saved."""
        for entry in entries:
            self._unsaved[key_of(entry)] = entry.proven
