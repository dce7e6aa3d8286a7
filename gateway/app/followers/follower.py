"""The base of all followers: they look at files again and again, and put in force what has changed.

A look sees by the marks of the files whether they have changed, and only then are they read. One look at a
time: a SIGHUP may come during another one, and what was read first must not be put in force last.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from gateway.connection.audit_vocabulary import Report, changed_certificate, failed_certificate
from gateway.observe.logs import get_logger
from gateway.system.aligned_timers import until_next_multiple_of
from gateway.system.file_change_marks import marks
from gateway.system.file_notices import FileNotices

_log = get_logger()

_Read = TypeVar("_Read")


def location_and_command(problems: Sequence[str], command: str) -> str:
    """What health says of changed files with these `problems` (`file:line: what`); `command` lists them.

    It has the location of the first only: the text of a problem may quote the file, and more people see
    health than the files.
    """
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems, the first"
    return f"{count} in {problems[0].partition(': ')[0]}: `{command}` tells; what was before is in force"


class Follower(ABC):
    """Puts in force what some files say, every time they have changed, if it can be used."""

    seconds: ClassVar[float]
    """Between two looks, where no notice comes."""

    def __init__(self, notices: FileNotices | None = None) -> None:
        """With `notices` it sleeps until one comes, and looks every `seconds` only where none can come."""
        self._reading = asyncio.Lock()
        self._notices = notices

    @abstractmethod
    def check(self) -> tuple[bool, str]:
        """Whether the files are what is in force, for health."""

    @abstractmethod
    async def follow(self, *, anyway: bool) -> None:
        """Read what has changed, or with `anyway` all of it, and put it in force.

        Never called twice at a time.

        It has to read in threads: a disk that hangs must not hold up messages.
        """

    async def look(self) -> None:
        """Put in force what has changed."""
        async with self._reading:
            await self.follow(anyway=False)

    async def reload(self) -> str:
        """Read the files now, changed or not. Return what is in force then, in words."""
        async with self._reading:
            await self.follow(anyway=True)
        return self.check()[1]

    async def run(self) -> None:
        """Look again and again, for ever."""
        try:
            while True:
                await self.look()
                await self.rest()
        finally:
            self.stop_watching()

    def stop_watching(self) -> None:
        """Stop waiting for notices."""
        if self._notices is not None:
            self._notices.close()

    async def rest(self) -> None:
        """Until the next look."""
        if self._notices is None:
            await until_next_multiple_of(self.seconds)
        else:
            await self._notices.wait(self.seconds)


class WholeFilesFollower(Follower, Generic[_Read]):
    """Follows a fixed list of files that are read together, all or none."""

    seconds = 2.0
    subject: ClassVar[str]
    """What the log calls the files."""
    good: ClassVar[str]
    """What health says while the files are in force."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Make it before the files are read for the first time, so that no later change is missed."""
        super().__init__(FileNotices(lambda: paths))
        self._paths = paths
        self._seen = marks(paths)
        self._problem = ""
        self.report: Callable[[Report], None] = lambda _: None
        """Called with the report of each change, for the audit."""

    @abstractmethod
    def read(self) -> _Read:
        """Read the files, in a thread. Raises OSError or SSLError when they can't be used."""

    @abstractmethod
    def put_in_force(self, read: _Read) -> None:
        """Use what was read."""

    @abstractmethod
    def in_words(self, error: Exception) -> str:
        """The reason for this error, for log and health: which file, what is wrong, what is in force."""

    def check(self) -> tuple[bool, str]:
        """Whether the files are what is in force."""
        return not self._problem, self._problem or self.good

    async def rest(self) -> None:
        """Wait until the next look. While there is a problem it does not wait for a notice."""
        if self._problem:
            await until_next_multiple_of(self.seconds)
        else:
            await super().rest()

    async def follow(self, *, anyway: bool) -> None:
        """Read all of them if one has changed."""
        seen = await asyncio.to_thread(marks, self._paths)
        # After a problem the files may become again what they were, to the second.
        if seen == self._seen and not self._problem and not anyway:
            return
        try:
            read = await asyncio.to_thread(self.read)
        except (OSError, ssl.SSLError) as error:
            # Perhaps a key is only just being written: look again until key and certificate fit.
            # `in_words` reads the files again, to say which of them is wrong.
            words = await asyncio.to_thread(self.in_words, error)
            if not self._problem:
                _log.error(f"{self.subject} refused", reason=words)
                self.report(failed_certificate(words))
            self._problem = words
            return
        self.put_in_force(read)
        self._seen, self._problem = seen, ""
        _log.info(f"{self.subject} in force", certificate=str(self._paths[0]))
        self.report(changed_certificate(f"{self.subject} in force: {self._paths[0]}"))
