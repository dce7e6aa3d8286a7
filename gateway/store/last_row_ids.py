"""The highest row id of each table, by which followers find out cheaply whether anything was committed.

Each change of a device and each event of an administrator is a row whose id is never used twice, and SQLite
keeps the highest ones in a table of a few rows (sqlite_sequence). A connection that is kept open reads it in
about ten microseconds; through the pool and its threads it would take a hundred times as long. Must not know
what the ids are used for.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

LastIds: TypeAlias = dict[str, int]
"""By table, the highest id of any row so far; each change that followers read raises one of them."""


class LastIdReader:
    """Reads the highest ids of one database. It blocks, and a disk may hang, so it is called in a thread."""

    def __init__(self, path: Path, busy_ms: int) -> None:
        self._path = path
        self._busy_ms = busy_ms
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def read(self) -> LastIds:
        """As the newest commit left them. Raises sqlite3.Error."""
        with self._lock:
            try:
                return dict(self._opened().execute("SELECT name, seq FROM sqlite_sequence").fetchall())
            except sqlite3.Error:
                self._let_go()
                raise

    def close(self) -> None:
        """Close the connection, unless a read hangs in it."""
        if self._lock.acquire(blocking=False):
            try:
                self._let_go()
            finally:
                self._lock.release()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            # mode=rw, which a write-ahead log asks for: and no empty file in the place of one that is gone.
            self._connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode=rw",
                uri=True,
                timeout=self._busy_ms / 1_000,
                isolation_level=None,
                check_same_thread=False,  # one thread at a time has it, by the lock
            )
            self._connection.execute("PRAGMA query_only = ON")
        return self._connection

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
