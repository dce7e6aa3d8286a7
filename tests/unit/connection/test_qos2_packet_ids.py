"""Packet ids that are remembered: one more copies none of the others, and nobody keeps an empty set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.connection.process_context import EMPTY_SET
from gateway.connection.qos2_packet_ids import with_id, without_id


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4))))
def test_they_are_a_set(steps):
    ids, model = EMPTY_SET, set()
    for add, packet_id in steps:
        if add:
            ids = with_id(ids, packet_id)
            model.add(packet_id)
        else:
            ids = without_id(ids, packet_id)
            model.discard(packet_id)
        assert ids == model
        assert model or ids is EMPTY_SET


def test_thousands_are_not_copied_for_one_more_or_less():
    ids = with_id(with_id(EMPTY_SET, 1), 2)
    assert with_id(ids, 3) is ids
    assert without_id(ids, 3) is ids
