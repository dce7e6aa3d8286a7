"""What is reported of connections, and how often."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gateway.connection.audit_vocabulary import Source, refused_session
from gateway.mqtt.reason_codes import Reason
from gateway.net.connection_audit_and_log import ConnectionReports


@pytest.fixture
def reports():
    events = []
    return ConnectionReports(SimpleNamespace(emit=events.append), lambda: 7), events


def connection(device=None, claimed="lamp-1"):
    return SimpleNamespace(
        connection=SimpleNamespace(device=device),
        address="192.0.2.1:5",
        host="192.0.2.1",
        connection_id="c1",
        claimed=claimed,
    )


def test_a_device_that_finds_no_room_is_reported_once_for_each_reason(reports):
    one, events = reports
    for _ in range(9):
        one.no_room(connection(), "lamp-1", Reason.QUOTA_EXCEEDED, "full")
        one.no_room(connection(), "lamp-1", Reason.CONNECTION_RATE_EXCEEDED, "often")
        one.no_room(connection(claimed="lamp-2"), "lamp-2", Reason.QUOTA_EXCEEDED, "full")
    assert [(event.device, event.reason) for event in events] == [
        ("lamp-1", "full"),
        ("lamp-1", "often"),
        ("lamp-2", "full"),
    ]
    assert {event.source for event in events} == {Source.DEVICE}, "it has shown who it is"


def test_strangers_of_one_network_are_reported_once_for_each_reason(reports):
    one, events = reports
    for _ in range(9):
        one.turned_away(connection(claimed=None), "silent")
    one.turned_away(connection(claimed=None), "loud")
    assert [(event.source, event.reason) for event in events] == [
        (Source.STRANGER, "silent"),
        (Source.STRANGER, "loud"),
    ]


def test_a_report_says_of_whom_it_speaks(reports):
    one, events = reports
    known = connection(device=SimpleNamespace(device_id="lamp-3"))
    one.report(known, refused_session("why"))
    (event,) = events
    assert (event.source, event.device, event.address, event.connection, event.time) == (
        Source.DEVICE,
        "lamp-3",
        "192.0.2.1:5",
        "c1",
        7,
    )
