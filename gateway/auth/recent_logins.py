"""Which devices logged in lately, and from where: their logins don't wait for those of unknown ones.

Owns this bounded memory and its file format. With the file, the devices are still known after a restart, when
the verified secrets are forgotten and all have to be hashed anew. It contains keyed digests and days, no
names. Must not read or write files, nor know what follows from being known: `gateway.auth.login` and
`login_queue` do.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

DEVICES_MAX = 50_000
"""Devices that are remembered: about 12 MB in memory and 2.2 MB in the file."""
PLACES_MAX = 4
"""Places that are remembered per device, so that one that moves about does not crowd out others."""
DAYS = 30
"""For how many days after a login a device counts as seen lately."""

_DIGESTS_KEPT = 4_096
"""Devices and places whose digests are cached."""
_MAGIC = b"gateway known devices 1\n"
_KEY_SIZE = 32
_CHECK_SIZE = 16
_ROW = struct.Struct(">QI4Q")
"""Digest of the device, day since 1970, and for each place the digest of device and place; 0 for none."""
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class _Seen:
    day: int
    """Day of the last login, counted from 1970."""
    places: tuple[int, ...]
    """Digests of device and place, the latest place last."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of what is known at one moment, to be written to a file."""

    key: bytes
    seen: Mapping[int, _Seen]

    def to_bytes(self) -> bytes:
        """The content of the file. Takes some milliseconds for many devices."""
        rows = (
            _ROW.pack(device, one.day, *one.places, *(0,) * (PLACES_MAX - len(one.places)))
            for device, one in self.seen.items()
        )
        body = b"".join((_MAGIC, self.key, *rows))
        return body + _check(body)


class KnownDevices:
    """Devices and places, as keyed 64-bit digests: nobody can find a name that collides with a known one."""

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` gives Unix milliseconds."""
        self._now = now
        self._key = os.urandom(_KEY_SIZE)
        # Used for authenticated devices only. `look_up` makes its digests anew, so that it takes the same
        # time whether a device is known or not.
        self._digests = lru_cache(_DIGESTS_KEPT)(self._made_digests)
        self._seen: OrderedDict[int, _Seen] = OrderedDict()
        self._is_saved = True
        self.moved: Callable[[str], None] = lambda _: None
        """Called with the id of a known device that logs in from a place where it was not seen lately."""

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, device_id: str, place: str) -> None:
        """Remember that this device has logged in, coming from this place, by whatever method."""
        device, place_digest = self._digests(device_id, place)
        before = self._seen.get(device)
        today = self._today()
        if before is not None and before.day == today and place_digest in before.places:
            return
        if before is not None and place_digest not in before.places:
            self.moved(device_id)
        others = () if before is None else tuple(one for one in before.places if one != place_digest)
        self._seen[device] = _Seen(today, (*others, place_digest)[-PLACES_MAX:])
        self._seen.move_to_end(device)
        if len(self._seen) > DEVICES_MAX:
            self._seen.popitem(last=False)
        self._is_saved = False

    def forget(self, device_id: str) -> None:
        """Forget a removed device, for a new one may get its id."""
        if self._seen.pop(self._digest(device_id), None) is not None:
            self._is_saved = False

    def look_up(self, device_id: str, place: str) -> tuple[bool, bool]:
        """Whether this device logged in lately, and whether it did from this place. As fast for any name."""
        seen = self._seen.get(self._digest(device_id))
        place_digest = self._digest(device_id, place)
        if seen is None or self._today() - seen.day > DAYS:
            return False, False
        return True, place_digest in seen.places

    def take_unsaved(self) -> Snapshot | None:
        """What is to be saved; None if nothing has changed. From now on it counts as saved."""
        if self._is_saved:
            return None
        self._is_saved = True
        return Snapshot(self._key, dict(self._seen))

    def put_back(self) -> None:
        """Note that it was not saved after all."""
        self._is_saved = False

    def load(self, data: bytes) -> None:
        """Replace what is known by that of a file. Raises ValueError, changing nothing, if it is damaged."""
        body, check = data[:-_CHECK_SIZE], data[-_CHECK_SIZE:]
        rows = body[len(_MAGIC) + _KEY_SIZE :]
        if not body.startswith(_MAGIC) or _check(body) != check or len(rows) % _ROW.size:
            raise ValueError("it is damaged, or was not written by this version")
        today = self._today()
        seen: OrderedDict[int, _Seen] = OrderedDict()
        for device, day, *places in _ROW.iter_unpack(rows[-DEVICES_MAX * _ROW.size :]):
            if today - day <= DAYS:
                # A day from a clock that was ahead must not count for longer than a right one.
                seen[device] = _Seen(min(day, today), tuple(place for place in places if place))
        self._key = body[len(_MAGIC) : len(_MAGIC) + _KEY_SIZE]
        self._digests.cache_clear()
        self._seen = seen
        self._is_saved = True

    def _made_digests(self, device_id: str, place: str) -> tuple[int, int]:
        return self._digest(device_id), self._digest(device_id, place)

    def _digest(self, *parts: str) -> int:
        # A device id contains no zero byte: a device and a place can't look like a different device.
        data = "\0".join(parts).encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.blake2b(data, key=self._key, digest_size=8).digest())

    def _today(self) -> int:
        return self._now() // 1_000 // _DAY_SECONDS


def _check(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECK_SIZE).digest()
