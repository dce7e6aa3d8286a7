"""The shipped rules: each can be read, and one thing that goes wrong is one alert."""

from __future__ import annotations

import pytest
from harness.readings import NOW, Measured

from gateway.alerts.condition_parser import condition_of
from gateway.alerts.reading_catalogue import catalogue
from gateway.alerts.shipped_rules import SHIPPED
from gateway.observe.metric_catalogue import readings

CONDITIONS = {one.name: condition_of(one.condition, catalogue()) for one in SHIPPED}


def fire(measured: Measured) -> set[str]:
    return {
        name
        for name, condition in CONDITIONS.items()
        if condition.holds(measured, now=NOW, began=NOW - 10**9)
    }


def service(name: str, state: float = 0.0, **others: float) -> Measured:
    sound = dict.fromkeys(("store", "keys", "disk", "certificates", "validity", "bus"), 1.0)
    states = sound | others | {name: state}
    return Measured(service_status={(("service", one),): value for one, value in states.items()})


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (
            Measured(cpu_percent=80.0, memory_percent=90.0, disk_free_percent=10.0, loop_lag_seconds=0.2),
            set(),
        ),
        (Measured(cpu_percent=80.1), {"cpu_high"}),
        (Measured(memory_percent=90.1), {"memory_high"}),
        (Measured(disk_free_percent=9.9), {"disk_low"}),
        (Measured(loop_lag_seconds=0.21), {"loop_lag"}),
        (service("bus"), {"bus_down"}),
        (service("audit"), {"audit_not_written"}),
        (service("store"), {"service_down"}),
        (service("ai_service"), {"service_down"}),
        (service("saving", 0.5), {"service_degraded"}),
        (service("policy", 0.5), {"service_degraded"}),
        (service("services", 0.5, bus=0.0), {"bus_down"}),
        # These have rules of their own, on what they measure.
        (service("disk"), set()),
        (service("disk", 0.5), set()),
        (service("audit", 0.5), {"audit_not_written"}),
        (service("loop"), set()),
        (service("validity"), set()),
        (service("certificates", 0.5), {"certificate_refused"}),
        (service("certificates", 0.5, validity=0.0), set()),
        (Measured(certificate_life_left={(("certificate", "server"),): 0.34}), set()),
        (Measured(certificate_life_left={(("certificate", "server"),): 0.33}), {"certificate_ending"}),
        (
            Measured(certificate_life_left={(("certificate", "server"),): 0.0}),
            {"certificate_ending", "certificate_ended"},
        ),
        (Measured(channel_status={(("channel", "ops"),): 0.0}), {"channel_down"}),
        (Measured().counted("logins_refused_total", (300, 10), (0, 61)), {"wrong_logins"}),
        (Measured().counted("logins_refused_total", (300, 10), (0, 60)), set()),
        (Measured().counted("publishes_denied_total", (300, 0), (0, 101)), {"denials"}),
        (Measured().counted("subscriptions_denied_total", (300, 0), (0, 101)), {"denials"}),
        (Measured().counted("open_failed_total", (300, 0), (0, 1)), {"unopenable_seals"}),
    ],
)
def test_one_thing_that_goes_wrong_is_one_alert(measured, expected):
    assert fire(measured) == expected


def test_each_name_is_measured_or_is_the_alerts_own():
    own = {"channel_status"}
    for condition in CONDITIONS.values():
        for name in condition.names - own:
            assert name in readings() or name.startswith("device_")
