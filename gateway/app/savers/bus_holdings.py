"""Saves what devices hold on the bus, off the message path, so that it still counts after a restart.

What a killed gateway had not saved yet, a few seconds' worth, counts again only when it is seen again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from gateway.app.savers.saver import Saver
from gateway.connection.bus_holdings import Kind, SavedHoldings
from gateway.connection.process_context import Context
from gateway.observe.logs import get_logger
from gateway.observe.save_failures import Saves
from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits
from gateway.store import Store, StoreError
from gateway.system.aligned_timers import until_next_multiple_of

_BATCH_MAX = 100
"""Rows in one save, of up to 8 KB each with the limits that ship."""
_SAVES = 50
"""Saves in a row: after a restart, when all devices come back at once, all is saved within seconds."""
_OF_A_KEY = 8
"""Bytes of a hash: `keys` of what is saved has one for each topic or filter."""
_LINES = 20
"""Log lines at a start about devices above a limit."""

_log = get_logger()


class BusHoldingsSaver(Saver):
    """Saves what has changed in `Context.holdings`, and forgets what an administrator asked it to forget."""

    subject = "what devices hold"
    seconds = 2.0

    def __init__(
        self,
        store: Store,
        context: Context,
        find: Callable[[str], Device | None],
        saves: Saves,
    ) -> None:
        """`find` gives the device of an id, as the store has it now."""
        super().__init__(saves)
        self._store = store
        self._context = context
        self._find = find
        self._touched: set[str] = set()
        self._done: dict[str, int] = {}
        """Requests to forget that are carried out, but still stand in the store: their numbers, by device."""

    async def load(self, *, bus_forgets: bool) -> None:
        """Load what is saved; nothing if the bus keeps nothing over a restart. Raises StoreError."""
        if bus_forgets:
            await self._store.holdings.forget(None)
        if asked := await self._store.holdings.to_forget():
            # Also what a gateway saved that had not heard of the request.
            await self._store.holdings.forget(list(asked))
            await self._store.holdings.forgotten(await self._store.holdings.to_forget())
        held = await self._store.holdings.read()
        self._context.holdings.load(held, self._context.now() // 1_000)
        for problem in above(self._limits_of, held)[:_LINES]:
            _log.warning("more held than allowed", reason=problem)

    def _limits_of(self, device_id: str) -> Limits:
        device = self._find(device_id)
        return self._context.policy.limits_of(device.roles if device else ())

    def devices_changed(self, touched: frozenset[str]) -> None:
        """These were added, changed or removed; or what they hold is to be forgotten."""
        self._touched |= touched

    async def run(self) -> None:
        """Save every two seconds, for ever."""
        while True:
            await until_next_multiple_of(self.seconds)
            saves = 1
            while await self.save_some() and saves < _SAVES:
                saves += 1

    async def write(self) -> bool:
        """Forget what is to be forgotten, and write some of what has changed."""
        holdings = self._context.holdings
        try:
            await self._forget()
        except StoreError as error:
            self._saves.failed("what devices hold no more", error)
            return False
        changed = holdings.take(_BATCH_MAX)
        try:
            await self._store.holdings.save(changed)
        except BaseException:
            # When it is stopped meanwhile, too: the end of the gateway saves once more.
            holdings.put_back(changed)
            raise
        return bool(changed)

    async def _forget(self) -> None:
        if not self._touched and not self._done:
            return
        # Whoever is touched meanwhile is looked at the next time.
        touched, self._touched = self._touched, set()
        try:
            asked = await self._store.holdings.to_forget()
            for device_id, number in asked.items():
                if self._done.get(device_id) != number:
                    self._context.holdings.forget(device_id)
                    self._done[device_id] = number
                    _log.info("what the device holds on the bus is counted anew", device=device_id)
            # Only then: a request that is gone before it is done would never be.
            if self._done:
                await self._store.holdings.forgotten(self._done)
        except BaseException:
            self._touched |= touched
            raise
        self._done.clear()
        self._saves.done("what devices hold no more")
        for device_id in touched:
            if self._find(device_id) is None:  # the device was removed
                self._context.holdings.drop(device_id)


def above(limits_of: Callable[[str], Limits], held: Sequence[SavedHoldings]) -> list[str]:
    """Which devices hold more than their limits allow now: nothing is taken from them."""
    sizes: Counter[tuple[str, str]] = Counter()
    for one in held:
        if one.kind is Kind.RETAINED:
            sizes[one.device_id, "retained_topics"] = len(one.keys) // _OF_A_KEY
        else:
            sizes[one.device_id, "sessions"] += 1
            filters = max(sizes[one.device_id, "subscriptions"], len(one.keys) // _OF_A_KEY)
            sizes[one.device_id, "subscriptions"] = filters
    return [
        f"{device_id} holds {size} {name} on the bus, and {name} = {most} in {limits.location(name)}: "
        "it gets no more until it gives some back (gateway-admin device held)"
        for (device_id, name), size in sorted(sizes.items())
        if size > (most := getattr(limits := limits_of(device_id), name))
    ]
