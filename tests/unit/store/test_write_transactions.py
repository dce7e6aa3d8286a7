"""How long a save of the gateway's keeps others from writing: `device disable` among them.

Each statement of a transaction costs turns of the event loop, which are long while somebody floods it,
and the database is locked meanwhile.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager

import pytest
from harness.stored_devices import add_devices
from sqlalchemy import event
from sqlalchemy.engine import Engine

from gateway.connection.bus_holdings import Kind, SavedHoldings
from gateway.policy.engine.rules import Action
from gateway.policy.engine.usage_record import Passage, UsageRecord
from gateway.store import IssuedToken, StoredRefusal, usage


@pytest.fixture
async def store(store):
    await add_devices(store, "lamp")
    return store


def record(number: int) -> UsageRecord:
    return UsageRecord(
        "lamp", Action.PUBLISH, f"{number}/x", passage=Passage.ALLOWED, count=1, first_at=1, last_at=number
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
async def test_a_save_of_forty_rows_is_as_many_statements_as_one_of_one(store, save):
    counts = []
    await save(store, 1)  # the first of a process also counts what is there
    for many in (1, 40):  # what is saved at once
        with statements() as sent:
            await save(store, many)
        counts.append(len(sent))
    assert 0 < counts[0] == counts[1]


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
