"""Saves who was refused lately, so that a restart forgets nobody."""

from __future__ import annotations

from gateway.app.savers.saver import ROWS_MAX, Saver
from gateway.observe.recent_refusals import RefusedClients
from gateway.observe.save_failures import Saves
from gateway.store import Store, StoreError

_SAVES_TO_PRUNE = 720
"""Saves from one pruning to the next: five minutes or more of them."""


class RecentRefusalsSaver(Saver):
    """Saves the entries that have changed, as they are now."""

    subject = "refused clients"
    seconds = 5.0
    saves_of_a_round = 12

    def __init__(self, store: Store, clients: RefusedClients, saves: Saves) -> None:
        super().__init__(saves)
        self._store = store
        self._clients = clients
        self._saved = 0

    async def load(self) -> None:
        """Go on from what is saved. If it can't be read the gateway starts without."""
        try:
            await self._store.refused_clients.prune()
            self._clients.load(await self._store.refused_clients.read())
        except StoreError as error:
            self._saves.failed(self.subject, error)

    async def write(self) -> bool:
        """Some of them; now and then, what is too old is dropped."""
        entries = self._clients.take_unsaved(ROWS_MAX)
        if not entries:
            return False
        try:
            await self._store.refused_clients.save(entries)
            if self._saved % _SAVES_TO_PRUNE == 0:
                await self._store.refused_clients.prune()
        except BaseException:
            # When it is stopped meanwhile, too: the end of the gateway saves once more.
            self._clients.put_back(entries)
            raise
        self._saved += 1
        return True
