"""What a device holds on the bus: counted once, bounded, freed by what frees it there, never too low."""

from __future__ import annotations

import pytest

from gateway.connection.bus_holdings import FOREVER, ConnectionHoldings, Holdings, Kind, SavedHoldings

NOW = 1_764_000_000
AFTER = 60
"""Seconds in which the bus may still have what has expired."""


class Relay:
    """A connection's publisher, as far as holdings go."""

    def __init__(self):
        self.told = []

    def uncount(self, topic):
        self.told.append(topic)


def opened(holdings, client="c", lifetime=FOREVER, *, most=16, present=False, now=NOW):
    """A connection that the bus took; None when it found no place."""
    holder = ConnectionHoldings(holdings, "lamp-1")
    if not holder.count_session(client.encode(), lifetime, most, now):
        return None
    holder.established(session_present=present, lifetime=None)
    return holder


def left(holdings, *clients, lifetime=FOREVER, now=NOW):
    """Sessions whose connections have ended."""
    for client in clients:
        opened(holdings, client, lifetime).end(now)
    return holdings


def sessions(holdings):
    holding = holdings.find("lamp-1")
    return len(holding.sessions) if holding else 0


def saved(holdings):
    """As the next start finds it."""
    rows = [one for one in holdings.take(10_000) if not one.gone]
    again = Holdings()
    again.load(rows, NOW)
    return again


# Retained topics


def test_a_topic_counts_once_and_the_first_above_the_bound_is_refused():
    one = ConnectionHoldings(Holdings(), "lamp-1")
    assert all(one.retain(b"t/%d" % number, 5) for number in (0, 1, 1, 2, 3, 4, 0))
    assert not one.retain(b"t/5", 5)
    assert one.retain(b"t/4", 5), "what is counted may be published again"


def test_devices_have_a_bound_each():
    holdings = Holdings()
    assert ConnectionHoldings(holdings, "lamp-1").retain(b"t", 1)
    assert ConnectionHoldings(holdings, "lamp-2").retain(b"u", 1)
    assert not ConnectionHoldings(holdings, "lamp-1").retain(b"u", 1)


def test_a_cleared_topic_gives_its_place_back_and_every_connection_that_counted_it_hears():
    holdings, pumps = Holdings(), [Relay(), Relay(), Relay()]
    one, other = ConnectionHoldings(holdings, "lamp-1"), ConnectionHoldings(holdings, "lamp-1")
    assert one.retain(b"t", 1, pumps[0])
    assert other.retain(b"t", 1, pumps[1])
    assert other.clear(b"t") == 2
    assert [relay.told for relay in pumps] == [[b"t"], [b"t"], []]
    assert one.retain(b"u", 1, pumps[0])
    assert other.clear(b"t") == 0, "nothing stands there, and nobody is told again"
    one.remove_publisher(pumps[0])
    assert other.clear(b"u") == 1
    assert pumps[0].told == [b"t"]


def test_who_holds_nothing_costs_nothing():
    holdings = Holdings()
    one = opened(holdings, lifetime=0)
    assert one.subscribe(b"#", 1)
    assert one.clear(b"t") == 0
    one.end(NOW)
    assert holdings.find("lamp-1") is None
    assert holdings.take(10) == []


# Sessions


def test_the_seventeenth_session_finds_no_place():
    holdings = left(Holdings(), *(f"c{number}" for number in range(16)))
    assert opened(holdings, "c16") is None
    assert opened(holdings, "c16", lifetime=0) is not None, "what goes with its connection needs none"
    assert opened(holdings, "c3") is not None, "nor does one that has it"
    assert sessions(holdings) == 16


def test_a_session_that_is_connected_counts_as_well():
    holdings = Holdings()
    assert [opened(holdings, f"c{number}") is not None for number in range(17)] == [True] * 16 + [False]


@pytest.mark.parametrize("present", [False, True])
def test_a_clean_one_of_the_same_client_gives_the_place_back(present):
    holdings = left(Holdings(), "c")
    opened(holdings, "c", lifetime=0, present=present).end(NOW)
    assert sessions(holdings) == 0


def test_a_goodbye_that_ends_the_session_gives_the_place_back():
    holdings = Holdings()
    one = opened(holdings)
    one.lifetime = 0  # by the Session Expiry Interval of its DISCONNECT
    one.end(NOW)
    assert sessions(holdings) == 0


def test_a_goodbye_may_say_longer_too():
    holdings = Holdings()
    one = opened(holdings, lifetime=5)
    one.lifetime = FOREVER
    one.end(NOW)
    assert opened(holdings, "d", most=1, now=NOW + 10**9) is None


def test_the_bus_may_say_for_how_long():
    holdings = Holdings()
    one = ConnectionHoldings(holdings, "lamp-1")
    assert one.count_session(b"c", FOREVER, 1, NOW)
    one.established(session_present=False, lifetime=10)
    one.end(NOW)
    assert opened(holdings, "d", most=1, now=NOW + 10 + AFTER) is None
    assert opened(holdings, "d", most=1, now=NOW + 11 + AFTER) is not None


