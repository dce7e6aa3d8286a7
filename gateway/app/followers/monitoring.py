"""Follows monitoring.toml and the files of secrets that it names: what it says is in force if it is sound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.app.followers.follower import Follower, location_and_command
from gateway.app.startup_preparation import StartError
from gateway.config import Settings
from gateway.config.monitoring import Monitoring, MonitoringError, load_monitoring
from gateway.observe.logs import get_logger
from gateway.system.file_change_marks import Mark, marks
from gateway.system.file_notices import FileNotices

_SETTLE_SECONDS = 0.05
"""Editors write in several steps: a change is read when the files have been the same for this long."""

_log = get_logger()


class MonitoringFollower(Follower):
    """Keeps the checks, alerts and channels in force the same as the file has them."""

    seconds = 2.0

    def __init__(self, settings: Settings) -> None:
        """Reads the file. Raises StartError: without its alerts the gateway would run unwatched."""
        super().__init__(FileNotices(lambda: self._files))
        self._path = settings.monitoring_path
        try:
            self.in_force = load_monitoring(self._path)
        except MonitoringError as error:
            raise StartError(error.problems) from error
        self._files: Sequence[Path] = self.in_force.files
        self._seen = marks(self._files)
        self._problems: tuple[str, ...] = ()
        self._callbacks: list[Callable[[Monitoring], None]] = []

    def on_change(self, callback: Callable[[Monitoring], None]) -> None:
        """Call this with what is in force after each change."""
        self._callbacks.append(callback)

    def check(self) -> tuple[bool, str]:
        """Whether the file is what is in force."""
        if self._problems:
            return False, location_and_command(self._problems, "gateway check")
        one = self.in_force
        return True, f"{len(one.checks)} checks, {len(one.rules)} alerts, {len(one.channels)} channels"

    async def follow(self, *, anyway: bool) -> None:
        """Read the file, if it or one that it names has changed, and has then been the same for a moment."""
        looked = await asyncio.to_thread(self._look)
        if not anyway:
            if looked == self._seen:
                return
            await asyncio.sleep(_SETTLE_SECONDS)
            if await asyncio.to_thread(self._look) != looked:
                return
        await self._read(looked)

    def _look(self) -> dict[str, Mark]:
        return marks(self._files)

    async def _marks(self, files: Sequence[Path], looked: dict[str, Mark]) -> dict[str, Mark]:
        """The marks of `files`; for those in `looked`, the marks that they had before they were read."""
        found = await asyncio.to_thread(marks, files)
        return found | {path: seen for path, seen in looked.items() if Path(path) in files}

    def _follow_files(self, files: Sequence[Path], seen: dict[str, Mark]) -> None:
        """Look at these files from now on; `seen` are their marks."""
        if self._notices is not None and tuple(files) != tuple(self._files):
            self._notices.paths_changed()
        self._files, self._seen = tuple(files), seen

    async def _read(self, looked: dict[str, Mark]) -> None:
        try:
            read = await asyncio.to_thread(load_monitoring, self._path)
        except MonitoringError as error:
            self._follow_files(error.files, await self._marks(error.files, looked))
            self._problems = error.problems
            _log.error(
                "monitoring refused",
                reason=f"{self._path} has problems; what was before is in force",
                problems=list(error.problems),
            )
            return
        seen = await self._marks(read.files, looked)
        self._problems = ()
        self.in_force = read
        for callback in self._callbacks:
            callback(read)
        # Not before: a look that fails on the way is to be repeated.
        self._follow_files(read.files, seen)
        _log.info("monitoring in force", reason=self.check()[1])
