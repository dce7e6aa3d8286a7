"""The curves of `gateway-admin status --history`."""

import pytest

from gateway.cli import status_history
from gateway.cli.output import Failure
from gateway.cli.status_history import answer, growth, sparkline
from gateway.observe.history import History
from gateway.observe.metric_catalogue import readings

START = 1_764_000_000_000
TEN = 10_000


def test_a_curve_goes_from_nothing_to_its_greatest_and_shows_gaps():
    points = [(number * TEN, float(number)) for number in range(8)]
    assert sparkline(points, 0, 80_000, 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([(0, 5.0), (70_000, 5.0)], 0, 80_000, 8) == "█      █"
    assert sparkline([(0, 0.0)], 0, 80_000, 8) == "▁       "
    assert sparkline([], 0, 80_000, 4) == "    "


def test_growth_is_by_the_second_over_all_series_and_a_restart_begins_at_nothing():
    one, other = (("a", "1"),), (("a", "2"),)
    series = {one: [(0, 10.0), (TEN, 30.0), (2 * TEN, 5.0)], other: [(TEN, 0.0), (2 * TEN, 100.0)]}
    assert growth(series) == [(TEN, 2.0), (2 * TEN, 10.5)]
    assert growth({one: [(0, 10.0)]}) == []


def measured():
    history = History()
    for number in range(30):
        history.add(
            START + number * TEN,
            {
                "connections": {(): number},
                "messages_from_devices_total": {(): number * 100},
                "service_status": {(("service", "bus"),): 1, (("service", "db"),): 0},
            },
        )
    return history


def test_what_is_usual_is_shown_without_being_named():
    value, lines = answer(measured(), 86_400, [])
    assert [one["name"] for one in value["series"]] == ["connections", "messages_from_devices"]
    assert value["until"] - value["since"] == 86_400_000
    assert value["series"][0]["points"][-1] == [START + 29 * TEN, 29]
    assert lines[0].split() == ["5m", "ago", "now"]
    assert lines[1].startswith("connections ")
    assert lines[1].endswith("29  (0 to 29)")
    assert lines[2].endswith("10/s  (10 to 10)")


def test_each_series_of_a_metric_that_is_named():
    value, lines = answer(measured(), 3_600, ["gateway_service_status"])
    assert [one["labels"] for one in value["series"]] == [{"service": "bus"}, {"service": "db"}]
    assert lines[1].startswith("service_status{service=bus}  ")
    with pytest.raises(Failure, match="nobody measured 'typo'"):
        answer(measured(), 3_600, ["typo"])


def test_all_that_is_shown_is_measured():
    assert {one.name for one in status_history.SHOWN} <= readings().keys()
