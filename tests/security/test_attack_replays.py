"""A request that somebody heard on the bus, sent again so that it looks like another one."""

from __future__ import annotations

import json

import pytest
from harness.request_handler import Counter

from gateway.connection.commands import Call
from gateway.policy.engine.service_names import Service
from gateway.services.repeated_requests import SeenRequests
from gateway.services.request import GeneralRequest


@pytest.mark.parametrize("spellings", [('"a1"', '"\\u00611"', '"a\\u0031"'), ("1", "1.0", "1e0", "10e-1")])
def test_a_request_whose_id_is_spelt_otherwise(spellings):
    counter = Counter()
    seen_requests, token = SeenRequests(counter.context.now), counter.token()
    errors = []
    for spelling in spellings:
        body = f'{{"token":"{token}","topic":"corner/x","message":1,"request_id":{spelling}}}'.encode()
        call, request = Call(Service.ENCRYPT, body), GeneralRequest(body)
        answer = counter.request_handler.answer_request(
            call, request, counter.identity("svc"), seen_requests=seen_requests
        )
        errors.append(json.loads(answer.payload).get("error"))
    assert errors == [None] + ["replayed"] * (len(spellings) - 1)
