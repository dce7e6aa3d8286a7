"""24 hours in rings: what is kept, for how long, in how little room, and under any clock."""

import math
import tracemalloc
from itertools import pairwise

import pytest

from gateway.observe import history as module
from gateway.observe.history import SERIES_MAX, History
from gateway.observe.history_encoding import Row, SeriesRow, unpacked

START = 1_764_000_000_000 // 60_000 * 60_000
BUS, STORE = (("service", "bus"),), (("service", "store"),)


def filled(samples, *, start=START, step=10_000, history=None):
    """A history with one sample of `cpu_percent` each ten seconds."""
    history = history or History()
    for number, value in enumerate(samples):
        history.add(start + number * step, {"cpu_percent": {(): value}})
    return history


def values(history, name="cpu_percent", seconds=86_400, labels=()):
    return [value for _, value in history.since(name, seconds).get(labels, [])]


class Store:
    """Rows as the store keeps them."""

    def __init__(self):
        self.series, self.rows = {}, {}

    def take(self, history, most=1_000):
        while most and (unsaved := history.unsaved()) is not None:
            most -= 1
            self.save(unsaved)
            history.saved(unsaved)

    def save(self, unsaved):
        self.series |= {row.series_id: row for row in unsaved.series}
        for series_id in unsaved.ended:
            self.series.pop(series_id, None)
        for step, number, at in unsaved.moved:
            self.rows[step, number] = self.rows[step, number]._replace(at=at)
        self.rows |= {(row.step_s, row.number): row for row in unsaved.rows}
        self.rows = {key: row for key, row in self.rows.items() if key[1] >= unsaved.needed.get(key[0], 0)}

    def load(self, now, history=None):
        history = history or History()
        damaged = history.load(list(self.series.values()), [self.rows[key] for key in sorted(self.rows)], now)
        return history, damaged

    @property
    def size(self):
        return sum(len(row.values) + 30 for row in self.rows.values())


def test_the_newest_sample_is_the_latest_and_only_that():
    history = History()
    assert history.latest("service_status") == {}
    history.add(START, {"service_status": {BUS: 1, STORE: 0}})
    assert history.latest("service_status") == {BUS: 1, STORE: 0}
    history.add(START + 10_000, {"service_status": {BUS: 0}})
    assert history.latest("service_status") == {BUS: 0}
    assert history.latest("nobody knows") == {}


def test_the_past_comes_oldest_first_and_as_far_back_as_was_asked():
    history = filled([1, 2, 3, 4])
    assert history.since("cpu_percent", 20) == {(): [(START + 10_000 * n, n + 1) for n in (1, 2, 3)]}
    assert values(history) == [1, 2, 3, 4]
    assert history.since("nobody knows", 60) == {}


def test_names_are_those_measured_and_those_that_may_come():
    history = filled([1], history=History(known={"disk_free_percent"}))
    assert history.names() == {"disk_free_percent", "cpu_percent"}


def test_an_hour_is_kept_by_ten_seconds_and_the_day_by_minutes():
    history = filled(range(24 * 360 + 1_000))
    at = [time for time, _ in history.since("cpu_percent", 86_400)[()]]
    steps = [after - before for before, after in pairwise(at)]
    assert steps[-359:] == [10_000] * 359
    assert set(steps[:-360]) == {60_000}
    assert at[-1] - at[0] >= 86_400_000 - 120_000
    assert len(at) == 360 + 1_380


def test_a_minute_is_its_mean_and_of_a_counter_its_last_value():
    history = History(last_of_minute={"service_status"})
    for number in range(400):
        history.add(
            START + number * 10_000,
            {
                "cpu_percent": {(): number % 6},
                "logins_total": {(): number},
                "service_status": {BUS: number % 2},
            },
        )
    assert values(history)[0] == 2.5
    assert values(history, "logins_total")[:2] == [5, 11]
    assert values(history, "service_status", labels=BUS)[0] == 1


def test_what_nobody_measured_leaves_a_gap_and_what_is_no_number_is_not_measured():
    history = History()
    for number, value in enumerate([1, math.nan, math.inf, None, 5]):
        history.add(START + number * 10_000, {} if value is None else {"cpu_percent": {(): value}})
    assert history.since("cpu_percent", 60) == {(): [(START, 1), (START + 40_000, 5)]}


def test_whoever_measures_more_often_does_not_push_out_the_hour():
    history = filled(range(3_600), step=1_000)
    at = [time for time, _ in history.since("cpu_percent", 3_600)[()]]
    assert at[-1] - at[0] > 3_500_000
    assert {after - before for before, after in pairwise(at[-300:])} == {9_000}
    assert history.latest("cpu_percent") == {(): 3_599}


