"""The silences as the store has them now: of which alerts nobody is notified for a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.store import Store, StoreError
from gateway.store.alerts import Silence

_LOOKS = 30
"""Looks after which they are read even if the store seems not to have changed."""


class Silences:
    """Follows the store. While that does not answer, the silences it had last are in force until they end."""

    def __init__(self, store: Store, now: Callable[[], int]) -> None:
        """`now` gives Unix milliseconds."""
        self._store = store
        self._now = now
        self._silences: Sequence[Silence] = ()
        self._mark: tuple[int, int] | None = None
        self._looks = 0

    async def look(self) -> None:
        """Read them if the store has changed."""
        self._looks += 1
        try:
            mark = self._store.wal_stamp()
            if mark != self._mark or self._looks % _LOOKS == 0:
                self._silences = await self._store.alerts.silences()
                self._mark = mark
        except StoreError:
            return  # the directory of devices logs that the store fails

    def fit(self, rule: str, labels: Mapping[str, str]) -> bool:
        """Whether nobody is to be notified of such an alert now."""
        now = self._now() / 1_000
        return any(one.until > now and one.fits(rule, labels) for one in self._silences)
