"""Saves what is measured every 10 s: a gateway that is killed loses the last sample at most."""

from __future__ import annotations

from gateway.app.savers.saver import Saver
from gateway.observe.history import History
from gateway.observe.history_encoding import Row, SeriesRow
from gateway.observe.logs import get_logger
from gateway.observe.save_failures import Saves
from gateway.store import Store

_log = get_logger()


class HistorySaver(Saver):
    """Saves what the history has and the store has not."""

    subject = "history"
    seconds = 2.0

    def __init__(self, store: Store, history: History, saves: Saves) -> None:
        super().__init__(saves)
        self._store = store
        self._history = history

    async def load(self, now_ms: int) -> None:
        """Go on from what is saved. Raises StoreError."""
        series, rows = await self._store.history.read()
        damaged = self._history.load([SeriesRow(*one) for one in series], [Row(*one) for one in rows], now_ms)
        if damaged:
            reason = f"{damaged} of {len(rows)} saved moments can't be read and are left out of the curves"
            _log.warning("history damaged", reason=reason)

    async def write(self) -> bool:
        """Some of it, the oldest first."""
        unsaved = self._history.unsaved()
        if unsaved is None:
            return False
        try:
            await self._store.history.save(
                series=unsaved.series,
                ended=unsaved.ended,
                rows=unsaved.rows,
                moved=unsaved.moved,
                needed=unsaved.needed,
            )
        except BaseException:
            # When it is stopped meanwhile, too: the end of the gateway saves once more.
            self._history.not_saved(unsaved)
            raise
        self._history.saved(unsaved)
        return True