def test_series_are_bounded_and_the_first_stay():
    history = History()
    many = {(("name", str(number)),): number for number in range(SERIES_MAX + 7)}
    history.add(START, {"kept": {(): 1}, "many": many})
    assert (history.series, history.left_out) == (SERIES_MAX, 8)
    assert history.latest("kept") == {(): 1}
    history.add(START + 10_000, {"kept": {(): 2}})
    assert history.left_out == 0


def test_what_had_no_value_for_a_day_makes_room():
    history = History()
    history.add(START, {"old": {(("name", str(n)),): n for n in range(SERIES_MAX)}})
    for number in range(1, 24 * 360 + 20):
        history.add(START + number * 10_000, {"new": {(): 1}})
    assert history.series == 1
    assert history.latest("new") == {(): 1}
    assert history.names() == {"new"}


def test_eight_mebibytes_are_the_most_in_memory_and_in_the_store():
    tracemalloc.start()
    try:
        history, store = History(), Store()
        some = {(("name", str(number)),): float(number) for number in range(SERIES_MAX)}
        for number in range(30):
            # Numbers that can't be compressed well.
            history.add(
                START + number * 60_000, {"many": {key: math.sin(v + number) for key, v in some.items()}}
            )
        store.take(history)
        assert tracemalloc.get_traced_memory()[0] - store.size < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert store.size / len(store.rows) * (360 + 1_440) < 8 * 2**20


def test_what_was_saved_is_there_again():
    store = Store()
    history = filled(range(5_000))
    store.take(history)
    again, damaged = store.load(START + 5_000 * 10_000)
    assert damaged == 0
    assert again.unsaved() is None
    assert again.since("cpu_percent", 86_400) == history.since("cpu_percent", 86_400)
    assert len(store.rows) == 360 + 5_000 // 6
    again.add(START + 5_000 * 10_000, {"cpu_percent": {(): 7}})
    assert values(again)[-2:] == [4_999, 7]
    store.take(again)
    third, _ = store.load(START + 5_001 * 10_000)
    assert third.since("cpu_percent", 86_400) == again.since("cpu_percent", 86_400)


@pytest.mark.parametrize("saved", [1, 2, 3, 8])
@pytest.mark.parametrize("samples", [300, 2_000])
def test_killed_between_two_saves_what_was_saved_is_whole(samples, saved):
    """Some hours that the store did not take are saved bit by bit, and the gateway is killed meanwhile."""
    store = Store()
    history = filled(range(samples))
    store.take(history, saved)
    fine, minutes = (
        max((row.at for row in store.rows.values() if row.step_s == step), default=0) for step in (10, 60)
    )
    assert minutes <= fine
    again, damaged = store.load(START + 3_000 * 10_000)
    assert damaged == 0
    for number in range(3_000, 3_030):
        again.add(START + number * 10_000, {"cpu_percent": {(): number}})
    points = again.since("cpu_percent", 86_400)[()]
    assert points == sorted(points)
    assert len({time for time, _ in points}) == len(points)
    assert [value for _, value in points[-30:]] == list(range(3_000, 3_030))


def test_what_could_not_be_saved_waits_and_is_bounded():
    store = Store()
    history = filled(range(1_000))
    unsaved = history.unsaved()
    history.not_saved(unsaved)
    store.take(history)
    assert [row.number for row in store.rows.values() if row.step_s == 10] == list(range(640, 1_000))


@pytest.mark.parametrize("back", [11, 30, 600, 5_000, 86_400, 400 * 86_400])
def test_a_clock_that_is_set_back_loses_nothing(back):
    history, store = filled(range(1_000)), Store()
    store.take(history)
    before = values(history)
    now = START + 999 * 10_000 - back * 1_000
    history.add(now, {"cpu_percent": {(): 1_000}})
    points = history.since("cpu_percent", 86_400)[()]
    assert [value for _, value in points[-360:]] == list(range(641, 1_001))
    assert len(points) >= len(before)
    assert points[-1] == (now, 1_000)
    assert points == sorted(points)
    steps = {after[0] - first[0] for first, after in pairwise(points[-300:])}
    assert steps == {10_000}
    store.take(history)
    again, damaged = store.load(now + 1)
    assert damaged == 0
    assert again.since("cpu_percent", 86_400) == history.since("cpu_percent", 86_400)


