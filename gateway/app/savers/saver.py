"""The base of all savers: when they save, what becomes of a failure, and of what is left at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from gateway.app.periodic import every
from gateway.observe.save_failures import Saves
from gateway.store import StoreError


class Saver(ABC):
    """Saves what is not saved yet. What can't be saved now is kept for the next time, and logged once."""

    subject: ClassVar[str]
    """As health, status and the log name it."""
    seconds: ClassVar[float] = 1.0
    """Between two saves."""

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

    async def run(self) -> None:
        """Save some again and again, for ever."""
        await every(self.seconds, self.save_some)
