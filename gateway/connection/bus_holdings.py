"""What each device holds on the bus: retained topics, sessions that outlive their connection, their filters.

The bus keeps these when the device has left, so they are counted per device and over restarts, each as a hash
of 64 bits. At the bound a new one is refused. Must not know a clock, nor the store: `take` says what to save.

    Holdings ── DeviceHoldings, one per device ── KeptSession, one per session that may outlive a connection
                     ▲                                 ▲
                     └──── ConnectionHoldings ─────────┘   what one connection adds to them

In doubt it counts too many: where the order of two connections of one session can't be known, what either of
them may have left on the bus; and what the gateway does not hear of (a retained message that expired or was
cleared by somebody else, a session that the bus dropped) until the device clears it, comes back, or an
administrator has it forgotten. It counts too few after a kill before a save, or of a lost UNSUBSCRIBE.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Protocol

from gateway.connection.hash_set import HashSet, hash_of

FOREVER = 0xFFFF_FFFF
"""A Session Expiry Interval that never ends (MQTT 5, 3.1.2.11.2); any session of 3.1.1 that is not clean."""
_EXPIRY_LAG = 60
"""Seconds for which the bus may still have a session that has expired: it checks only now and then."""


class Kind(StrEnum):
    """What a device may hold only a bounded number of.

    RETAINED and SESSION are saved. A SUBSCRIPTION is saved as part of its session: as a kind it only names
    what was refused (`Counters.holdings_refused`).
    """

    RETAINED = "retained"
    SESSION = "session"
    SUBSCRIPTION = "subscription"


@dataclass(frozen=True, slots=True)
class SavedHoldings:
    """What is saved in one row: the retained topics of a device, or one of its sessions."""

    device_id: str
    kind: Kind
    key: int
    """The hash of the session's client id; 0 for retained topics."""
    lifetime: int
    """Seconds that the session outlives its connection."""
    since: int
    """When the session's last connection ended, in Unix seconds; 0 while it has one, and for topics."""
    keys: bytes
    """The hashes of the topics or filters, eight bytes each, little-endian."""
    gone: bool = False
    """Whether nothing of it is held any more: the row is deleted."""


class Publisher(Protocol):
    """A connection that remembers which of its retained topics are counted (`upstream`)."""

    def uncount(self, topic: bytes | None) -> None:
        """Forget that this topic is counted; with None, that any is."""


class KeptSession:
    """A session on the bus that outlives, or may outlive, its connections."""

    __slots__ = ("filters", "lifetime", "saved", "since", "users")

    def __init__(self, lifetime: int = 0, since: int = 0, filters: bytes = b"") -> None:
        self.lifetime = lifetime
        """Seconds that it outlives its last connection."""
        self.since = since
        """When that connection ended, in Unix seconds."""
        self.filters = HashSet(filters)
        self.saved = False
        """Whether the store may have a row for it."""
        self.users: set[ConnectionHoldings] = set()
        """Its live connections: mostly one; two for the moment in which a new one takes over."""

    def has_expired(self, now: int) -> bool:
        """Whether it expired so long ago that the bus has dropped it. `now` in Unix seconds."""
        return not self.users and self.lifetime < FOREVER and now > self.since + self.lifetime + _EXPIRY_LAG


