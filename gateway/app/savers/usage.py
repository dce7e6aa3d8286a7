"""Saves what the devices did and were refused, so that roles can be learned from it."""

from __future__ import annotations

from collections.abc import Callable

from gateway.app.savers.saver import Saver
from gateway.connection.process_context import Context
from gateway.observe.save_failures import Saves
from gateway.policy.engine.identity import Device
from gateway.store import Store, StoreError
from gateway.system.aligned_timers import until_next_multiple_of

_BATCH_MAX = 40
"""Records in one save: the event loop waits while its statement is prepared."""
_BATCHES_MAX = 12
"""Saves in each two seconds."""
_PAUSE_SECONDS = 0.16
"""Between two of these: all at once held messages up three times as long (docs/adr/0013)."""
_SAVES_TO_PRUNE = 1_800
"""Times that it saves from one pruning to the next: an hour of them."""


class UsageSaver(Saver):
    """Saves the usage records of all devices, by topic template."""

    subject = "observations"
    seconds = 2.0

    def __init__(
        self, store: Store, context: Context, find: Callable[[str], Device | None], saves: Saves
    ) -> None:
        """`find` gives the device of an id, as the store has it now."""
        super().__init__(saves)
        self._store = store
        self._context = context
        self._find = find

    def devices_changed(self, touched: frozenset[str]) -> None:
        """These were added, changed or removed."""
        for device_id in touched:
            if self._find(device_id) is None:
                self._context.recorder.forget(device_id)

    async def write(self) -> bool:
        """Some that are new, or have changed."""
        recorder = self._context.recorder
        seen = recorder.take(_BATCH_MAX, self._context.now() // 1_000)
        try:
            too_many = await self._store.usage.add_records(seen)
        except BaseException:
            # When it is stopped meanwhile, too: the end of the gateway saves once more.
            recorder.put_back(seen)
            raise
        for device_id in too_many:  # what was seen is stored by now: whatever fails here, it is not put back
            await self._store.usage.reduce(device_id)
        return bool(seen)

    async def run(self) -> None:
        """Save every two seconds, by batches, and drop what is too old once an hour, for ever."""
        saves = 0
        while True:
            if saves % _SAVES_TO_PRUNE == 0:
                await self._prune()
            saves += 1
            await until_next_multiple_of(self.seconds)
            await self._save_batches()

    async def _save_batches(self) -> None:
        for number in range(_BATCHES_MAX):
            if number:
                await until_next_multiple_of(_PAUSE_SECONDS)
            if not await self.save_some():
                return

    async def _prune(self) -> None:
        try:
            await self._store.usage.prune()
            await self._store.refusals.prune()
        except StoreError as error:
            self._saves.failed("old observations", error)
        else:
            self._saves.done("old observations")
