"""The request handler: where its answers go, that there is always one, and what a caller can't have."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from harness.request_handler import NOW, Counter
from hypothesis import given
from hypothesis import strategies as st

from gateway.connection.commands import Call
from gateway.policy.engine.service_names import Service
from gateway.services import request_handler as desk_module
from gateway.services.refusal import Code
from gateway.services.repeated_requests import SeenRequests
from gateway.services.request import ECHOED_MAX, GeneralRequest

services = pytest.mark.parametrize("service", [*Service])


# Where answers go


@services
def test_answers_go_where_they_are_asked_to(counter, service):
    default = counter.raw(service, b"{}")
    assert default.topic == f"gateway/{service}_response"
    body = b'{"reply_to":"gateway/reply/svc/x"}'
    assert counter.raw(service, body).topic == "gateway/reply/svc/x"
    # The property of MQTT 5 comes first.
    other = counter.raw(service, body, response_topic="open/answers", correlation=b"\0\xff")
    assert (other.topic, other.correlation) == ("open/answers", b"\0\xff")


FOREIGN = {
    "another's reply topic": "gateway/reply/other/x",
    "a request topic": "gateway/encrypt",
    "a sensitive topic": "private/x",
    "a denied topic": "closed/x",
    "below the prefix": "gateway/x",
    "the prefix": "gateway",
    "a wildcard": "open/+",
    "the whole of a reply space": "gateway/reply/svc/#",
    "empty": "",
    "NUL": "open/\0",
    "too long": "x" * 65_536,
    "too deep": "open" + "/x" * 201,
    "the bus's own": "$SYS/x",
    "a shared subscription": "$share/g/open",
}


@pytest.mark.parametrize("topic", FOREIGN.values(), ids=FOREIGN.keys())
def test_answers_go_nowhere_else(counter, topic):
    body = json.dumps({"reply_to": topic, "message": 1, "topic": "a/b", "request_id": "r"}).encode()
    by_property = counter.raw(
        "encrypt", b'{"message":1,"topic":"a/b","request_id":"r"}', response_topic=topic
    )
    for answer in (counter.raw("encrypt", body), by_property):
        assert answer.topic == "gateway/encrypt_response"
        fields = json.loads(answer.payload)
        assert (fields["error"], fields["request_id"]) == ("reply_not_allowed", "r")
        assert answer.report.outcome == "refused"
        assert len(answer.report.topic) < 65_536
    # Asked again, it is refused again.
    assert json.loads(counter.raw("encrypt", body).payload)["error"] == "reply_not_allowed"


def test_an_answer_is_never_the_next_request_whatever_the_policy_says(counter):
    answer = counter.raw("encrypt", b"{}", response_topic="gateway/decrypt")
    assert "the next request" in answer.report.reason


def test_no_limit_of_ours_lets_a_topic_through_for_which_mosquitto_hangs_up():
    counter = Counter(topic_levels=1_000)
    topic = "open" + "/x" * 201
    answer = counter.raw("encrypt", b'{"message":1,"topic":"a"}', response_topic=topic)
    assert json.loads(answer.payload)["error"] == "reply_not_allowed"
    assert counter.raw("encrypt", b"{}", response_topic="open" + "/x" * 200).topic.startswith("open")


def test_a_reply_topic_is_judged_for_its_caller(counter):
    body = b'{"reply_to":"open/x"}'
    assert counter.raw("validate", body).topic == "open/x"
    assert json.loads(counter.raw("validate", body, who="other").payload)["error"] == "reply_not_allowed"


# Always an answer


@given(
    st.sampled_from([*Service]),
    st.binary(max_size=100) | st.dictionaries(st.text(max_size=9), st.text(max_size=9)).map(json.dumps),
    st.none() | st.text(max_size=9),
    st.none() | st.binary(max_size=9),
)
def test_any_bytes_are_answered(service, payload, response_topic, correlation):
    counter = Counter()
    payload = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
    answer = counter.raw(service, payload, response_topic=response_topic, correlation=correlation)
    fields = json.loads(answer.payload)
    assert fields.get("payload", fields)
    assert answer.correlation == correlation


WRONG = ("{", '{"message":' + "[" * 50_000, '{"topic":"\xff"}', "[]", '{"request_id":{}}', '{"payload":1}')


@services
@pytest.mark.parametrize("payload", WRONG, ids=range(len(WRONG)))
def test_what_is_no_request_is_answered_where_it_may_be(counter, service, payload):
    answer = counter.raw(service, payload.encode("latin-1"), response_topic="open/x")
    fields = json.loads(answer.payload)
    fields = fields.get("payload", fields)
    assert fields["error"] == "invalid_request"
    assert fields["valid" if service is Service.VALIDATE else "success"] is False
    assert (answer.topic, answer.report.outcome) == ("open/x", "failed")
    refused = counter.raw(service, payload.encode("latin-1"), response_topic="closed/x")
    assert refused.topic == f"gateway/{service}_response"


def test_no_answer_or_report_quotes_what_was_sent(counter):
    planted = "planted-word"
    token = counter.token()
    for fields in (
        {"message": planted, "topic": "a/+"},
        {"data": planted, "topic": "a"},
        {"message": {"encrypted": True, "data": planted}},
        {"token": planted, "message": {"token": planted}},
        {"token": token[:-1], "credentials": {"secret": planted}, "device_id": "svc"},
        {"request_id": [planted]},
        {"reply_to": planted + "/+", "message": planted},
    ):
        for service in Service:
            answer = counter.raw(service, json.dumps(fields).encode())
            report = "" if answer.report is None or "reply_to" in fields else repr(answer.report)
            if service is not Service.ENCRYPT or "error" in json.loads(answer.payload):
                assert planted not in answer.payload.decode() + report
                assert token[:-1] not in answer.payload.decode() + report


# Bounds


def test_a_caller_over_its_rate_is_refused_and_nobody_else():
    counter = Counter(service_requests_per_second=5)
    errors = [counter.ask("encrypt", message=1, topic="a", request_id=n).get("error") for n in range(8)]
    assert errors == [None] * 5 + ["rate_limited"] * 3
    assert counter.ask("encrypt", who="other", message=1, topic="corner/other/x").get("error") is None
    counter.now += 1_000
    assert counter.ask("encrypt", message=1, topic="a").get("error") is None


def test_another_connection_of_the_device_is_the_same_caller():
    counter = Counter(service_requests_per_second=2)
    one, two = counter.identity("svc"), replace(counter.identity("svc"), client_id="another")
    call = Call(Service.ENCRYPT, b'{"message":1,"topic":"a"}')
    errors = [
        json.loads(counter.request_handler.answer(call, who).payload).get("error") for who in (one, two, one)
    ]
    assert errors == [None, None, "rate_limited"]


def test_what_is_remembered_of_callers_is_bounded(monkeypatch):
    monkeypatch.setattr(desk_module, "_CALLERS_MAX", 3)
    monkeypatch.setattr(desk_module, "_TOPICS_MAX", 4)
    counter = Counter()
    for number in range(9):
        identity = replace(counter.identity("svc"), client_id=f"client {number}")
        for topic in [f"t/{index}" for index in range(9)] + ["x" * 300]:
            call = Call(Service.ENCRYPT, json.dumps({"message": 1, "topic": topic}).encode(), f"{topic}/r")
            assert "error" not in json.loads(counter.request_handler.answer(call, identity).payload)
    callers = counter.request_handler._callers.values()
    assert len(callers) == 3
    for caller in callers:
        assert len(caller.sealers) <= 4
        assert len(caller.reply_faults) <= 4
        assert all(len(topic) <= 256 for topic in (*caller.sealers, *caller.reply_faults))


def test_a_request_of_a_token_is_answered_once_where_it_can_be_replayed(counter):
    seen_requests = SeenRequests(counter.context.now)

    def error(**fields):
        call = Call(Service.ENCRYPT, json.dumps({"message": 1, "topic": "a"} | fields).encode())
        request = GeneralRequest(call.payload)
        answer = counter.request_handler.answer_request(
            call, request, counter.identity("svc"), seen_requests=seen_requests
        )
        return json.loads(answer.payload).get("error")

    assert error(token="t", request_id="r") is None
    assert error(token="t", request_id="r", message=2) == "replayed"
    assert error(token="u", request_id="r") is None
    assert error(token="t", request_id="s") is None
    # Without an id there is nothing to tell one from another by.
    assert (error(token="t"), error(token="t"), error(request_id="r"), error(request_id="r")) == (None,) * 4
    counter.now += 121_000
    assert error(token="t", request_id="r") is None


def test_what_is_asked_is_counted(counter):
    counter.ask("encrypt", message=1, topic="a")
    counter.ask("encrypt", message=1, topic="closed/x")
    counters = counter.context.counters
    assert counters.service_requests == {Service.ENCRYPT: 2}
    assert counters.service_refusals == {(Service.ENCRYPT, Code.NOT_AUTHORIZED): 1}


def test_a_request_id_that_is_too_long_is_told(counter):
    answer = counter.ask("validate", request_id="x" * ECHOED_MAX)
    assert answer == {
        "valid": False,
        "error": "invalid_request",
        "message": '"request_id" has to be text or a number of at most 1,024 bytes.',
        "timestamp": NOW,
    }
