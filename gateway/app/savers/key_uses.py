"""Saves how often each sealing key was used, so that its bound on uses holds over restarts."""

from __future__ import annotations

from collections import Counter

from gateway.app.savers.saver import Saver
from gateway.connection.process_context import Context
from gateway.observe.save_failures import Saves
from gateway.store import Store


class KeyUsesSaver(Saver):
    """Saves the uses of the keys in force."""

    subject = "key uses"

    def __init__(self, store: Store, context: Context, saves: Saves) -> None:
        super().__init__(saves)
        self._store = store
        self._context = context
        self._unsaved: Counter[str] = Counter()

    async def write(self) -> bool:
        """Add what is new to what is saved, key by key."""
        self._unsaved.update(self._context.ring.take_unsaved_uses())
        some = bool(self._unsaved)
        for key_id, count in list(self._unsaved.items()):
            await self._store.key_uses.add(key_id, count)
            del self._unsaved[key_id]
        return some
