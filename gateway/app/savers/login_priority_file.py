"""Saves which devices are known, so that they still go first in the queue for a hash after a restart.

Owns the file `known-devices` in the data folder, and when it is written. What it is for is said in
`gateway.auth.recent_logins`. Without it nobody is refused: devices are unknown until they log in.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.app.savers.saver import Saver
from gateway.auth.recent_logins import KnownDevices, Snapshot
from gateway.observe.logs import get_logger
from gateway.observe.save_failures import Saves
from gateway.system.atomic_files import locked, replace_file, write_new
from gateway.system.file_errors import not_written, why

FILE = "known-devices"
_LOCK_SECONDS = 2.0
"""How long to wait for the lock of the data folder."""
_SIZE_MAX = 16_777_216
"""Bytes that are read at most: seven times what a full file has."""

_log = get_logger()


class KnownDevicesSaver(Saver):
    """What is known of devices, as a file."""

    subject = "known devices"
    seconds = 10.0

    def __init__(self, folder: Path, known: KnownDevices, saves: Saves) -> None:
        super().__init__(saves)
        self._path = folder / FILE
        self._known = known

    def load(self) -> None:
        """Know what was saved. A file that can't be used is as good as none, and the log says so."""
        try:
            with self._path.open("rb") as file:
                data = file.read(_SIZE_MAX)
            self._known.load(data)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            said = why(self._path, error) if isinstance(error, OSError) else error
            reason = f"{self._path} can't be read ({said}); all devices are new until their next login"
            _log.warning("known devices not read", reason=reason)

    async def write(self) -> bool:
        """What is new, as a whole."""
        snapshot = self._known.take_unsaved()
        if snapshot is None:
            return False
        try:
            await asyncio.to_thread(self._write, snapshot)
        except BaseException as error:
            # When it is stopped meanwhile, too: the end of the gateway saves once more.
            self._known.put_back()
            if isinstance(error, OSError):
                raise OSError(not_written(self._path, error)) from error
            raise
        return True

    def _write(self, snapshot: Snapshot) -> None:
        data = snapshot.to_bytes()
        # The folder is not made: one that was moved away is to be put back, and would find its place taken.
        with locked(self._path.parent, seconds=_LOCK_SECONDS):
            if self._path.exists():
                replace_file(self._path, data, mode=0o600)
            else:
                write_new(self._path, data, mode=0o600)
