"""The base of all savers: when they save, what becomes of a failure, and of what is left at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from gateway.app.periodic import every
from gateway.observe.save_failures import Saves
from gateway.store import StoreError
from gateway.system.aligned_timers import until_next_multiple_of

ROWS_MAX = 40
"""Rows in one save of what a peer can make many of: the event loop waits while their statement is prepared, a
millisecond for forty (docs/adr/0013)."""
_PAUSE_SECONDS = 0.16
"""Between two saves of one round: without it they held messages up as if they were one."""


class Saver(ABC):
    """Saves what is not saved yet. What can't be saved now is kept for the next time, and logged once."""

    subject: ClassVar[str]
    """As health, status and the log name it."""
    seconds: ClassVar[float] = 1.0
    """Between two rounds of saves."""
    saves_of_a_round: ClassVar[int] = 1
    """Saves in a round, at most; it ends with the first that finds nothing to save, or fails."""

    def __init__(self, saves: Saves) -> None:
        self._saves = saves
        saves.expect(self.subject)

    @abstractmethod
    async def write(self) -> bool:
        """Write some of it; whether there was any. Raises StoreError or OSError, and then has it still."""

    async def save_some(self) -> bool:
        """Save some of it; whether there was any, and it could be saved."""
        try:
            some = await self.write()
        except (StoreError, OSError) as error:
            self._saves.failed(self.subject, error)
            return False
        if some:
            self._saves.done(self.subject)
        return some

    async def save(self) -> None:
        """Save all of it, as far as that can be done now."""
        while await self.save_some():
            pass

    async def save_round(self) -> None:
        """Save some, and more after pauses, as often as a round allows."""
        for number in range(self.saves_of_a_round):
            if number:
                await until_next_multiple_of(_PAUSE_SECONDS)
            if not await self.save_some():
                return

    async def run(self) -> None:
        """Save some again and again, for ever."""
        await every(self.seconds, self.save_round)
