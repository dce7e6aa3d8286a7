"""Which devices were here lately: bounded, over restarts, and of no use to whoever reads or damages it."""

from __future__ import annotations

import pytest

from gateway.auth import recent_logins
from gateway.auth.recent_logins import DAYS, KnownDevices

DAY = 86_400_000


class Clock:
    now = 20_000 * DAY

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> KnownDevices:
    return KnownDevices(clock)


def saved(known: KnownDevices) -> bytes:
    snapshot = known.take_unsaved()
    assert snapshot is not None
    return snapshot.to_bytes()


def test_seen_and_here(known):
    assert known.look_up("lamp-1", "10.0.0.1") == (False, False)
    known.add("lamp-1", "10.0.0.1")
    assert known.look_up("lamp-1", "10.0.0.1") == (True, True)
    assert known.look_up("lamp-1", "10.0.0.2") == (True, False)
    assert known.look_up("lamp-2", "10.0.0.1") == (False, False)
    assert known.look_up("", "10.0.0.1") == (False, False)


def test_for_thirty_days(known, clock):
    known.add("lamp-1", "a")
    clock.now += DAYS * DAY
    assert known.look_up("lamp-1", "a") == (True, True)
    clock.now += DAY
    assert known.look_up("lamp-1", "a") == (False, False)


def test_a_device_that_moves_about_pushes_no_other_out(known):
    known.add("lamp-1", "a")
    for number in range(1_000):
        known.add("car-1", f"2001:db8:0:{number:x}::/64")
    assert known.look_up("lamp-1", "a") == (True, True)
    assert known.look_up("car-1", "2001:db8:0:0::/64") == (True, False)
    assert known.look_up("car-1", "2001:db8:0:3e7::/64") == (True, True)
    assert len(known) == 2


def test_the_device_longest_away_is_forgotten_when_there_are_too_many(known, monkeypatch):
    monkeypatch.setattr(recent_logins, "DEVICES_MAX", 3)
    for name in "abc":
        known.add(name, "x")
    known.add("a", "y")
    known.add("d", "x")
    assert [known.look_up(name, "x")[0] for name in "abcd"] == [True, False, True, True]


def test_over_a_restart(known, clock):
    known.add("lamp-1", "a")
    known.add("lamp-1", "b")
    data = saved(known)
    assert known.take_unsaved() is None, "nothing new"
    known.add("lamp-1", "b")
    assert known.take_unsaved() is None, "nor by a login like the one before"
    again = KnownDevices(clock)
    again.load(data)
    assert again.look_up("lamp-1", "a") == (True, True)
    assert again.look_up("lamp-1", "b") == (True, True)
    assert again.look_up("lamp-2", "a") == (False, False)
    assert again.take_unsaved() is None


def test_what_could_not_be_saved_is_saved_later(known):
    known.add("lamp-1", "a")
    data = saved(known)
    known.put_back()
    assert saved(known) == data


def test_no_name_stands_in_the_file_and_each_has_a_key_of_its_own(known, clock):
    other = KnownDevices(clock)
    for one in (known, other):
        one.add("lamp-1", "10.0.0.1")
    first, second = saved(known), saved(other)
    assert b"lamp" not in first
    assert b"10.0" not in first
    assert first[-60:] != second[-60:]


def test_a_damaged_file_changes_nothing(known, clock):
    known.add("lamp-1", "a")
    data = saved(known)
    again = KnownDevices(clock)
    again.add("lamp-2", "a")
    flipped = (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data)))
    for wrong in (b"", b"x", data[:-1], data + b"\0", data[:80], bytes(len(data)), *flipped):
        with pytest.raises(ValueError, match="damaged"):
            again.load(wrong)
    assert again.look_up("lamp-2", "a") == (True, True)


def test_a_clock_that_was_ahead_makes_nobody_known_for_longer(known, clock):
    clock.now += 1_000 * DAY
    known.add("lamp-1", "a")
    data = saved(known)
    clock.now -= 1_000 * DAY
    again = KnownDevices(clock)
    again.load(data)
    assert again.look_up("lamp-1", "a") == (True, True)
    clock.now += (DAYS + 1) * DAY
    assert again.look_up("lamp-1", "a") == (False, False)


def test_what_is_too_old_is_not_read(known, clock):
    known.add("lamp-1", "a")
    data = saved(known)
    clock.now += (DAYS + 1) * DAY
    again = KnownDevices(clock)
    again.load(data)
    assert len(again) == 0


def test_a_device_that_moves_is_told_and_one_that_comes_for_the_first_time_is_not():
    known, moved = KnownDevices(lambda: 0), []
    known.moved = moved.append
    known.add("lamp", "192.0.2.1")
    known.add("lamp", "192.0.2.1")
    assert moved == []
    known.add("lamp", "192.0.2.2")
    known.add("lamp", "192.0.2.2")
    assert moved == ["lamp"]


def test_of_a_removed_device_nothing_is_known_and_so_it_is_after_a_restart(known, clock):
    moved = []
    known.moved = moved.append
    for name in ("lamp-1", "lamp-2"):
        known.add(name, "a")
    saved(known)
    known.forget("lamp-9")
    assert known.take_unsaved() is None, "nobody was known by that name"
    known.forget("lamp-1")
    again = KnownDevices(clock)
    again.load(saved(known))
    for one in (known, again):
        assert one.look_up("lamp-1", "a") == (False, False)
        assert one.look_up("lamp-2", "a") == (True, True)
    known.add("lamp-1", "b")
    assert moved == [], "a new device with its id comes for the first time"
