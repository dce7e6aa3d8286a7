"""The order of acknowledgements, against a ledger that keeps every message in a list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.acknowledgement_order import Ledger
from gateway.mqtt.errors import LimitExceeded


def test_without_anything_before_it_an_answer_goes_at_once():
    ledger = Ledger()
    assert ledger.answer(1, b"a", 10) == b"a"
    ledger.passed(0)
    assert ledger.answer(2, b"b", 10) == b"b"
    assert ledger.waiting_answers == 0


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.booleans()), max_size=30), st.data())
def test_answers_take_their_place(messages, data):
    ledger = Ledger()
    # What the sender of the messages gets, by QoS, and what the slow and naive way gives.
    got: dict[int, bytes] = {1: b"", 2: b""}
    order: dict[int, bytes] = {1: b"", 2: b""}
    pending: dict[int, list[bytes]] = {1: [], 2: []}

    def acknowledge(qos):
        mark = pending[qos].pop(0)
        due = ledger.acknowledged(qos)
        got[qos] += mark
        for at in range(0, len(due), 2):
            got[int(due[at : at + 1])] += due[at : at + 2]

    for number, (qos, denied) in enumerate(messages):
        mark = b"%d%c" % (qos, 65 + number)
        order[qos] += mark
        if denied:
            got[qos] += ledger.answer(qos, mark, 100)
        else:
            ledger.passed(qos)
            pending[qos].append(mark)
        while pending[1] + pending[2] and data.draw(st.booleans()):
            acknowledge(1 if pending[1] else 2)
        assert order[1].startswith(got[1])
        assert order[2].startswith(got[2])
    for qos in (1, 2):
        while pending[qos]:
            acknowledge(qos)
    assert got == order
    assert ledger.waiting_answers == 0


def test_answers_that_wait_are_bounded():
    ledger = Ledger()
    ledger.passed(1)
    assert ledger.answer(1, b"a", 2) == b""
    assert ledger.answer(1, b"b", 2) == b""
    with pytest.raises(LimitExceeded):
        ledger.answer(1, b"c", 2)
    # Those whose turn it is don't count.
    assert ledger.answer(2, b"d", 2) == b"d"
    assert ledger.acknowledged(1) == b"ab"
