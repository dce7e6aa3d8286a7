"""Follows files that are read as a whole: what can't be used leaves in force what was there before."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from gateway.app.periodic import every
from gateway.observe.logs import get_logger
from gateway.system.file_marks import marks

_LOOK_SECONDS = 2.0

_log = get_logger()


class Follower(ABC):
    """Puts in force what some files say, each time that they have changed."""

    subject: ClassVar[str]
    """As the log names it."""
    good: ClassVar[str]
    """What health says of files that are in force."""
    problem: ClassVar[str]
    """What it says of those that can't be used."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Before the files are read for the first time: what changes afterwards is a change."""
        self._paths = paths
        self._seen = marks(paths)
        self._problem = ""

    @abstractmethod
    def put_in_force(self) -> None:
        """Read the files and use them. Raises OSError or SSLError when they can't be used."""

    @abstractmethod
    def told(self, error: Exception) -> str:
        """The reason in the log for this error."""

    def check(self) -> tuple[bool, str]:
        """Whether the files are what is in force."""
        return not self._problem, self._problem or self.good

    async def run(self) -> None:
        """Look every two seconds, for ever."""
        await every(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        # After a problem the files may become again what they were, to the second.
        if marks(self._paths) != self._seen or self._problem:
            self._read()

    async def reload(self) -> str:
        """Read the files now, whether they look the same or not; the answer is what is in force then."""
        self._read()
        return self.check()[1]

    def _read(self) -> None:
        seen = marks(self._paths)
        try:
            self.put_in_force()
        except (OSError, ssl.SSLError) as error:
            # Perhaps a key is only just being written: look again until they fit.
            if not self._problem:
                _log.error(f"{self.subject} refused", reason=self.told(error))
            self._problem = self.problem
            return
        self._seen, self._problem = seen, ""
        _log.info(f"{self.subject} in force", certificate=str(self._paths[0]))
