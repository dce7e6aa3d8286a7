"""What a CONNECT settles, and what of it is changed for the bus. Its whole way is in tests/playbooks."""

from __future__ import annotations

import dataclasses

import pytest
from harness import raw
from harness.playbook import LAMP, context
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.connection.authorizer import Authorizer
from gateway.connection.connect import (
    ConnectRefused,
    bus_connect,
    check_connect,
    identity_of,
    refusal_of_bus,
    terms_of,
)
from gateway.connection.refusal_report_limit import Reports
from gateway.mqtt.data_types import read_length
from gateway.mqtt.decode import decode_connect
from gateway.mqtt.packets import Version
from gateway.mqtt.reason_codes import Reason, ReturnCode

CLIENT_ID = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=10)
"""Others are no text [MQTT-1.5.4-1], and refused where the CONNECT is read."""
DEVICE_ID = st.from_regex(r"[a-z][a-z._-]{0,5}", fullmatch=True)
V311, V5 = Version.V311, Version.V5


def decoded(packet):
    return decode_connect(packet, read_length(packet, 1, len(packet))[1], len(packet))


def for_the_bus(connect, device=LAMP):
    world = context()
    terms = terms_of(connect, world)
    authorizer = Authorizer(world, identity_of(device, None, connect.client_id.decode()), Reports())
    return bus_connect(connect, terms, authorizer, world)[0]


@given(DEVICE_ID, CLIENT_ID, DEVICE_ID, CLIENT_ID)
def test_no_two_devices_share_a_client_id_on_the_bus(device, client, other_device, other_client):
    # CVE-2026-6564: "a" with "b/c", "a/b" with "c".
    assume((device, client) != (other_device, other_client))
    ids = [
        for_the_bus(decoded(raw.connect(one)), dataclasses.replace(LAMP, device_id=name)).client_id
        for name, one in ((device, client), (other_device, other_client))
    ]
    assert ids[0] != ids[1]
    assert ids[0] == f"{device}/{client}".encode()


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc", "Cn"]), max_size=8), st.binary(max_size=8))
def test_nothing_the_device_knows_opens_the_bus(username, password):
    packet = raw.connect("c", v5=True, username=username, password=password)
    found = for_the_bus(decoded(packet))
    assert (found.username, found.password) == (b"gate", b"way")


def test_what_a_connect_settles():
    world = context()
    terms = terms_of(decoded(raw.connect("c", keep_alive=7)), world)
    assert (terms.version, terms.keep_alive, terms.explain, terms.assigned) == (V311, 7, True, None)
    terms = terms_of(decoded(raw.connect("", v5=True, props=b"\x27\0\0\0\x40\x17\0")), world)
    assert (terms.version, terms.device_max_size, terms.explain, terms.assigned) == (V5, 64, False, b"auto-1")


@pytest.mark.parametrize("size", [1, 40, 130])
def test_a_reason_is_given_where_there_is_room_for_it(size):
    props = b"\x27" + (13 + size).to_bytes(4, "big")
    terms = terms_of(decoded(raw.connect("c", v5=True, props=props)), context())
    assert terms.explanation("x" * size) == "x" * size
    assert terms.explanation("x" * (size + 1)) == ""
    assert terms.explanation("ü" * size) == ""


def test_who_wants_no_reasons_gets_none():
    terms = terms_of(decoded(raw.connect("c", v5=True, props=b"\x17\0")), context())
    assert terms.explanation("why") == ""


@pytest.mark.parametrize("code", range(1, 256))
@pytest.mark.parametrize("version", Version)
def test_a_refusal_of_the_bus_never_blames_the_device_for_our_credentials(version, code):
    told, why = refusal_of_bus(code, version)
    assert told
    assert why
    ours = {Reason.NOT_AUTHORIZED, Reason.BAD_USER_NAME_OR_PASSWORD, Reason.BAD_AUTHENTICATION_METHOD}
    if version is V311:
        ours = {ReturnCode.NOT_AUTHORIZED, ReturnCode.BAD_USER_NAME_OR_PASSWORD}
    assert told not in ours
    if code in ours:
        assert told == (Reason.SERVER_UNAVAILABLE if version is V5 else ReturnCode.SERVER_UNAVAILABLE)
        assert "MQTT_PASSWORD" in why


def test_what_is_refused_whoever_it_is():
    check_connect(decoded(raw.connect("c", clean=False)), context())
    for packet, world, reason in (
        (raw.connect("c", v5=True), context(bus_speaks_v5=False), Reason.UNSUPPORTED_PROTOCOL_VERSION),
        (raw.connect("c", v5=True, props=b"\x15\0\1x"), context(), Reason.BAD_AUTHENTICATION_METHOD),
    ):
        with pytest.raises(ConnectRefused) as caught:
            check_connect(decoded(packet), world)
        assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("said", "passed_on"), [(65_535, 1_024), (1_025, 1_024), (1_024, 1_024), (20, 20), (0, 0)]
)
def test_the_bus_sends_no_more_at_once_than_the_gateway_holds(said, passed_on):
    """Receive Maximum: `in_flight` at most. What else stands beside it stays, in its order."""
    before, after = b"\x11\0\0\0\x05", b"\x26" + raw.text("k") + raw.text("v")
    packet = raw.connect("c", v5=True, props=before + receive_maximum(said) + after)
    found = for_the_bus(decoded(packet))
    assert b"".join(one.raw for one in found.properties) == before + receive_maximum(passed_on) + after


def receive_maximum(value):
    return b"\x21" + value.to_bytes(2, "big") if value else b""
