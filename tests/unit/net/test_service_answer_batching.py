"""The answers of services to what came in one chunk are written at once, and in order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from harness import raw
from harness.playbook import established

from gateway.connection.audit_vocabulary import failed_service
from gateway.connection.commands import Call, Close, SendToDevice
from gateway.connection.events import Answer
from gateway.net.service_answer_batching import answer_calls
from gateway.policy.engine.service_names import Service

TOPIC = "gateway/encrypt_response"


@pytest.fixture
def link():
    """A connection, and services that answer what they are asked."""
    asked = []

    def services(call, identity):
        asked.append(call.payload)
        report = failed_service("why", call.service, "", "") if call.payload == b"bad" else None
        return Answer(TOPIC, call.payload, report=report)

    return SimpleNamespace(
        plane=SimpleNamespace(services=services), connection=established().connection, asked=asked
    )


def calls(*payloads):
    return [Call(Service.ENCRYPT, payload) for payload in payloads]


def test_the_calls_of_a_chunk_are_answered_at_once(link):
    first, *rest = calls(b"1", b"bad", b"3")
    together, report = answer_calls(link, first, iter(rest))
    assert together == SendToDevice(b"".join(raw.publish(TOPIC, one) for one in (b"1", b"bad", b"3")))
    assert report.reason == "why"


def test_what_comes_after_the_calls_is_done_after_their_answers(link):
    first, second = calls(b"1", b"2")
    after = iter([second, Close("why"), *calls(b"3")])
    together, close = answer_calls(link, first, after)
    assert together == SendToDevice(raw.publish(TOPIC, b"1") + raw.publish(TOPIC, b"2"))
    assert close == Close("why")
    assert list(after) == calls(b"3")


def test_long_answers_are_not_gathered(link):
    first, *rest = calls(*(b"x" * 10_000 for _ in range(5)))
    after = iter(rest)
    (together,) = answer_calls(link, first, after)
    assert len(together.data) < 21_000
    assert len(link.asked) == 2
    assert len(list(after)) == 3


def test_nobody_is_answered_who_is_not_there(link):
    link.connection = SimpleNamespace(identity=None)
    first, *rest = calls(b"1", b"2")
    assert answer_calls(link, first, iter(rest)) == []
