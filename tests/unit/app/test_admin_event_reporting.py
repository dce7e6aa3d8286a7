"""What gateway-admin did, and left in a real store to be told."""

from __future__ import annotations

import pytest
from harness.background_tasks import beside, until
from harness.failing_store import Failing

from gateway.app import admin_event_reporting as module
from gateway.app.admin_event_reporting import AdminEventReporter
from gateway.connection.audit_vocabulary import Kind, Outcome, Source
from gateway.connection.process_counters import Counters
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.save_failures import Saves
from gateway.store import StoreError

NOTED = {
    "time": 1_764_000_000_000,
    "kind": "device",
    "outcome": "done",
    "reason": "added",
    "device": "lamp-1",
    "actor": "gateway-admin:alice",
}


def told():
    """What an audit tells, and the audit."""
    events = []
    return events, Audit(Counters(), events.append)


async def test_what_was_done_elsewhere_is_told_once(store, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    events, audit = told()
    await store.admin_events.add(NOTED)
    async with beside(AdminEventReporter(store, audit, Saves()).run()):
        await until(lambda: events)
        assert events == [
            AuditEvent(
                time=1_764_000_000_000,
                kind=Kind.DEVICE,
                outcome=Outcome.DONE,
                reason="added",
                device="lamp-1",
                address="gateway-admin:alice",
                id="row-1",
                source=Source.HOUSE,
            )
        ]
        await store.admin_events.add({**NOTED, "kind": "key", "outcome": "refused", "device": None})
        await until(lambda: len(events) > 1)
    assert (events[1].kind, events[1].outcome, events[1].device) == (Kind.KEY, Outcome.REFUSED, None)
    assert len(events) == 2


@pytest.mark.parametrize(
    "wrong", [{"kind": "bogus"}, {"outcome": None}, {"time": "now"}, {"device": 1}, {"actor": ...}]
)
async def test_an_event_that_says_nothing_holds_no_other_up(store, wrong):
    events, audit = told()
    await store.admin_events.add(
        {name: value for name, value in {**NOTED, **wrong}.items() if value is not ...}
    )
    await store.admin_events.add(NOTED)
    await AdminEventReporter(store, audit, Saves()).report()
    assert [event.reason for event in events] == ["added"]


async def test_events_wait_for_the_store_to_be_back(store):
    events, audit = told()
    await store.admin_events.add(NOTED)
    failing = Failing(store)
    reporter = AdminEventReporter(failing, audit, Saves())
    await reporter.report()
    failing.fails = False
    await reporter.report()
    assert len(events) == 1


async def test_what_could_not_be_forgotten_is_told_once_and_what_comes_after_it_too(store, monkeypatch):
    """It is told before it is forgotten: a gateway that ends in between tells it again, and loses nothing."""
    events, audit = told()
    reporter = AdminEventReporter(store, audit, Saves())
    await store.admin_events.add(NOTED)
    with monkeypatch.context() as patched:
        patched.setattr(type(store.admin_events), "forget", failing)
        await reporter.report()
        await store.admin_events.add(NOTED)
        await reporter.report()
    assert len(events) == 2
    await reporter.report()
    await store.admin_events.add(NOTED)
    await reporter.report()
    assert len(events) == 3
    assert await store.admin_events.waiting() == []


async def failing(*_):
    raise StoreError("the disk is full")
