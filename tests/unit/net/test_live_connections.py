"""The register of live connections, without the connections."""

from __future__ import annotations

from types import SimpleNamespace

from gateway.mqtt.reason_codes import Reason
from gateway.net.live_connections import ConnectionRegistry
from gateway.policy.engine.identity import Grant, Identity
from gateway.policy.engine.limits import Limits

LAMP = "lamp-1"


def registry(connections=1_000, per_device=1_000, **more):
    limits = Limits(connections=connections, connections_per_device=per_device)
    return ConnectionRegistry(lambda: limits, **more)


def admissions(one, count):
    """Two devices that connect by turns: the reasons against them."""
    found = [one.admit(object(), f"lamp-{number % 2}") for number in range(count)]
    return [no_room and no_room.reason for no_room in found]


def test_a_device_that_connects_too_often_has_to_wait_and_no_other():
    budget = {"lamp-0": 2, "lamp-1": 100}

    def may_connect(device_id, _limits):
        budget[device_id] -= 1
        return budget[device_id] >= 0

    found = admissions(registry(may_connect=may_connect), 20)
    assert found[1::2] == [None] * 10, "the other one is not concerned"
    assert found[::2] == [None] * 2 + [Reason.CONNECTION_RATE_EXCEEDED] * 8


def test_no_more_are_let_in_than_there_are_file_descriptors_for():
    full = registry(room=4)
    assert admissions(full, 6) == [None] * 4 + [Reason.QUOTA_EXCEEDED] * 2
    assert "ulimit -n" in full.admit(object(), LAMP).why, (
        "limits.toml allows more, and is not what has to change"
    )


def test_who_leaves_makes_room_for_its_device_and_for_all():
    one = registry(connections=2, per_device=2)
    live = [object() for _ in range(3)]
    assert [one.admit(each, LAMP) is None for each in live] == [True, True, False]
    one.forget(live[2])
    assert one.admit(live[2], LAMP).reason is Reason.QUOTA_EXCEEDED, "it was never let in"
    one.forget(live[0])
    one.forget(live[0])
    assert [one.admit(each, LAMP) is None for each in (live[2], live[0])] == [True, False]
    assert one.admitted() == [live[1], live[2]]
    assert set(one.of_device(LAMP)) == {live[1], live[2]}
    for each in live:
        one.forget(each)
    assert (one.admitted(), one.of_device(LAMP), one._by_device) == ([], (), {})


class Link:
    """A connection of this client, as far as the register looks at it."""

    def __init__(self, client_id, narrowed=""):
        grant = Grant("t", "t", 0, 0, 1, {}, narrowed_digest=narrowed) if narrowed else None
        self.connection = SimpleNamespace(identity=Identity(LAMP, (), {}, client_id, grant))


def test_a_client_came_again_that_has_its_client_id_and_came_later():
    one = registry()
    first, other, narrow, again = (Link(*what) for what in (("a",), ("b",), ("a", "n"), ("a",)))
    for each in (first, other, narrow):
        assert one.admit(each, LAMP) is None
        assert not one.is_taken_over(first), "another id on the bus"
    assert one.admit(again, LAMP) is None
    assert [one.is_taken_over(each) for each in (first, other, narrow, again)] == [True, False, False, False]
    one.forget(again)
    assert not one.is_taken_over(first)


def test_a_lowered_limit_leaves_places_to_those_that_came_first():
    most = {"lamp-1": 3, "lamp-2": 3}
    one = ConnectionRegistry(
        Limits, limits_of=lambda device_id: Limits(connections_per_device=most[device_id])
    )
    live = [object() for _ in range(4)]
    assert [one.admit(each, LAMP) is None for each in live] == [True, True, True, False]
    assert one.admit(live[3], "lamp-2") is None
    assert [one.surplus(each, LAMP) for each in live[:3]] == ["", "", ""]
    most["lamp-1"] = 1
    assert [bool(one.surplus(each, LAMP)) for each in live[:3]] == [False, True, True]
    assert "connections_per_device = 1, acl/limits.toml" in one.surplus(live[2], LAMP)
    assert one.surplus(live[3], "lamp-2") == ""