class DeviceHoldings:
    """What one device holds."""

    __slots__ = ("_changed", "device_id", "publishers", "retained", "sessions")

    def __init__(self, device_id: str, changed: dict[tuple[str, int | None], DeviceHoldings]) -> None:
        self.device_id = device_id
        self.retained = HashSet()
        self.sessions: dict[int, KeptSession] = {}
        self.publishers: set[Publisher] = set()
        """Connections that have counted a topic here."""
        self._changed = changed

    def changed(self, session: int | None = None) -> None:
        """Have it saved: the session of this hash, or with None the retained topics."""
        self._changed[self.device_id, session] = self

    def retain(self, topic: bytes, most: int) -> bool:
        """Count a topic with a retained message; False: the device has `most` of them already."""
        key = hash_of(topic)
        if key not in self.retained:
            if len(self.retained) >= most:
                return False
            self.retained.add(key)
            self.changed()
        return True

    def clear(self, topic: bytes) -> int:
        """Count a topic no longer: it was cleared. Returns how many connections were told to `uncount` it."""
        if not self.retained.discard(hash_of(topic)):
            return 0
        self.changed()
        for publisher in self.publishers:
            publisher.uncount(topic)
        return len(self.publishers)

    def room_for_session(self, most: int, now: int) -> bool:
        """Whether fewer than `most` are left once expired sessions are dropped. `now` in Unix seconds."""
        if len(self.sessions) >= most:
            for key in [key for key, kept in self.sessions.items() if kept.has_expired(now)]:
                self.drop_session(key)
        return len(self.sessions) < most

    def new_session(self, key: int) -> KeptSession:
        """Count one session more; `key` is the hash of its client id."""
        kept = self.sessions[key] = KeptSession()
        # A session of the same client id was dropped, and its row is not deleted yet.
        kept.saved = (self.device_id, key) in self._changed
        return kept

    def drop_session(self, key: int) -> None:
        """Count a session no longer: the bus has dropped it."""
        kept = self.sessions.pop(key, None)
        if kept is not None and kept.saved:
            self.changed(key)
        elif kept is not None:
            # Else a device that makes and ends sessions faster than they are saved would fill the memory.
            self._changed.pop((self.device_id, key), None)

    def forget(self) -> None:
        """Count from zero, except for connected sessions: those surely exist."""
        self.retained = HashSet()
        self.changed()
        for publisher in self.publishers:
            publisher.uncount(None)
        for key in [key for key, kept in self.sessions.items() if not kept.users]:
            self.drop_session(key)

    def saved_form(self, session: int | None) -> SavedHoldings:
        """The retained topics or a session, as they are saved."""
        if session is None:
            keys = self.retained.to_bytes()
            return SavedHoldings(self.device_id, Kind.RETAINED, 0, 0, 0, keys, gone=not keys)
        kept = self.sessions.get(session)
        if kept is None:
            return SavedHoldings(self.device_id, Kind.SESSION, session, 0, 0, b"", gone=True)
        kept.saved = True
        since = 0 if kept.users else kept.since
        return SavedHoldings(
            self.device_id, Kind.SESSION, session, kept.lifetime, since, kept.filters.to_bytes()
        )


class Holdings:
    """What all devices hold. One per process."""

    __slots__ = ("_changed", "_devices")

    def __init__(self) -> None:
        self._devices: dict[str, DeviceHoldings] = {}
        self._changed: dict[tuple[str, int | None], DeviceHoldings] = {}

    def find(self, device_id: str) -> DeviceHoldings | None:
        """What a device holds; None for nothing."""
        return self._devices.get(device_id)

    def of(self, device_id: str) -> DeviceHoldings:
        """What a device holds, to add to it."""
        holding = self._devices.get(device_id)
        if holding is None:
            holding = self._devices[device_id] = DeviceHoldings(device_id, self._changed)
        return holding

    def load(self, saved: list[SavedHoldings], now: int) -> None:
        """Count what an earlier process saved. `now` in Unix seconds."""
        for one in saved:
            holding = self.of(one.device_id)
            if one.kind is Kind.RETAINED:
                holding.retained = HashSet(one.keys)
                continue
            # Without `since` it was connected when it was saved: that connection ended before now.
            kept = KeptSession(one.lifetime, one.since or now, one.keys)
            kept.saved = True
            holding.sessions[one.key] = kept
            if kept.has_expired(now):
                holding.drop_session(one.key)
            elif not one.since:
                holding.changed(one.key)

    def take(self, most: int) -> list[SavedHoldings]:
        """At most `most` of what is to be saved, the longest waiting first."""
        keys = list(islice(self._changed, most))
        return [self._changed.pop(key).saved_form(key[1]) for key in keys]

    def put_back(self, unsaved: list[SavedHoldings]) -> None:
        """Have these saved later: they could not be saved now."""
        for one in unsaved:
            if holding := self._devices.get(one.device_id):
                holding.changed(one.key if one.kind is Kind.SESSION else None)

    def forget(self, device_id: str) -> None:
        """Count a device from zero: an administrator says that the bus holds nothing of it."""
        if holding := self._devices.get(device_id):
            holding.forget()

    def drop(self, device_id: str) -> None:
        """The device was removed, and its connections have ended."""
        self.forget(device_id)
        self._devices.pop(device_id, None)
        for key in [key for key in self._changed if key[0] == device_id]:
            del self._changed[key]