def test_a_clock_that_was_ahead_for_a_while_takes_nothing_from_the_hours_before():
    history = filled(range(100))
    year = 365 * 86_400_000
    filled(range(100, 160), start=START + year, history=history)
    filled(range(160, 170), start=START + 1_600_000, history=history)
    points = history.since("cpu_percent", 86_400)[()]
    assert [value for _, value in points] == list(range(170))
    assert points == sorted(points)
    assert points[0][0] == START


def test_a_clock_that_jumps_ahead_keeps_the_series():
    history = filled(range(10))
    filled([10, 11], start=START + 365 * 86_400_000, history=history)
    assert values(history) == [10, 11]
    assert history.series == 1


def test_what_was_saved_under_a_clock_that_was_ahead_is_taken_as_just_now():
    store = Store()
    store.take(filled(range(100)))
    now = START - 86_400_000
    history, _ = store.load(now)
    history.add(now, {"cpu_percent": {(): 100}})
    assert values(history) == list(range(101))
    store.take(history)
    assert all(row.at <= now for row in store.rows.values())


@pytest.mark.parametrize("damage", [b"", b"no zlib", None])
def test_a_damaged_row_is_left_out_and_the_others_are_there(damage):
    store = Store()
    store.take(filled(range(20)))
    row = store.rows[10, 7]
    store.rows[10, 7] = row._replace(values=row.values[:-3] if damage is None else damage)
    history, damaged = store.load(START + 200_000)
    assert damaged == 1
    assert values(history) == [number for number in range(20) if number != 7]


def test_a_row_that_blows_up_is_damaged():
    import zlib

    assert unpacked(zlib.compress(bytes(12 * 451)), 450) is None
    assert unpacked(zlib.compress(bytes(13)), 450) is None
    assert unpacked(zlib.compress(bytes(50_000_000)), 450) is None


def test_rows_of_another_step_or_out_of_order_are_left_out():
    store = Store()
    store.take(filled(range(5)))
    series, rows = list(store.series.values()), [store.rows[key] for key in sorted(store.rows)]
    odd = [Row(7, 1, START, rows[0].values), rows[0]._replace(number=9, at=START - 1)]
    history = History()
    assert history.load(series, [*rows, *odd], START + 60_000) == 2
    assert values(history) == [0, 1, 2, 3, 4]


def test_series_that_are_too_many_in_the_store_are_forgotten_there():
    series = [SeriesRow(number, "many", (("name", str(number)),)) for number in range(1, SERIES_MAX + 3)]
    history, store = History(), Store()
    store.series = {row.series_id: row for row in series}
    history.load(series, [], START)
    assert history.series == SERIES_MAX
    history.add(START, {"many": {(("name", "1"),): 1}})
    store.take(history)
    assert SERIES_MAX + 2 not in store.series


def test_a_series_id_is_never_given_twice():
    store = Store()
    history = filled(range(3))
    store.take(history)
    again, _ = store.load(START + 30_000)
    again.add(START + 30_000, {"other": {(): 1}})
    store.take(again)
    assert sorted(row.name for row in store.series.values()) == ["cpu_percent", "other"]


def test_to_add_a_sample_and_to_save_it_takes_less_than_a_hundredth_of_ten_seconds():
    import time

    history, store = History(), Store()
    some = {(("name", str(number)),): float(number) for number in range(SERIES_MAX)}
    began = time.process_time()
    for number in range(60):
        history.add(START + number * 10_000, {"many": some})
        store.take(history)
    assert (time.process_time() - began) / 60 < 0.1
    assert module.FINE_SECONDS == 10


def test_after_the_clock_was_set_back_no_sample_counts_in_two_minutes():
    history, store = filled([0] * 8), Store()
    for seconds in (45, 55, 65):
        history.add(START + seconds * 1_000, {"cpu_percent": {(): 6}})
    store.take(history)
    means = [next(iter(unpacked(row.values, 1).values())) for key, row in store.rows.items() if key[0] == 60]
    assert means == [0, 3], "two that are new to it, and two after the clock was set"


def test_what_is_no_longer_kept_under_its_name_makes_room_at_once():
    store = Store()
    many = {(("name", str(number)),): number for number in range(SERIES_MAX - 1)}
    history = History()
    history.add(START, {"cpu_percent": {(): 1}, "gone": many})
    store.take(history)
    again, damaged = store.load(START + 10_000, History(known={"cpu_percent", "memory_percent"}))
    again.add(START + 10_000, {"cpu_percent": {(): 2}, "memory_percent": {(): 3}})
    assert (damaged, again.series, again.left_out) == (0, 2, 0)
    assert values(again) == [1, 2]
    store.take(again)
    assert {row.name for row in store.series.values()} == {"cpu_percent", "memory_percent"}
