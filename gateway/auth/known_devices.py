"""Which devices logged in lately, and from where: whose login does not wait for those of unknown ones.

Owns a bounded memory of that, and its form in a file, so that a restart, which forgets the remembered
secrets, does not make all of them unknown. The file holds keyed digests and days, no names. Must not know
files, nor what follows from being known: `gateway.auth.login` and `login_queue` do.
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
"""Some 12 MB in memory and 2.2 MB in the file."""
PLACES_MAX = 4
"""For each device: one that moves about pushes no other out."""
DAYS = 30
"""For so long a device counts as seen lately."""

_DIGESTS_KEPT = 4_096
"""Devices that come again whose digests are not made again."""
_MAGIC = b"gateway known devices 1\n"
_KEY_SIZE = 32
_CHECK_SIZE = 16
_ROW = struct.Struct(">QI4Q")
"""Digest of the device, day since 1970, digests of device and place; 0 for none."""
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class _Seen:
    day: int
    places: tuple[int, ...]
    """The last one last."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was known at one moment, to be written down elsewhere."""

    key: bytes
    seen: Mapping[int, _Seen]

    def to_bytes(self) -> bytes:
        """The file. Some milliseconds for many devices."""
        rows = (
            _ROW.pack(device, one.day, *one.places, *(0,) * (PLACES_MAX - len(one.places)))
            for device, one in self.seen.items()
        )
        body = b"".join((_MAGIC, self.key, *rows))
        return body + _check(body)


class KnownDevices:
    """Devices and places, as keyed digests of 64 bits: no name can be chosen that passes for a known one."""

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` gives Unix milliseconds."""
        self._now = now
        self._key = os.urandom(_KEY_SIZE)
        # Of devices that have shown who they are, and come again: a name that is only looked up takes the
        # same time whether it was here or not.
        self._digests = lru_cache(_DIGESTS_KEPT)(self._made_digests)
        self._seen: OrderedDict[int, _Seen] = OrderedDict()
        self._is_saved = True
        self.moved: Callable[[str], None] = lambda _: None
        """Told of a device that shows its secret where it was not seen lately, though it was elsewhere."""

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, device_id: str, place: str) -> None:
        """This device has shown its secret, coming from there."""
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
        """The device was removed: a new one may get its id, and was nowhere yet."""
        if self._seen.pop(self._digest(device_id), None) is not None:
            self._is_saved = False

    def look_up(self, device_id: str, place: str) -> tuple[bool, bool]:
        """Whether this device logged in lately at all, and whether from there. The same work for any name."""
        seen = self._seen.get(self._digest(device_id))
        place_digest = self._digest(device_id, place)
        if seen is None or self._today() - seen.day > DAYS:
            return False, False
        return True, place_digest in seen.places

    def take_unsaved(self) -> Snapshot | None:
        """What is to be saved, if there is something new. It counts as saved from now on."""
        if self._is_saved:
            return None
        self._is_saved = True
        return Snapshot(self._key, dict(self._seen))

    def put_back(self) -> None:
        """It was not saved after all."""
        self._is_saved = False

    def load(self, data: bytes) -> None:
        """Know what stood in the file. Raises ValueError if that is damaged; nothing is changed then."""
        body, check = data[:-_CHECK_SIZE], data[-_CHECK_SIZE:]
        rows = body[len(_MAGIC) + _KEY_SIZE :]
        if not body.startswith(_MAGIC) or _check(body) != check or len(rows) % _ROW.size:
            raise ValueError("it is damaged, or was not written by this version")
        today = self._today()
        seen: OrderedDict[int, _Seen] = OrderedDict()
        for device, day, *places in _ROW.iter_unpack(rows[-DEVICES_MAX * _ROW.size :]):
            if today - day <= DAYS:
                # Of a clock that was ahead: it must not count for longer than one that was right.
                seen[device] = _Seen(min(day, today), tuple(place for place in places if place))
        self._key = body[len(_MAGIC) : len(_MAGIC) + _KEY_SIZE]
        self._digests.cache_clear()
        self._seen = seen
        self._is_saved = True

    def _made_digests(self, device_id: str, place: str) -> tuple[int, int]:
        return self._digest(device_id), self._digest(device_id, place)

    def _digest(self, *parts: str) -> int:
        # No device id holds a zero byte: a device and a place can't pass for a different device.
        data = "\0".join(parts).encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.blake2b(data, key=self._key, digest_size=8).digest())

    def _today(self) -> int:
        return self._now() // 1_000 // _DAY_SECONDS


def _check(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECK_SIZE).digest()
