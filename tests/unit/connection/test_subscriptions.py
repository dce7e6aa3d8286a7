"""Whatever is asked and whatever the bus grants: each filter's answer stands in its place."""

from __future__ import annotations

import pytest
from harness import raw, reference_parser
from harness.playbook import LAMP, context, policy, suback
from hypothesis import given
from hypothesis import strategies as st

from gateway.connection import subscriptions as module
from gateway.connection.authorizer import Authorizer
from gateway.connection.bus_holdings import ConnectionHoldings
from gateway.connection.device_budgets import Budget, ProcessWork
from gateway.connection.one_way_relay import UNFINISHED
from gateway.connection.refusal_report_limit import Reports
from gateway.connection.subscriptions import Subscriptions
from gateway.mqtt.data_types import read_length
from gateway.mqtt.errors import LimitExceeded, MqttError
from gateway.mqtt.packets import Version
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.limits import Limits

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
    holdings, budget = ConnectionHoldings(world.holdings, LAMP.device_id), Budget(Limits(), ProcessWork())
    return Subscriptions(world, version, Reports(), holdings, budget), Authorizer(world, identity, Reports())


def body_of(packet):
    return read_length(packet, 1, len(packet))[1]


def subscribe(held, packet, access, answers):
    """All of it, in as many slices as it takes."""
    while (passed := held.subscribe(packet, body_of(packet), len(packet), access, answers)) is UNFINISHED:
        pass
    return passed


@given(
    ASKED,
    st.booleans(),
    st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=8, max_size=8),
    st.sampled_from([1, 25, module.SLICE_EFFORT]),
)
def test_the_answer_of_the_bus_and_ours_are_put_together(asked, v5, granted, a_slice):
    held, access = subscriptions(Version.V5 if v5 else Version.V311)
    packet = raw.subscribe(7, *asked, v5=v5)
    answers: list[bytes] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "SLICE_EFFORT", a_slice)
        passed = subscribe(held, packet, access, answers)
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


OWN = "gateway/encrypt_response"


def mixed(packet_id, filters):
    """As many filters, the last of which the bus has to answer."""
    return raw.subscribe(packet_id, *[(OWN, 0)] * (filters - 1), ("ok/a", 0), v5=True)


def test_what_waits_for_the_bus_is_bounded_by_its_filters_and_not_by_its_packets():
    """No SUBACK comes to a device that reads nothing: a thousand packets of 4,096 codes took 32 MiB."""
    held, access = subscriptions(Version.V5, in_flight=1_024)

    def ask(packet):
        if packet[0] >> 4 == 8:
            return subscribe(held, packet, access, [])
        return held.unsubscribe(packet, body_of(packet), len(packet), access, [])

    for packet_id in range(1, 17):
        assert ask(mixed(packet_id, 4_000))
    with pytest.raises(LimitExceeded, match="too many topic filters in unanswered"):
        ask(mixed(17, 4_000))
    with pytest.raises(LimitExceeded, match="too many topic filters in unanswered"):
        ask(raw.unsubscribe(18, *[OWN] * 3_999, "ok/a", v5=True))
    # Each answer makes room again.
    for packet_id in (1, 2):
        answer = suback(packet_id, 0, v5=True)
        assert held.suback(answer, body_of(answer), len(answer)) == suback(packet_id, *[0] * 4_000, v5=True)
    assert ask(raw.unsubscribe(18, *[OWN] * 3_999, "ok/a", v5=True))
    assert ask(mixed(19, 4_000))


def test_where_the_bus_gives_all_codes_packets_are_counted():
    held, access = subscriptions(Version.V5, in_flight=3)
    packet = raw.subscribe(1, ("ok/a", 0), v5=True)
    for _ in range(3):
        assert held.subscribe(packet, body_of(packet), len(packet), access, []) is None
    with pytest.raises(LimitExceeded, match="too many unanswered"):
        held.subscribe(packet, body_of(packet), len(packet), access, [])
