"""Ends the old one of a device's two secrets: when the next one was used, or when the time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.admin import devices
from gateway.app.periodic import every
from gateway.observe.save_failures import Saves
from gateway.policy.engine.identity import Device
from gateway.store import Store, StoreError

_LOOK_SECONDS = 1.0
_TRIES = 40
_TRY_SECONDS = 0.05
"""Until the directory of devices has read the change from the store: two seconds in all."""
_ACTOR = "gateway"
"""Who ended it, in the audit event."""
_SUBJECT = "the end of an old secret"


class SecretOverlaps:
    """Knows the devices that have two secrets."""

    def __init__(
        self, store: Store, find: Callable[[str], Device | None], now: Callable[[], int], saves: Saves
    ) -> None:
        """`find` gives a device as the directory in memory has it, `now` Unix seconds."""
        self._store = store
        self._find = find
        self._now = now
        self._saves = saves
        self._until: dict[str, int] = {}

    def devices_changed(self, touched: frozenset[str]) -> None:
        """These were added, changed or removed."""
        for device_id in touched:
            device = self._find(device_id)
            if device is not None and device.next_credential:
                self._until[device_id] = device.overlap_until
            else:
                self._until.pop(device_id, None)

    async def end(self, device: Device) -> Device | None:
        """The next secret of this device was used.

        Return the device as it is then, once the directory has it; None if the store fails, or if there is
        nothing to end.
        """
        try:
            ended = await devices.end_overlap(self._store, device, "the new one was used", actor=_ACTOR)
        except StoreError as error:
            self._saves.failed(_SUBJECT, error)
            return None
        self._saves.done(_SUBJECT)
        if ended is None:
            return None
        # So that a token that this login issues has the device's new epoch.
        for _ in range(_TRIES):
            known = self._find(device.device_id)
            if known is None or known.version >= ended.version:
                break
            await asyncio.sleep(_TRY_SECONDS)
        return ended

    async def run(self) -> None:
        """Look every second, for ever."""
        await every(_LOOK_SECONDS, self.end_those_over)

    async def end_those_over(self) -> None:
        """End those whose time is over. What the store can't do now is tried again."""
        now = self._now()
        for device_id in [device_id for device_id, until in self._until.items() if until <= now]:
            device = self._find(device_id)
            if device is None:
                self._until.pop(device_id, None)
                continue
            try:
                await devices.end_overlap(self._store, device, "its time is over", actor=_ACTOR)
            except StoreError as error:
                self._saves.failed(_SUBJECT, error)
                return
            self._saves.done(_SUBJECT)
