"""Who was refused lately: alike is one, bounded, and nobody pushes out another's."""

from __future__ import annotations

import time

import pytest

from gateway.connection.audit_vocabulary import Kind, Outcome, Source
from gateway.observe import recent_refusals
from gateway.observe.audit_event import AuditEvent
from gateway.observe.recent_refusals import RefusedClients

NOW = 1_764_000_000_000


def refusal(number: int = 0, **fields: object) -> AuditEvent:
    words = {
        "time": NOW + number * 1_000,
        "kind": Kind.LOGIN,
        "outcome": Outcome.REFUSED,
        "reason": "wrong secret",
        "device": "lamp-1",
        "address": "192.0.2.1:5555",
        "source": Source.STRANGER,
    }
    return AuditEvent(**words | fields)


@pytest.fixture
def clients() -> RefusedClients:
    return RefusedClients(lambda: NOW + 1_000_000)


def test_what_is_alike_is_one_entry(clients):
    clients(refusal(1))
    clients(refusal(2, address="192.0.2.1:6666", topic="t", id="abc", action="publish", rule="r:1"))
    (one,) = clients.latest()
    assert (one.device_id, one.host, one.kind, one.reason) == ("lamp-1", "192.0.2.1", "login", "wrong secret")
    assert (one.count, one.first_at, one.last_at) == (2, NOW // 1_000 + 1, NOW // 1_000 + 2)
    assert (one.topic, one.refusal_id, one.action, one.rule) == ("t", "abc", "publish", "r:1")


@pytest.mark.parametrize(
    "fields",
    [
        {"device": "lamp-2"},
        {"address": "192.0.2.2:5555"},
        {"kind": Kind.SESSION},
        {"reason": "unknown device"},
    ],
)
def test_what_differs_is_another_entry(clients, fields):
    clients(refusal())
    clients(refusal(**fields))
    assert len(clients.latest()) == 2


def test_the_newest_stands_first_though_they_came_in_one_second(clients):
    for device in ("lamp-1", "lamp-2", "lamp-3", "lamp-2"):
        clients(refusal(device=device))
    assert [one.device_id for one in clients.latest()] == ["lamp-2", "lamp-3", "lamp-1"]


@pytest.mark.parametrize("fields", [{"outcome": Outcome.DONE}, {"source": Source.HOUSE}])
def test_what_is_no_refusal_of_a_client_is_none(clients, fields):
    clients(refusal(**fields))
    assert clients.latest() == []


def test_the_newest_come_first_and_end_after_three_days(clients):
    for number in (1, 3, 2):
        clients(refusal(number, reason=str(number)))
    clients(refusal(-3 * 86_400, reason="old"))
    assert [one.reason for one in clients.latest()] == ["3", "2", "1"]


def test_a_crowd_of_strangers_pushes_out_no_device_and_no_other_network(clients):
    clients(refusal(0, source=Source.DEVICE, reason="proven"))
    clients(refusal(1, address="198.51.100.1:1", reason="elsewhere"))
    for number in range(3 * recent_refusals.OF_ALL):
        clients(refusal(2, reason=f"{number}"))
    reasons = {one.reason for one in clients.latest()}
    assert {"proven", "elsewhere"} <= reasons
    assert len(reasons) == recent_refusals.OF_A_PLACE + 2


def test_a_device_has_its_own_places(clients):
    clients(refusal(0, source=Source.DEVICE, device="lamp-2", reason="kept"))
    for number in range(1_000):
        clients(refusal(1, source=Source.DEVICE, reason=f"{number}"))
    reasons = [one.reason for one in clients.latest()]
    assert len(reasons) == recent_refusals.OF_A_DEVICE + 1
    assert "kept" in reasons


def test_all_together_are_bounded(clients):
    for number in range(recent_refusals.OF_ALL + 500):
        clients(refusal(number, address=f"10.{number >> 8}.{number & 255}.1:1"))
    kept = clients.latest()
    assert len(kept) == recent_refusals.OF_ALL
    assert kept[-1].last_at == NOW // 1_000 + 500


def test_words_of_a_peer_are_cut(clients):
    clients(refusal(reason="r" * 1_000, topic="t" * 1_000))
    (one,) = clients.latest()
    assert len(one.reason) == 300
    assert len(one.topic) == 256


def test_one_that_is_told_no_more_is_counted(clients):
    clients(refusal(device=None, reason="TLS"))
    clients.again("", "192.0.2.1", "TLS")
    clients.again("", "192.0.2.9", "TLS")
    (one,) = clients.latest()
    assert (one.count, one.last_at) == (2, NOW // 1_000 + 1_000)


def test_what_is_saved_is_gone_on_from(clients):
    clients(refusal(1))
    clients(refusal(2, reason="other"))
    saved = clients.take_unsaved(1)
    assert [one.reason for one in saved] == ["wrong secret"]
    clients.put_back(saved)
    saved = clients.take_unsaved(10)
    assert {one.reason for one in saved} == {"wrong secret", "other"}
    assert clients.take_unsaved(10) == []
    after = RefusedClients(lambda: NOW)
    after.load(saved)
    after(refusal(3))
    assert {one.reason: one.count for one in after.latest()} == {"wrong secret": 2, "other": 1}
    assert [one.reason for one in after.take_unsaved(10)] == ["wrong secret"]


def seconds_to_take_all(count: int) -> float:
    here = RefusedClients(lambda: NOW)
    for number in range(count):
        here(
            refusal(
                device=f"lamp-{number}", address=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:1"
            )
        )
    began = time.process_time()
    while here.take_unsaved(100):
        pass
    return time.process_time() - began


def test_ten_times_as_many_take_ten_times_as_long_to_be_taken_and_not_a_hundred_times():
    few = max(min(seconds_to_take_all(10_000) for _ in range(3)), 0.001)
    assert seconds_to_take_all(100_000) < 40 * few
