"""An entry of the trail says the same whether each of its values was looked at or not, and hides as much."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.connection.audit_vocabulary import Kind, Outcome
from gateway.observe import trail_entry
from gateway.observe.logs import VALUE_LENGTH, is_secret_name
from gateway.observe.trail_entry import entry_line

NAMES = [name for name in trail_entry._Usual.__struct_fields__ if name != "seq"]
FIELDS = st.fixed_dictionaries(
    {"kind": st.sampled_from(Kind), "outcome": st.sampled_from(Outcome)},
    optional={
        name: st.none() | st.integers(0, 2**63 - 1) | st.text() | st.sampled_from(["http://u:p@h/", "a\x7f"])
        for name in NAMES
        if name not in ("kind", "outcome")
    },
)


@given(st.integers(0, 2**53), FIELDS)
def test_both_ways_say_the_same(seq, fields):
    in_order = {name: fields[name] for name in NAMES if name in fields}
    # An entry that counts dropped events always takes the long way.
    assert entry_line(seq, in_order) == entry_line(seq, in_order, dropped=1).replace(b',"dropped":1}', b"}")


def test_a_login_needs_no_look_at_each_value(monkeypatch):
    monkeypatch.setattr(trail_entry, "safe", None)
    fields = {"time": 5, "kind": Kind.LOGIN, "outcome": Outcome.DONE, "device": "lamp-1", "topic": None}
    assert entry_line(7, fields) == b'{"seq":7,"time":5,"kind":"login","outcome":"done","device":"lamp-1"}'


def test_no_name_is_that_of_a_secret():
    assert not [name for name in NAMES if is_secret_name(name)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"reason": b"a payload"}, {"reason": "<9 bytes>"}),
        ({"reason": {"password": "x"}}, {"reason": {"password": "********"}}),
        ({"reason": OSError("no disk")}, {"reason": "no disk"}),
        ({"password": "x"}, {"password": "********"}),
        ({"reason": "see https://user:pass@host/"}, {"reason": "see https://********@host/"}),
        ({"reason": "a" * (VALUE_LENGTH + 1)}, {"reason": f"{'a' * VALUE_LENGTH}... (1025 characters)"}),
        ({"reason": "\ud800"}, {"reason": "\\ud800"}),
    ],
)
def test_what_is_strange_is_looked_at(fields, said):
    assert json.loads(entry_line(1, fields)) == {"seq": 1, **said}
