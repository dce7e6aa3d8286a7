"""What can't be saved: a line when that changes and no more, and health that says which part and why."""

from __future__ import annotations

import pytest
import structlog
from harness.playbook import context
from harness.stored_devices import add_devices
from sqlalchemy import event

from gateway.app.admin_event_reporting import AdminEventReporter
from gateway.app.savers.bus_holdings import BusHoldingsSaver
from gateway.app.savers.denial_explanations import PolicyDenialsSaver
from gateway.app.savers.issued_tokens import IssuedTokensSaver
from gateway.app.savers.key_uses import KeyUsesSaver
from gateway.app.savers.login_priority_file import KnownDevicesSaver
from gateway.app.savers.usage import UsageSaver
from gateway.auth.recent_logins import KnownDevices
from gateway.connection.bus_holdings import ConnectionHoldings
from gateway.connection.process_counters import Counters
from gateway.observe.audit_dispatch import Audit, AuditLog
from gateway.observe.save_failures import Saves
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Action
from gateway.store import StoredRefusal, StoreError, open_store

FULL = StoreError("the disk is full")
GONE = StoreError("the store was taken away")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_a_day_of_a_full_disk_is_one_line(clock, told):
    saves = Saves(clock)
    for second in range(86_400):
        clock.now = second
        saves.failed("key uses", FULL)
    assert [(line["event"], line["part"]) for line in told] == [("not saved", "key uses")]
    assert saves.check() == (False, "key uses: the disk is full")


def test_another_reason_and_the_end_are_told(clock, told):
    saves = Saves(clock)
    for fault in (FULL, FULL, GONE, GONE, None, None):
        saves.failed("refusals", fault) if fault else saves.done("refusals")
        clock.now += 60
    assert [line["event"] for line in told] == ["not saved", "not saved", "saved again"]
    assert "taken away" in told[1]["reason"]
    assert saves.check() == (True, "all is saved")


async def test_what_changes_each_second_is_told_a_few_times_a_minute(clock, told):
    saves = Saves(clock)
    for second in range(60):
        clock.now = second
        saves.failed("refusals", FULL) if second % 2 else saves.done("refusals")
    assert len(told) <= 6
    assert saves.check()[0] is False  # as it was last


def test_each_part_is_named(clock, told):
    saves = Saves(clock)
    saves.failed("key uses", FULL)
    saves.failed("refusals", FULL)
    saves.failed("observations", GONE)
    assert saves.check() == (
        False,
        "key uses, refusals: the disk is full; observations: the store was taken away",
    )
    assert len(told) == 3


class Office:
    def unsaved(self):
        return ("token",)


async def test_no_part_writes_a_line_for_each_attempt(tmp_path, told):
    """All that save, on a store that was moved away."""
    store = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    world, saves = context(), Saves()
    world.ring.encrypt(b"x", b"")
    lamp = Identity("lamp-1", ("lamp",), {}, "c")
    world.recorder.record(lamp, Action.PUBLISH, "ok", world.policy.rights(lamp).decide(Action.PUBLISH, "ok"))
    refusals = PolicyDenialsSaver(store, Counters(), saves)
    refusals._unsaved.append(StoredRefusal("x", 1, "lamp", "publish", "t", "", ""))
    assert ConnectionHoldings(world.holdings, "lamp-1").retain(b"t", 1)
    forgetful = BusHoldingsSaver(store, world, lambda _: None, saves)
    forgetful.devices_changed(frozenset({"lamp-1"}))
    known = KnownDevices(world.now)
    known.add("lamp-1", "192.0.2.1")
    (tmp_path / "file").touch()
    parts = [
        KeyUsesSaver(store, world, saves),
        IssuedTokensSaver(store, Office(), saves),
        UsageSaver(store, world, lambda _: None, saves),
        refusals,
        AdminEventReporter(store, Audit(world.counters, AuditLog(world.counters, world.now)), saves),
        BusHoldingsSaver(store, world, lambda _: None, saves),
        forgetful,
        KnownDevicesSaver(tmp_path / "file", known, saves),
    ]
    (tmp_path / "gateway.db").rename(tmp_path / "elsewhere.db")
    try:
        for _ in range(20):
            for part in parts:
                await (part.report() if isinstance(part, AdminEventReporter) else part.save())
    finally:
        await store.close()
    lines = [line for line in told if line["event"] == "not saved"]
    assert len(lines) == len({line["part"] for line in lines})
    assert {line["part"] for line in lines} >= {"key uses", "token records", "refusals", "usage records"}
    assert {line["part"] for line in lines} >= {"what devices hold", "what devices hold no more"}
    assert "known devices" in {line["part"] for line in lines}
    ok, detail = saves.check()
    assert not ok
    assert "taken away" in detail
    for line in lines:  # each names its place, and has words for what to do
        assert str(tmp_path) in line["reason"]
        assert "put it back" in line["reason"] or "put its folder back" in line["reason"]
    assert len([line for line in told if line["log_level"] == "error"]) == len(lines)


async def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path, told):
    store = await open_store(f"sqlite:///{tmp_path}/gateway.db")

    def full(connection, _record):
        connection.cursor().execute("PRAGMA max_page_count = 1")

    await add_devices(store, "lamp")
    saves = Saves()
    refusals = PolicyDenialsSaver(store, Counters(), saves)
    long = [StoredRefusal(f"r{one}", 1, "lamp", "publish", "t" * 4_000, "No.", "") for one in range(100)]
    refusals._unsaved.extend(long)
    engine = store._database._engine
    event.listen(engine.sync_engine, "connect", full)
    await engine.dispose()
    for _ in range(5):
        await refusals.save()
    assert saves.check()[0] is False
    assert "refusals: " in saves.check()[1]
    said = f"the database {tmp_path}/gateway.db failed (database or disk is full): make room on its disk"
    assert said in saves.check()[1]
    assert [line["event"] for line in told] == ["not saved"]
    event.remove(engine.sync_engine, "connect", full)
    await engine.dispose()
    await refusals.save()
    assert saves.check()[0]
    assert await store.refusals.get("r99") is not None
    await store.close()


async def test_what_could_not_be_saved_is_counted_by_part_from_0_on(clock, tmp_path):
    store = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    counters = Counters()
    saver = KeyUsesSaver(context().ring, store, Saves(clock, counters.store_write_failures))
    assert counters.store_write_failures == {"key uses": 0}
    saver._saves.failed(saver.subject, FULL)
    saver._saves.failed(saver.subject, FULL)
    assert counters.store_write_failures == {"key uses": 2}
    await store.close()
