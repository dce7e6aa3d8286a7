"""How long a save of the gateway's keeps others from writing (`device disable` too), and messages waiting.

Each statement of a transaction costs turns of the event loop, which are long while somebody floods it,
and the database is locked meanwhile. And a statement with hundreds of rows takes Python ten milliseconds.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, contextmanager

import pytest
from harness.stored_devices import add_devices
from sqlalchemy import event
from sqlalchemy.engine import Engine

from gateway.connection.bus_holdings import Kind, SavedHoldings
from gateway.policy.engine.decision_recorder import UsageRecord
from gateway.policy.engine.rules import Action
from gateway.store import IssuedToken, RefusedClient, StoredRefusal, usage


@pytest.fixture
async def store(store):
    await add_devices(store, "lamp")
    return store


def record(number: int) -> UsageRecord:
    return UsageRecord(
        "lamp", Action.PUBLISH, f"{number}/x", allowed=True, count=1, first_at=1, last_at=number
    )


@contextmanager
def statements():
    """What is sent to the database meanwhile, but for the beginning and the end of transactions."""
    sent = []

    def note(_connection, _cursor, statement, *_):
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


SAVES = {
    "usage records": lambda store, many: store.usage.add_records([record(number) for number in range(many)]),
    "refusals": lambda store, many: store.refusals.add(
        [StoredRefusal(f"{many}-{number}", 1, "lamp", "publish", "t", "", "") for number in range(many)]
    ),
    "tokens": lambda store, many: store.tokens.add(
        [IssuedToken(f"{number}", "lamp", f"{number}", 1, 1, 2**40, "auth") for number in range(many)]
    ),
    "holdings that are gone": lambda store, many: store.holdings.save(
        [SavedHoldings("lamp", Kind.SESSION, number, 0, 0, b"", gone=True) for number in range(many)]
    ),
    "holdings that were to be forgotten": lambda store, many: store.holdings.forgotten(
        {f"lamp-{number}": number for number in range(many)}
    ),
    "alerts that are gone": lambda store, many: store.alerts.save(
        [], [("rule", f"{number}") for number in range(many)], [], []
    ),
    "messages that arrived": lambda store, many: store.alerts.save(
        [], [], [], [(f"{number}", "ops") for number in range(many)]
    ),
}


@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES.keys())
async def test_a_save_is_as_many_statements_however_much_there_is(store, save):
    counts = []
    for many in (1, 300):
        with statements() as sent:
            await save(store, many)
        counts.append(len(sent))
    assert 0 < counts[0] == counts[1]


OF_MANY_ROWS = {
    "usage records": SAVES["usage records"],
    "usage records of a device with too many": lambda store, _: store.usage.reduce("lamp"),
    "refusals": SAVES["refusals"],
    "refused clients": lambda store, many: store.refused_clients.save(
        [RefusedClient("lamp", f"{n}", "login", "", False, "", "", "", "", 1, 1, 1) for n in range(many)]
    ),
    "tokens": SAVES["tokens"],
    "holdings": SAVES["holdings that are gone"],
    "the history": lambda store, many: store.history.save(
        series=[], ended=[], rows=[(60, n, 1, b"x") for n in range(many)], moved=[], needed={}
    ),
}


@pytest.mark.parametrize("save", OF_MANY_ROWS.values(), ids=OF_MANY_ROWS.keys())
async def test_what_is_saved_again_and_again_is_written_outside_of_the_event_loop_s_thread(
    store, save, monkeypatch
):
    monkeypatch.setattr(usage, "_RECORDS_PER_DEVICE_MAX", 4)
    await store.usage.add_records([record(number) for number in range(5)])
    threads = set()

    def note(_connection, _cursor, statement, *_):
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            threads.add(threading.current_thread().name)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        await save(store, 9)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    # In another thread, a disk that hangs would use up those in which files are looked at.
    assert {name.partition("_")[0] for name in threads} == {"store-writer"}


async def test_others_can_write_while_usage_records_are_made_fewer(store, path, monkeypatch):
    """A device that names many topics makes that a tenth of a second, and on a busy machine many."""
    made_fewer, written = usage._fewer, []

    def watched(seen):
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        written.append(len(seen))
        return made_fewer(seen)

    monkeypatch.setattr(usage, "_RECORDS_PER_DEVICE_MAX", 4)
    monkeypatch.setattr(usage, "_fewer", watched)
    assert await store.usage.add_records([record(number) for number in range(5)]) == ["lamp"]
    await store.usage.reduce("lamp")
    assert written == [5]
    assert len(await store.usage.records(0)) < 5


async def test_what_changes_while_usage_records_are_made_fewer_is_not_undone(store, path, monkeypatch):
    made_fewer = usage._fewer

    def meanwhile(seen):
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("DELETE FROM observations")  # the device was removed
        return made_fewer(seen)

    monkeypatch.setattr(usage, "_RECORDS_PER_DEVICE_MAX", 4)
    monkeypatch.setattr(usage, "_fewer", meanwhile)
    assert await store.usage.add_records([record(number) for number in range(5)]) == ["lamp"]
    await store.usage.reduce("lamp")
    assert await store.usage.records(0) == []
