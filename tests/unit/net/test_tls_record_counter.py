"""Counting the records of a handshake: the short way counts as the long one does, and passes nothing more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.net.tls_record_counter import RecordCounter, TooLittleData

PORTION = 4_096


def record(size):
    return b"\x16\x03\x03" + size.to_bytes(2, "big") + b"x" * size


FLIGHTS = st.lists(st.integers(0, 5_000).map(record), max_size=4).map(b"".join)


@given(FLIGHTS, st.integers(-9, 0), st.binary(max_size=9))
def test_what_the_short_way_takes_the_long_one_takes_whole_and_counts_the_same(flight, cut, more):
    data = flight[: len(flight) + cut] + more
    short, long = RecordCounter(), RecordCounter()
    if not short.is_short_flight(data, PORTION):
        assert short.records == 0, "left to the long way, which counts"
        return
    assert long.end_of_flight(memoryview(data), 0, PORTION) == len(data)
    assert (short.records, short._bytes) == (long.records, long._bytes)
    long.handshake_done()
    assert short._left == long._left == 0


@pytest.mark.parametrize("flight", [record(500), record(1) + record(53), record(1) + record(53) + record(90)])
def test_a_usual_flight_goes_the_short_way(flight):
    assert RecordCounter().is_short_flight(flight, PORTION)


@pytest.mark.parametrize(
    "flight", [record(9)[:-1], record(9) + record(9)[:7], record(9) + b"\x16\x03\x03", record(PORTION)]
)
def test_any_other_is_left_to_the_long_way(flight):
    assert not RecordCounter().is_short_flight(flight, PORTION)


def test_the_rest_of_a_record_is_no_flight():
    counter, whole = RecordCounter(), record(9) + record(9)
    assert counter.end_of_flight(memoryview(whole[:8]), 0, PORTION) == 8
    assert not counter.is_short_flight(record(9), PORTION)


def test_a_handshake_in_too_many_records_ends_the_short_way_too():
    counter, flight = RecordCounter(), record(1) + record(1)
    while counter.is_short_flight(flight, PORTION):
        assert counter.records <= 256
    with pytest.raises(TooLittleData):
        counter.end_of_flight(memoryview(flight), 0, PORTION)


@pytest.mark.parametrize("size", [995, 8_187], ids=["the short way", "the long way"])
def test_a_handshake_in_too_many_bytes_ends(size):
    counter, flight, given = RecordCounter(), record(size), 0
    while counter.is_short_flight(flight, PORTION):
        given += len(flight)
    while given < 32_768:
        given += counter.end_of_flight(memoryview(flight), 0, PORTION)
    assert given == 32_768, "what stands behind the handshake may be in the same record's bytes"
    with pytest.raises(TooLittleData, match="too long"):
        counter.end_of_flight(memoryview(flight), 0, PORTION)