class ConnectionHoldings:
    """What one connection adds to what its device holds."""

    __slots__ = (
        "_device_id",
        "_established",
        "_holdings",
        "_is_new",
        "_is_surely_latest",
        "_kept",
        "_key",
        "lifetime",
    )

    def __init__(self, holdings: Holdings, device_id: str) -> None:
        self._holdings = holdings
        self._device_id = device_id
        self.lifetime = 0
        """Seconds that the session outlives this connection."""
        self._key = 0
        self._kept: KeptSession | None = None
        self._is_new = False
        self._established = False
        self._is_surely_latest = False
        """Whether the bus surely accepted this connection after all others of its session with a lifetime.

        If so, what this one says of the session (its lifetime, that it is gone) replaces what was counted;
        else the larger value stays counted.
        """

    # The session

    def count_session(self, client_id: bytes, lifetime: int, most: int, now: int) -> bool:
        """Count the session of this CONNECT if it outlives the connection; False: there is no room for it.

        `client_id` is the one that the bus gets, `lifetime` in seconds, `now` in Unix seconds.
        """
        holding = self._holdings.find(self._device_id)
        if not lifetime and (holding is None or not holding.sessions):
            return True
        key = hash_of(client_id)
        kept = holding.sessions.get(key) if holding else None
        if kept is None:
            if not lifetime:
                return True
            holding = self._holdings.of(self._device_id)
            if not holding.room_for_session(most, now):
                return False
            kept = holding.new_session(key)
            self._is_new = True
        # Of two connections that open at once it is not known which one the bus accepts last.
        self._is_surely_latest = all(other._established for other in kept.users if other.lifetime)  # noqa: SLF001
        if lifetime:
            for other in kept.users:
                other._is_surely_latest = False  # noqa: SLF001
            kept.lifetime = max(kept.lifetime, lifetime)
            self._holdings.of(self._device_id).changed(key)
        kept.users.add(self)
        self._key, self._kept, self.lifetime = key, kept, lifetime
        return True

    def established(self, *, session_present: bool, lifetime: int | None) -> None:
        """The bus accepted the CONNECT; `lifetime` in seconds if it chose one itself (MQTT 5, 3.2.2.3.2)."""
        kept = self._kept
        if kept is None:
            return
        self._established = True
        if lifetime is not None:
            self.lifetime = lifetime
            kept.lifetime = max(kept.lifetime, lifetime)
        if self._is_surely_latest and not session_present and kept.filters:
            kept.filters = HashSet()
            self._changed(kept)

    def refused(self) -> None:
        """The bus did not accept the CONNECT: its session is as before. A longer lifetime stays counted."""
        kept, self._kept = self._kept, None
        if kept is None:
            return
        kept.users.discard(self)
        if self._is_new and not kept.users:
            self._drop(kept)

    def end(self, now: int) -> None:
        """The connection is over. `now` in Unix seconds."""
        kept, self._kept = self._kept, None
        if kept is None:
            return
        kept.users.discard(self)
        is_latest = self._is_surely_latest and self._established
        if is_latest and not self.lifetime:
            self._drop(kept)
            return
        kept.lifetime = self.lifetime if is_latest else max(kept.lifetime, self.lifetime)
        kept.since = now
        self._changed(kept)

    def _drop(self, kept: KeptSession) -> None:
        if holding := self._holding_with(kept):
            holding.drop_session(self._key)

    def _changed(self, kept: KeptSession) -> None:
        if holding := self._holding_with(kept):
            holding.changed(self._key)

    def _holding_with(self, kept: KeptSession) -> DeviceHoldings | None:
        """The holding, if it has this session, and not a different one of the same client id."""
        holding = self._holdings.find(self._device_id)
        return holding if holding and holding.sessions.get(self._key) is kept else None

    # Its filters

    @property
    def keeps(self) -> bool:
        """Whether the session may outlive its connection, so that its filters are counted here."""
        return self._kept is not None

    def has(self, topic_filter: bytes) -> bool:
        """Whether the session is known to have this filter, from an earlier connection perhaps."""
        return self._kept is not None and hash_of(topic_filter) in self._kept.filters

    @property
    def filters_kept(self) -> int:
        """Filters of all sessions of the device that are counted here."""
        holding = self._holdings.find(self._device_id)
        return sum(len(kept.filters) for kept in holding.sessions.values()) if holding else 0

    def subscribe(self, topic_filter: bytes, most: int) -> bool:
        """Count a filter of the session; False: it has `most` already."""
        kept = self._kept
        if kept is None:
            return True
        key = hash_of(topic_filter)
        if key not in kept.filters:
            if len(kept.filters) >= most:
                return False
            kept.filters.add(key)
            self._changed(kept)
        return True

    def unsubscribe(self, topic_filter: bytes) -> None:
        """Count this filter of the session no longer."""
        kept = self._kept
        if kept is not None and kept.filters.discard(hash_of(topic_filter)):
            self._changed(kept)

    # Retained topics

    def retain(self, topic: bytes, most: int, publisher: Publisher | None = None) -> bool:
        """Count a topic with a retained message; False: the device has `most` of them already.

        `publisher.uncount` is called when the topic is no longer counted.
        """
        holding = self._holdings.of(self._device_id)
        if not holding.retain(topic, most):
            return False
        if publisher is not None:
            holding.publishers.add(publisher)
        return True

    def clear(self, topic: bytes) -> int:
        """Count a topic no longer: it was cleared. Returns how many connections were told to `uncount` it."""
        holding = self._holdings.find(self._device_id)
        return holding.clear(topic) if holding else 0

    def remove_publisher(self, publisher: Publisher) -> None:
        """Call this publisher no more: its connection has ended."""
        if holding := self._holdings.find(self._device_id):
            holding.publishers.discard(publisher)
