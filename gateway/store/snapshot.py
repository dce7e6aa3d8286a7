"""A copy of the database as it is at one moment, while others go on writing."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.store.errors import StoreError


def copy_database(source: Path, to: Path) -> None:
    """Make the file `to`, for our user alone, with all that is committed now. Blocks; raises StoreError."""
    try:
        os.close(os.open(to, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=10)) as here,
            closing(sqlite3.connect(f"{to.absolute().as_uri()}?mode=rw", uri=True)) as there,
        ):
            here.backup(there)  # in one step: of one moment, whoever writes
            # A file that stands by itself, with no log beside it.
            there.execute("PRAGMA journal_mode = DELETE")
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"the database {source} can't be copied to {to}: {error}") from error
