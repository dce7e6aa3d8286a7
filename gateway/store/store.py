"""The store: one repository per subject, and the transactions they share.

When a call that writes returns, the change has been synced to disk. The store knows nothing of policy or
connections, and the data path never waits for it: `gateway.store.device_directory` keeps what that needs in
memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from gateway.store.admin_events import AdminEvents
from gateway.store.alerts import Alerts
from gateway.store.audit_trails import AuditTrails
from gateway.store.bus_holdings import Holdings
from gateway.store.change_log import ChangeLog
from gateway.store.database import Database, sqlite_path
from gateway.store.denial_explanations import Refusals
from gateway.store.devices import Devices
from gateway.store.history import History
from gateway.store.key_uses import KeyUses
from gateway.store.last_row_ids import LastIds
from gateway.store.recent_refusals import RefusedClientEntries
from gateway.store.restore_merge import RestoredDevices
from gateway.store.tokens import IssuedTokens
from gateway.store.transactions import GivenConnection, Transactions
from gateway.store.usage import Usage

_T = TypeVar("_T")


async def open_store(url: str) -> Store:
    """The store at `url` (`sqlite:///path`), made if it is not there, its tables brought up to date.

    Raises StoreError when it cannot be opened, is damaged, or was made by a newer version.
    """
    # Imported here: it takes as long as the rest of a short command, and those open a blocking one.
    from gateway.store.async_engine import AsyncDatabase

    return Store(await asyncio.to_thread(AsyncDatabase, sqlite_path(url)))


def open_blocking_store(url: str) -> Store:
    """The same for commands, which have nothing else to do: every call blocks the thread."""
    return Store(Database(sqlite_path(url)))


class Repositories:
    """What can be read and changed, by subject. Every method raises StoreError when the database fails."""

    def __init__(self, transactions: Transactions) -> None:
        self.devices = Devices(transactions)
        self.changes = ChangeLog(transactions)
        self.tokens = IssuedTokens(transactions)
        self.usage = Usage(transactions)
        self.refusals = Refusals(transactions)
        self.holdings = Holdings(transactions)
        self.key_uses = KeyUses(transactions)
        self.admin_events = AdminEvents(transactions)
        self.audit_trails = AuditTrails(transactions)
        self.history = History(transactions)
        self.restored = RestoredDevices(transactions)
        self.refused_clients = RefusedClientEntries(transactions)
        self.alerts = Alerts(transactions)


class Store(Repositories):
    """The repositories of one database; called here, each method is a transaction of its own."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._database = database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Repositories]:
        """Repositories that share one transaction: all that is done with them is done, or nothing.

        Nobody else can write meanwhile. An exception in the block undoes everything.
        """
        async with self._database.transaction(write=True) as connection:
            yield Repositories(GivenConnection(connection))

    def read(self, work: Callable[[Repositories], Coroutine[Any, Any, _T]]) -> _T:
        """What `work` reads of the repositories it is given. To be called in a thread. Raises StoreError."""
        return self._database.read(lambda transactions: work(Repositories(transactions)))

    def wal_stamp(self) -> tuple[int, int]:
        """A cheap value that changes with every commit, except for two within one tick of the file clock.

        It is only a hint that there may be something new. Raises StoreError if the database's file is gone.
        """
        return self._database.wal_stamp()

    def write_fault(self) -> str:
        """Why nothing can be written now; empty if it can. To be called in a thread: it may wait."""
        return self._database.write_fault()

    def files(self) -> list[Path]:
        """The files that change with a commit."""
        return self._database.files()

    def last_ids(self) -> tuple[LastIds, float]:
        """The highest row ids, which rise with each change of a device and each event of an administrator.

        And when something was last written, in Unix seconds. It reads the database, so call it in a thread.
        Raises StoreError.
        """
        return self._database.last_ids()

    async def reopen(self) -> None:
        """Open the file that is at the same path now, after a failure. Never makes one. Raises StoreError."""
        await self._database.reopen()

    async def close(self) -> None:
        """Give back the files. The store cannot be used after."""
        await self._database.close()
