"""Saves what the devices did and were refused, so that roles can be learned from it."""

from __future__ import annotations

from collections.abc import Callable

from gateway.app.savers.saver import ROWS_MAX, Saver
from gateway.connection.process_context import Context
from gateway.observe.save_failures import Saves
from gateway.policy.engine.identity import Device
from gateway.store import Store, StoreError
from gateway.system.aligned_timers import until_next_multiple_of

_ROUNDS_TO_PRUNE = 1_800
"""Rounds of saves from one pruning to the next: an hour of them."""


class UsageSaver(Saver):
    """Saves the usage records of all devices, by topic template."""

    subject = "usage records"
    seconds = 2.0
    saves_of_a_round = 6

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
        seen = recorder.take(ROWS_MAX, self._context.now() // 1_000)
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
        """Save every two seconds, and drop what is too old once an hour, for ever."""
        rounds = 0
        while True:
            if rounds % _ROUNDS_TO_PRUNE == 0:
                await self._prune()
            rounds += 1
            await until_next_multiple_of(self.seconds)
            await self.save_round()

    async def _prune(self) -> None:
        try:
            await self._store.usage.prune()
            await self._store.refusals.prune()
        except StoreError as error:
            self._saves.failed("old usage records", error)
        else:
            self._saves.done("old usage records")
