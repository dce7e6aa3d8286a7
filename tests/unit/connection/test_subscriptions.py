"""Whatever is asked and whatever the bus grants: each filter's answer stands in its place."""

from __future__ import annotations

import pytest
from harness import raw, reference_parser
from harness.playbook import LAMP, context, policy, suback
from hypothesis import given
from hypothesis import strategies as st

from gateway.connection.authorizer import Authorizer
from gateway.connection.bus_holdings import Holder
from gateway.connection.refusal_report_limit import Reports
from gateway.connection.subscriptions import Subscriptions
from gateway.connection.work_budgets import Budget, Work
from gateway.mqtt.data_types import read_length
from gateway.mqtt.errors import MqttError
from gateway.mqtt.packets import Version
from gateway.policy.engine.connection_limits import Limits
from gateway.policy.engine.identity import Identity

FINE, LOW, DENIED = (
    ("ok/a", "ok/+/b", "$share/g/ok/#"),
    ("low/a", "low/#"),
    ("other", "#", "$share/g/#", "ok/no/a"),
)
ASKED = st.lists(
    st.tuples(st.sampled_from([*FINE, *LOW, *DENIED]), st.integers(0, 2)), min_size=1, max_size=8
)


def subscriptions(version, **limits):
    world = context(policy(**limits))
    identity = Identity(LAMP.device_id, LAMP.roles, LAMP.labels, "c")
    holder, budget = Holder(world.holdings, LAMP.device_id), Budget(Limits(), Work())
    return Subscriptions(world, version, Reports(), holder, budget), Authorizer(world, identity, Reports())


def body_of(packet):
    return read_length(packet, 1, len(packet))[1]


@given(ASKED, st.booleans(), st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=8, max_size=8))
def test_the_answer_of_the_bus_and_ours_are_put_together(asked, v5, granted):
    held, access = subscriptions(Version.V5 if v5 else Version.V311)
    packet = raw.subscribe(7, *asked, v5=v5)
    answers: list[bytes] = []
    passed = held.subscribe(packet, body_of(packet), len(packet), access, answers)
    kept = [(name, min(qos, 1) if name in LOW else qos) for name, qos in asked if name not in DENIED]
    no = 0x87 if v5 else 0x80
    if not kept:
        assert passed == b""
        assert answers == [suback(7, *[no] * len(asked), v5=v5)]
        return
    assert answers == []
    assert (packet if passed is None else passed) == raw.subscribe(7, *kept, v5=v5)
    of_bus = iter(granted)
    answer = suback(7, *granted[: len(kept)], v5=v5)
    merged = held.suback(answer, body_of(answer), len(answer))
    (seen,) = reference_parser.Peer(v5=v5).feed(answer if merged is None else merged)
    codes = seen.body[3 if v5 else 2 :]
    assert list(codes) == [no if name in DENIED else next(of_bus) for name, _ in asked]
    with pytest.raises(MqttError):
        held.suback(answer, body_of(answer), len(answer))


@given(st.lists(st.sampled_from(["ok/a", "ok/b", "ok/c", "ok/d"]), max_size=12))
def test_no_more_filters_than_allowed_are_held(names):
    held, access = subscriptions(Version.V311, subscriptions=2)
    model: set[str] = set()
    for name in names:
        packet = raw.subscribe(1, (name, 0))
        answers: list[bytes] = []
        held.subscribe(packet, body_of(packet), len(packet), access, answers)
        refused = bool(answers)
        assert refused == (name not in model and len(model) == 2)
        if not refused:
            model.add(name)
        elif name == "ok/d":
            gone = raw.unsubscribe(2, *model)
            assert held.unsubscribe(gone, body_of(gone), len(gone), access, answers) is None
            model.clear()
