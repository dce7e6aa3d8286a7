"""Which source answers for a name."""

from __future__ import annotations

from harness.readings import Measured, labels

from gateway.alerts.device_readings import NAMES
from gateway.alerts.history_and_live_readings import LiveReadings
from gateway.observe.metric_catalogue import readings

BUS, STORE = labels(service="bus"), labels(service="store")


def test_what_is_known_of_this_second_is_newer_than_the_sample():
    history = Measured(service_status={BUS: 1.0, STORE: 1.0}, cpu_percent=5.0)
    both = LiveReadings(history, {"service_status": lambda: {BUS: 0.0}}, {})
    assert both.latest("service_status") == {BUS: 0.0, STORE: 1.0}
    assert both.latest("cpu_percent") == {(): 5.0}


def test_devices_are_asked_for_their_own_names_alone():
    """`device_round_trip_seconds` is of all devices together, and the history has it."""
    devices = Measured(device_silent_seconds=7.0)
    history = Measured(device_round_trip_seconds_sum=3.0).counted("logins_refused_total", (10, 1), (0, 2))
    both = LiveReadings(history, {}, dict.fromkeys(NAMES, devices))
    assert both.latest("device_silent_seconds") == {(): 7.0}
    assert both.latest("device_round_trip_seconds_sum") == {(): 3.0}
    assert len(both.since("logins_refused_total", 60)[()]) == 2
    assert not NAMES & readings().keys()