def test_what_has_surely_expired_makes_room():
    holdings = left(Holdings(), "a", lifetime=100)
    left(holdings, "b")
    assert opened(holdings, "c", most=2, now=NOW + 100 + AFTER) is None
    assert opened(holdings, "c", most=2, now=NOW + 101 + AFTER) is not None
    assert sessions(holdings) == 2


def test_what_is_connected_never_expires():
    holdings = Holdings()
    opened(holdings, lifetime=1)
    assert opened(holdings, "d", most=1, now=NOW + 10**6) is None


def test_a_refusal_of_the_bus_gives_the_place_back():
    holdings = Holdings()
    one = ConnectionHoldings(holdings, "lamp-1")
    assert one.count_session(b"c", FOREVER, 1, NOW)
    one.refused()
    one.end(NOW)
    assert sessions(holdings) == 0


def test_a_refusal_of_the_bus_leaves_what_it_had():
    holdings = left(Holdings(), "c")
    for lifetime in (0, FOREVER):
        one = ConnectionHoldings(holdings, "lamp-1")
        assert one.count_session(b"c", lifetime, 16, NOW)
        one.refused()
        one.end(NOW)
    assert sessions(holdings) == 1


def test_who_was_never_answered_may_have_left_a_session():
    holdings = Holdings()
    one = ConnectionHoldings(holdings, "lamp-1")
    assert one.count_session(b"c", FOREVER, 1, NOW)
    one.end(NOW)
    assert sessions(holdings) == 1
    again = ConnectionHoldings(holdings, "lamp-1")
    assert again.count_session(b"c", 0, 1, NOW)
    again.end(NOW)
    assert sessions(holdings) == 1, "and who was never answered has ended none"


def test_a_connection_that_was_taken_over_changes_nothing_at_its_end():
    holdings = Holdings()
    old = opened(holdings, lifetime=0)
    old = opened(holdings)
    new = opened(holdings, lifetime=100, present=True)
    old.end(NOW)
    new.end(NOW)
    assert opened(holdings, "d", most=1, now=NOW + 101 + AFTER) is not None, "the new one's lifetime counts"
    holdings = Holdings()
    old = opened(holdings)
    new = opened(holdings, lifetime=0)
    new.end(NOW)
    assert sessions(holdings) == 0
    fresh = opened(holdings)
    old.lifetime = 0
    old.end(NOW)
    assert sessions(holdings) == 1, "the session of the same name is another one"
    fresh.end(NOW)


def test_whoever_opens_two_at_once_is_counted_by_what_either_may_have_left():
    # Which CONNECT the bus took last can't be known by the order of its answers.
    for last_to_end in (0, 1):
        holdings = Holdings()
        ends, stays = ConnectionHoldings(holdings, "lamp-1"), ConnectionHoldings(holdings, "lamp-1")
        assert stays.count_session(b"c", FOREVER, 1, NOW)
        assert ends.count_session(b"c", 0, 1, NOW)
        stays.established(session_present=False, lifetime=None)
        assert stays.subscribe(b"a", 1)
        ends.established(session_present=False, lifetime=None)
        assert not stays.subscribe(b"b", 1)
        for one in (ends, stays) if last_to_end else (stays, ends):
            one.end(NOW)
        assert sessions(holdings) == 1


def test_whoever_lowers_it_while_another_comes_is_counted_too():
    holdings = Holdings()
    old, new = opened(holdings), ConnectionHoldings(holdings, "lamp-1")
    assert new.count_session(b"c", FOREVER, 1, NOW)
    old.lifetime = 0
    old.end(NOW)
    assert sessions(holdings) == 1


# The filters of a session


def test_filters_count_over_reconnects_of_one_session():
    holdings = Holdings()
    one = opened(holdings)
    assert [one.subscribe(b"a/%d" % number, 3) for number in range(4)] == [True] * 3 + [False]
    one.end(NOW)
    again = opened(holdings, present=True)
    assert not again.subscribe(b"b", 3)
    assert again.subscribe(b"a/1", 3), "what it has it may ask for again"
    again.unsubscribe(b"a/0")
    assert again.subscribe(b"b", 3)


def test_filters_count_from_zero_when_the_bus_has_no_session():
    holdings = Holdings()
    opened(holdings).subscribe(b"a", 1)
    again = opened(holdings, present=False)
    assert again.subscribe(b"b", 1)


def test_a_session_that_goes_with_its_connection_brings_what_it_resumed():
    holdings = Holdings()
    one = opened(holdings)
    assert one.subscribe(b"a", 1)
    one.end(NOW)
    assert not opened(holdings, lifetime=0, present=True).subscribe(b"b", 1)


