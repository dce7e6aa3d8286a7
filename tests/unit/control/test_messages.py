"""Requests on the control socket as they are written and read."""

from __future__ import annotations

import json

import pytest

from gateway.control.messages import BadRequest, Request, read_request, request_line


def test_a_request_is_read_as_it_was_written():
    request = Request("kick", {"device_id": "lamp-1"}, "alice")
    assert read_request(request_line(request)) == request


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "no line of JSON"),
        (b"{", "no line of JSON"),
        (b"[1]\n", "no JSON object"),
        (b"{}\n", "version 1"),
        (b'{"v": 2, "command": "poke"}\n', "version 1"),
        (b'{"v": 1}\n', "no command"),
        (b'{"v": 1, "command": 7}\n', "no command"),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(line, said):
    with pytest.raises(BadRequest, match=said):
        read_request(line)


def test_arguments_that_are_none_are_no_arguments():
    line = json.dumps({"v": 1, "command": "poke", "arguments": 7, "sudo_user": 7}).encode()
    assert read_request(line) == Request("poke")


@pytest.mark.parametrize("value", [None, "", 7, ["lamp-1"]])
def test_a_text_that_is_none_is_named(value):
    with pytest.raises(BadRequest, match="kick needs device_id, a text"):
        Request("kick", {"device_id": value}).text("device_id")


@pytest.mark.parametrize("value", [None, "7", -1, True, 1.5])
def test_a_number_that_is_none_is_named(value):
    with pytest.raises(BadRequest, match="trace needs seconds, a number"):
        Request("trace", {"seconds": value}).number("seconds")
