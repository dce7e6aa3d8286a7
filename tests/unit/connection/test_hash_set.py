"""Sets of hashes: eight bytes each, and saved as they are."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from gateway.connection.hash_set import HashSet, hash_of


@given(st.lists(st.tuples(st.booleans(), st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3))))
def test_keys_are_a_set_and_survive_being_saved(steps):
    keys, model = HashSet(), set()
    for adds, key in steps:
        if adds and key not in keys:
            keys.add(key)
            model.add(key)
        elif not adds:
            assert keys.discard(key) is (key in model)
            model.discard(key)
        assert len(keys) == len(model)
    again = HashSet(keys.to_bytes())
    assert all(key in again for key in model)
    assert len(again) == len(model)
    assert len(keys.to_bytes()) == 8 * len(model)


def test_keys_are_saved_alike_on_every_machine():
    keys = HashSet()
    keys.add(1)
    assert keys.to_bytes() == b"\1" + bytes(7)


def test_saved_bytes_that_were_cut_are_no_fault():
    assert len(HashSet(bytes(8) + b"cut")) == 1


def test_a_thousand_topics_take_eight_bytes_each():
    keys = HashSet()
    for number in range(1_000):
        keys.add(hash_of(b"devices/lamp-1/%d" % number))
    assert len(keys) == 1_000
    assert sys.getsizeof(keys._sorted) < 12_000
