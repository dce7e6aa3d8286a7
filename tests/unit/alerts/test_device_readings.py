"""What single devices do, as rules see it."""

from __future__ import annotations

import pytest
from harness.readings import NOW

from gateway.alerts.condition_parser import NoCondition, condition_of
from gateway.alerts.device_readings import NAMES, DeviceReadings
from gateway.alerts.reading_catalogue import catalogue
from gateway.alerts.shipped_rules import SHIPPED
from gateway.connection.audit_vocabulary import Origin, Source, done_login, refused_login
from gateway.observe.audit_event import AuditEvent


class Fleet:
    """Devices; seconds go by when the test says so."""

    def __init__(self, *names: str) -> None:
        self.now, self.steady = NOW, 5_000.0
        self.passed: dict[str, tuple[int, int]] = {}
        self.devices = ["lamp", "pump"]
        self.readings = DeviceReadings(
            lambda: self.now, lambda: self.steady, lambda: dict(self.passed), lambda: self.devices
        )
        self.readings.use(names)

    def become(self, *devices: str) -> None:
        """These may connect now, and no others."""
        touched = frozenset(devices).symmetric_difference(self.devices)
        self.devices = list(devices)
        self.readings.devices_changed(touched)

    def go_on(self, seconds: int) -> None:
        self.now += seconds * 1_000
        self.steady += seconds

    def run(self, seconds: int) -> None:
        for _ in range(seconds // 10):
            self.go_on(10)
            self.readings.sample()

    def login(self, device: str, *, good: bool, times: int = 1) -> None:
        report = done_login("secret") if good else refused_login("no")
        origin = Origin(
            source=Source.DEVICE if good else Source.STRANGER, device=device, address="192.0.2.1:5"
        )
        for _ in range(times):
            self.readings(AuditEvent.of(report, origin, self.now))

    def holds(self, text: str) -> dict[str, float]:
        found = condition_of(text, catalogue()).holds(self.readings, now=self.now, began=NOW)
        return {dict(of)["device"]: value for of, value in found.items()}


def test_the_devices_that_the_metrics_name_are_counted_without_a_rule_and_no_others():
    fleet = Fleet()
    fleet.readings.use([], ["lamp", "gone"])
    assert {name: fleet.readings.labelled(name) for name in NAMES} == {
        name: {"lamp": 0.0} for name in NAMES - {"device_message_bytes"}
    } | {"device_message_bytes": {}}
    fleet.login("lamp", good=False, times=2)
    fleet.login("pump", good=False, times=3)
    fleet.login("lamp", good=True, times=4)
    fleet.readings.moved("lamp")
    fleet.passed = {"lamp": (5, 500), "pump": (9, 900)}
    fleet.run(10)
    assert {name: fleet.readings.labelled(name) for name in NAMES} == {
        "device_wrong_logins_total": {"lamp": 2.0},
        "device_connects_total": {"lamp": 4.0},
        "device_messages_total": {"lamp": 5.0},
        "device_bytes_total": {"lamp": 500.0},
        "device_new_addresses_total": {"lamp": 1.0},
        "device_message_bytes": {"lamp": 100.0},
        "device_silent_seconds": {"lamp": 0.0},
    }
    fleet.run(30)
    assert fleet.readings.labelled("device_silent_seconds") == {"lamp": 30.0}
    fleet.readings.use([], [])
    assert fleet.readings.labelled("device_messages_total") == {}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_the_metrics_name_is_not_looked_for_among_all_devices(name, monkeypatch):
    fleet = Fleet()
    fleet.readings.use([], ["lamp"])
    monkeypatch.setattr(fleet.readings, "latest", None)  # it answers for all
    assert fleet.readings.labelled(name).keys() <= {"lamp"}


def test_wrong_logins_are_counted_of_devices_that_exist():
    fleet = Fleet("device_wrong_logins_total")
    fleet.run(600)
    fleet.login("lamp", good=False, times=11)
    fleet.login("nobody", good=False, times=100)
    fleet.login("lamp", good=True, times=100)
    assert fleet.holds("increase(device_wrong_logins_total, 5m) > 10") == {"lamp": 11.0}
    fleet.run(290)
    assert fleet.holds("increase(device_wrong_logins_total, 5m) > 10") == {"lamp": 11.0}
    fleet.run(60)
    assert fleet.holds("increase(device_wrong_logins_total, 5m) > 10") == {}


def test_connects_and_new_addresses():
    fleet = Fleet("device_connects_total", "device_new_addresses_total")
    fleet.login("pump", good=True, times=31)
    fleet.readings.moved("pump")
    assert fleet.holds("increase(device_connects_total, 5m) > 30") == {"pump": 31.0}
    assert fleet.holds("increase(device_new_addresses_total, 15m) > 0") == {"pump": 1.0}


def test_messages_bytes_and_their_mean_size():
    fleet = Fleet("device_messages_total", "device_bytes_total", "device_message_bytes")
    fleet.passed = {"lamp": (100, 5_000)}  # from before a rule asked
    fleet.readings.use([])
    fleet.readings.use(["device_messages_total", "device_bytes_total", "device_message_bytes"])
    fleet.run(60)
    assert fleet.holds("increase(device_messages_total, 5m) > 0") == {}
    fleet.passed = {"lamp": (110, 105_000)}
    fleet.run(10)
    assert fleet.holds("increase(device_messages_total, 5m) > 0") == {"lamp": 10.0}
    assert fleet.holds("increase(device_bytes_total, 5m) > 0") == {"lamp": 100_000.0}
    assert fleet.holds("device_message_bytes > 0") == {"lamp": 10_000.0}
    fleet.passed = {"lamp": (3, 30)}  # it left, and its budget was made anew
    fleet.run(10)
    assert fleet.holds("increase(device_messages_total, 5m) > 0") == {"lamp": 13.0}
    fleet.run(10)
    assert fleet.holds("device_message_bytes > 0") == {}


def test_a_device_is_silent_from_its_last_message_on_connected_or_not():
    fleet = Fleet("device_silent_seconds")
    fleet.run(3_590)
    assert fleet.holds("device_silent_seconds > 1h") == {}
    fleet.passed = {"lamp": (1, 10)}
    fleet.run(20)
    assert fleet.holds("device_silent_seconds > 1h") == {"pump": 3_610.0}
    fleet.become("lamp")
    fleet.run(3_600)
    assert fleet.holds("device_silent_seconds >= 1h") == {"lamp": 3_610.0}


def test_a_device_is_silent_from_when_it_may_connect_on():
    fleet = Fleet("device_silent_seconds")
    fleet.run(3_600)
    fleet.become("lamp", "pump", "new")
    assert fleet.holds("device_silent_seconds > 0") == {"lamp": 3_600.0, "pump": 3_600.0}
    fleet.run(50)
    fleet.become("lamp")
    fleet.passed = {"pump": (1, 10)}  # its last words
    fleet.run(50)
    fleet.become("lamp", "pump")
    fleet.run(10)
    assert fleet.holds("device_silent_seconds > 0") == {"lamp": 3_710.0, "pump": 10.0}


def test_silence_is_not_counted_from_what_was_heard_before_nobody_asked():
    fleet = Fleet("device_silent_seconds")
    fleet.passed = {"lamp": (1, 10)}
    fleet.run(10)
    fleet.readings.use([])
    fleet.run(3_600)
    fleet.readings.use(["device_silent_seconds"])
    fleet.run(10)
    assert fleet.holds("device_silent_seconds > 0") == {"lamp": 10.0, "pump": 10.0}


def test_a_new_device_with_the_id_of_a_removed_one_has_done_nothing_yet():
    fleet = Fleet(*NAMES)
    fleet.run(60)
    for device in ("lamp", "pump"):
        fleet.login(device, good=True, times=5)
        fleet.login(device, good=False, times=5)
        fleet.readings.moved(device)
    fleet.passed = {"lamp": (7, 70), "pump": (7, 70)}
    fleet.run(60)
    before = fleet.readings.news()
    fleet.become("lamp")
    assert fleet.readings.news() != before
    fleet.passed = {"lamp": (7, 70), "pump": (9, 90)}  # what it said before its connection ended
    fleet.run(10)
    fleet.become("lamp", "pump")
    fleet.login("pump", good=True)
    fleet.run(10)
    for name in sorted(NAMES - {"device_message_bytes", "device_silent_seconds", "device_connects_total"}):
        assert fleet.holds(f"increase({name}, 15m) > 0").keys() == {"lamp"}, name
    assert fleet.holds("increase(device_connects_total, 15m) > 0") == {"lamp": 5.0, "pump": 1.0}
    assert fleet.holds("device_message_bytes > 0") == {}


def test_what_was_silent_before_a_restart_still_is():
    fleet = Fleet("device_silent_seconds")
    fleet.readings.last_heard("lamp", NOW - 7_200_000)
    fleet.readings.last_heard("removed", NOW - 7_200_000)
    assert fleet.holds("device_silent_seconds > 1h") == {"lamp": 7_200.0}


def test_nothing_is_counted_while_no_rule_asks():
    fleet = Fleet()
    fleet.login("lamp", good=True, times=50)
    fleet.readings.moved("lamp")
    fleet.passed = {"lamp": (100, 5_000)}
    fleet.run(60)
    assert fleet.readings._counts == {}
    assert not fleet.readings._past


def test_the_past_is_bounded():
    fleet = Fleet("device_messages_total")
    fleet.run(7_200)
    assert len(fleet.readings._past) <= 32


def test_a_rule_can_not_look_back_further_than_is_kept():
    with pytest.raises(NoCondition, match="from 1s to 15m, not 1h"):
        condition_of("increase(device_messages_total, 1h) > 1", catalogue())


def test_each_shipped_rule_of_a_device_is_answered_here():
    names = {one.name for one in SHIPPED if not one.on}
    assert names == {
        "device_wrong_logins",
        "device_connects",
        "device_messages",
        "device_bytes",
        "device_message_size",
        "device_new_address",
        "device_silent",
    }


def test_what_may_be_judged_differently_is_news():
    fleet = Fleet("device_wrong_logins_total")
    fleet.run(10)
    before = fleet.readings.news()
    fleet.go_on(5)
    assert fleet.readings.news() == before
    fleet.login("lamp", good=False)
    assert fleet.readings.news() != before
    before = fleet.readings.news()
    fleet.run(10)
    assert fleet.readings.news() != before, "a sample"


def test_silence_is_news_with_each_sample_and_not_each_second():
    fleet = Fleet("device_silent_seconds")
    fleet.run(10)
    before = fleet.readings.news()
    fleet.go_on(9)
    assert fleet.readings.news() == before
    fleet.run(10)
    assert fleet.readings.news() != before


@pytest.mark.parametrize("hours", [2, 72, -2])
def test_a_clock_that_is_set_makes_no_device_silent_and_changes_no_count(hours):
    fleet = Fleet(*NAMES)
    fleet.run(600)
    fleet.login("lamp", good=False, times=11)
    fleet.run(10)
    fleet.now += hours * 3_600_000
    assert fleet.holds("device_silent_seconds > 0") == {"lamp": 610.0, "pump": 610.0}
    assert fleet.holds("increase(device_wrong_logins_total, 5m) > 10") == {"lamp": 11.0}
    fleet.run(270)
    assert fleet.holds("increase(device_wrong_logins_total, 5m) > 10") == {"lamp": 11.0}
    fleet.run(60)
    assert fleet.holds("increase(device_wrong_logins_total, 5m) > 10") == {}


def test_silence_before_a_restart_under_a_clock_that_was_ahead_is_none():
    fleet = Fleet("device_silent_seconds")
    fleet.readings.last_heard("lamp", NOW + 7_200_000)
    assert fleet.holds("device_silent_seconds >= 0") == {"lamp": 0.0, "pump": 0.0}