# Saved, and counted on


def test_all_of_it_counts_on_after_a_restart():
    holdings = left(Holdings(), "away")
    here = opened(holdings, "here")
    assert here.subscribe(b"a", 1)
    assert here.retain(b"t", 1)
    again = saved(holdings)
    assert not ConnectionHoldings(again, "lamp-1").retain(b"u", 1)
    assert opened(again, "new", most=2) is None
    assert not opened(again, "here", most=2, present=True).subscribe(b"b", 1)


def test_a_session_whose_gateway_was_killed_expires_from_the_start_on():
    holdings = Holdings()
    opened(holdings, lifetime=100)
    again = Holdings()
    again.load(holdings.take(10), NOW + 50)
    assert opened(again, "d", most=1, now=NOW + 150 + AFTER) is None
    assert opened(again, "d", most=1, now=NOW + 151 + AFTER) is not None


def test_what_expired_while_nothing_ran_is_not_loaded_and_goes_from_the_store():
    rows = left(Holdings(), "c", lifetime=5).take(10)
    again = Holdings()
    again.load(rows, NOW + 6 + AFTER)
    assert sessions(again) == 0
    assert [one.gone for one in again.take(10)] == [True]


def test_only_what_changed_is_saved_and_what_is_held_no_more_goes():
    holdings = Holdings()
    one = opened(holdings)
    one.retain(b"t", 1)
    assert {(row.kind, row.gone) for row in holdings.take(10)} == {
        (Kind.SESSION, False),
        (Kind.RETAINED, False),
    }
    assert holdings.take(10) == []
    one.retain(b"t", 1)
    assert holdings.take(10) == [], "nothing new"
    one.clear(b"t")
    one.lifetime = 0
    one.end(NOW)
    assert {(row.kind, row.gone) for row in holdings.take(10)} == {
        (Kind.SESSION, True),
        (Kind.RETAINED, True),
    }


def test_what_could_not_be_saved_is_saved_as_it_is_the_next_time():
    holdings = Holdings()
    one = ConnectionHoldings(holdings, "lamp-1")
    one.retain(b"t", 9)
    rows = holdings.take(10)
    one.retain(b"u", 9)
    holdings.put_back(rows)
    assert [len(row.keys) for row in holdings.take(10)] == [16]


def test_a_save_takes_no_more_than_it_is_to():
    holdings = left(Holdings(), *(f"c{number}" for number in range(10)))
    assert [len(holdings.take(4)) for _ in range(4)] == [4, 4, 2, 0]


def test_sessions_that_come_and_go_leave_nothing_to_save():
    # However slow the store is, or gone: what waits for it is bounded by what is held.
    holdings = Holdings()
    for number in range(5_000):
        one = opened(holdings, f"c{number}")
        one.retain(b"t", 1)
        one.lifetime = 0
        one.end(NOW)
    assert len(holdings.take(10_000)) == 1, "the retained topic"
    one = opened(holdings, "c")
    assert [row.gone for row in holdings.take(10)] == [False]
    one.lifetime = 0
    one.end(NOW)
    assert [row.gone for row in holdings.take(10)] == [True], "what may have a row"
    # The id again, before the row went.
    one = opened(holdings, "d")
    holdings.take(10)
    one.lifetime = 0
    one.end(NOW)
    one = opened(holdings, "d")
    one.lifetime = 0
    one.end(NOW)
    assert [row.gone for row in holdings.take(10)] == [True]


# Forgotten


def test_forgetting_leaves_what_is_connected():
    holdings, relay = left(Holdings(), "away"), Relay()
    here = opened(holdings, "here")
    assert here.retain(b"t", 1, relay)
    holdings.take(10)
    holdings.forget("lamp-1")
    assert sessions(holdings) == 1
    assert relay.told == [None], "its connections count anew"
    assert here.retain(b"u", 1)
    assert {(row.kind, row.gone) for row in holdings.take(10)} == {
        (Kind.RETAINED, False),
        (Kind.SESSION, True),
    }


def test_a_removed_device_leaves_nothing():
    holdings = left(Holdings(), "away")
    here = opened(holdings, "here")
    holdings.drop("lamp-1")
    here.end(NOW)
    assert holdings.find("lamp-1") is None
    assert holdings.take(10) == []
    holdings.put_back([SavedHoldings("lamp-1", Kind.RETAINED, 0, 0, 0, b"")])
    assert holdings.take(10) == []


def test_what_one_device_may_hold_is_bounded():
    holdings = Holdings()
    for client in range(20):
        one = opened(holdings, f"c{client}")
        for number in range(120):
            if one:
                one.subscribe(b"f/%d" % number, 100)
                one.retain(b"t/%d/%d" % (client, number), 100)
    rows = holdings.take(10_000)
    assert len(rows) == 17
    assert sum(len(row.keys) for row in rows) == 17 * 100 * 8
