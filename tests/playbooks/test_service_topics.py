"""Requests to the gateway's own services: they end in the gateway, and nothing of them reaches the bus."""

from __future__ import annotations

import dataclasses
from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import LAMP, READER, Ends, context, established, policy, refused, suback

from gateway.connection.audit_vocabulary import Report
from gateway.connection.commands import Call, SendToBus, SendToDevice
from gateway.connection.events import Answer, BusBytes, DeviceBytes, Tick
from gateway.connection.refusal_report_limit import PER_SECOND
from gateway.connection.service_calls import TOO_LARGE
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Policy
from gateway.policy.engine.service_names import Service

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
JSON = b"\x01\x01" + b"\x03" + raw.text("application/json")


def answer(topic, payload, props=b"", *, v5):
    return SendToDevice(raw.publish(topic, payload, v5=v5, props=JSON + props if v5 else b""))


@both
@pytest.mark.parametrize("service", list(Service))
def test_a_request_is_answered_on_this_connection_and_the_bus_hears_nothing(v5, service):
    assert (
        established(v5=v5)
        >> DeviceBytes(raw.publish(f"gateway/{service}", b'{"a": 1}', v5=v5))
        << Call(service, b'{"a": 1}')
        >> Answer(f"gateway/{service}_response", b'{"b": 2}')
        << answer(f"gateway/{service}_response", b'{"b": 2}', v5=v5)
    )


@both
def test_a_role_is_not_needed_and_a_deny_changes_nothing(v5):
    nobody = dataclasses.replace(LAMP, roles=())
    asked = raw.publish("gateway/encrypt", b"{}", v5=v5)
    assert established(v5=v5, device=nobody) >> DeviceBytes(asked) << Call(Service.ENCRYPT, b"{}")


@both
def test_requests_among_messages(v5):
    first, request, last = (
        raw.publish("ok", b"1", v5=v5),
        raw.publish("gateway/auth", v5=v5),
        raw.publish("ok", b"2", v5=v5),
    )
    assert (
        established(v5=v5)
        >> DeviceBytes(first + request + last + request)
        << SendToBus(first + last)
        << Call(Service.AUTH, b"")
        << Call(Service.AUTH, b"")
        # A request is none of the packets that pass by a look at their first bytes.
        >> DeviceBytes(request)
        << Call(Service.AUTH, b"")
    )


def test_response_topic_and_correlation_data():
    correlation = b"\x09" + raw.text(b"\x00\xff7")
    props = (
        b"\x08" + raw.text("gateway/reply/lamp-1/x") + correlation + b"\x26" + raw.text("a") + raw.text("b")
    )
    assert (
        established(v5=True)
        >> DeviceBytes(raw.publish("gateway/encrypt", b"{}", v5=True, props=props))
        << Call(Service.ENCRYPT, b"{}", "gateway/reply/lamp-1/x", b"\x00\xff7")
        >> Answer("gateway/reply/lamp-1/x", b"{}", b"\x00\xff7")
        << answer("gateway/reply/lamp-1/x", b"{}", correlation, v5=True)
    )


@pytest.mark.parametrize("topic", ["a/+", "#", "", "a\0b"])
def test_a_response_topic_that_is_none(topic):
    props = b"\x08" + raw.text(topic)
    book = established(v5=True)
    assert book >> DeviceBytes(raw.publish("gateway/encrypt", b"{}", v5=True, props=props)) << Ends()


# Acknowledgements are the gateway's


@both
def test_quality_of_service_1(v5):
    request = raw.publish("gateway/encrypt", b"{}", qos=1, packet_id=7, v5=v5)
    assert (
        established(v5=v5)
        >> DeviceBytes(request)
        << SendToDevice(raw.ack(0x40, 7))
        << Call(Service.ENCRYPT, b"{}")
    )


@both
def test_quality_of_service_2_is_asked_once(v5):
    request = raw.publish("gateway/encrypt", b"{}", qos=2, packet_id=7, v5=v5)
    again = raw.publish("gateway/encrypt", b"{}", qos=2, packet_id=7, dup=True, v5=v5)
    assert (
        established(v5=v5)
        >> DeviceBytes(request)
        << SendToDevice(raw.ack(0x50, 7))
        << Call(Service.ENCRYPT, b"{}")
        # [MQTT-4.3.3-10]: until the PUBREL it is the same message.
        >> DeviceBytes(again)
        << SendToDevice(raw.ack(0x50, 7))
        >> DeviceBytes(raw.ack(0x62, 7))
        << SendToDevice(raw.ack(0x70, 7))
        >> DeviceBytes(request)
        << SendToDevice(raw.ack(0x50, 7))
        << Call(Service.ENCRYPT, b"{}")
        >> DeviceBytes(raw.ack(0x62, 7))
        << SendToDevice(raw.ack(0x70, 7))
    )


@both
def test_acknowledgements_keep_their_order(v5):
    message = raw.publish("ok", b"1", qos=1, packet_id=1, v5=v5)
    request = raw.publish("gateway/encrypt", b"{}", qos=1, packet_id=2, v5=v5)
    assert (
        established(v5=v5)
        >> DeviceBytes(message + request)
        << SendToBus(message)
        << Call(Service.ENCRYPT, b"{}")
        >> BusBytes(raw.ack(0x40, 1))
        << SendToDevice(raw.ack(0x40, 1) + raw.ack(0x40, 2))
    )


@both
def test_the_packet_id_may_be_the_bus_s_the_next_time(v5):
    request = raw.publish("gateway/encrypt", b"{}", qos=2, packet_id=7, v5=v5)
    message = raw.publish("ok", b"1", qos=2, packet_id=7, v5=v5)
    assert (
        established(v5=v5)
        >> DeviceBytes(request + raw.ack(0x62, 7) + message)
        << SendToBus(message)
        << SendToDevice(raw.ack(0x50, 7) + raw.ack(0x70, 7))
        << Call(Service.ENCRYPT, b"{}")
        >> BusBytes(raw.ack(0x50, 7))
        << SendToDevice(raw.ack(0x50, 7))
        >> DeviceBytes(raw.ack(0x62, 7))
        << SendToBus(raw.ack(0x62, 7))
    )


def test_a_topic_alias_of_a_request():
    alias = b"\x23\x00\x01"
    named = raw.publish("gateway/encrypt", b"1", v5=True, props=alias)
    short = raw.publish("", b"2", v5=True, props=alias)
    assert (
        established(v5=True, connack_props=b"\x22\x00\x05")
        >> DeviceBytes(named + short)
        << Call(Service.ENCRYPT, b"1")
        << Call(Service.ENCRYPT, b"2")
    )


def test_not_even_where_every_topic_is_sensitive():
    world = context(Policy([], sensitive=["#"], limits=Limits(), reserved="gateway"))
    assert established(world) >> DeviceBytes(raw.publish("gateway/auth", b"x")) << Call(Service.AUTH, b"x")


@both
def test_a_retained_request_is_a_request(v5):
    request = raw.publish("gateway/encrypt", b"{}", retain=True, v5=v5)
    assert established(v5=v5) >> DeviceBytes(request) << Call(Service.ENCRYPT, b"{}")


# Subscriptions


@both
def test_subscribing_to_answers_is_settled_here(v5):
    filters = [("gateway/encrypt_response", 1), ("gateway/reply/lamp-1/#", 2)]
    assert (
        established(v5=v5)
        >> DeviceBytes(raw.subscribe(3, *filters, v5=v5))
        << SendToDevice(suback(3, 1, 2, v5=v5))
        >> DeviceBytes(raw.unsubscribe(4, "gateway/encrypt_response", v5=v5))
        << SendToDevice(raw.packet(0xB0, b"\x00\x04" + (b"\x00\x00" if v5 else b"")))
    )


@both
def test_what_is_for_the_bus_goes_there_without_the_rest(v5):
    filters = [("gateway/encrypt_response", 1), ("ok/a", 1), ("other", 0), ("gateway/reply/lamp-2/x", 0)]
    no = 0x87 if v5 else 0x80
    assert (
        established(v5=v5)
        >> DeviceBytes(raw.subscribe(3, *filters, v5=v5))
        << SendToBus(raw.subscribe(3, ("ok/a", 1), v5=v5))
        << refused("subscribe", "other", "subscribe")
        << refused("subscribe", "gateway/reply/lamp-2/x", "subscribe")
        >> BusBytes(suback(3, 1, v5=v5))
        << SendToDevice(suback(3, 1, 1, no, no, v5=v5))
    )
    gone = ["ok/a", "gateway/encrypt_response", "gateway/never", "ok/b"]
    from_bus = raw.packet(0xB0, b"\x00\x04" + (raw.properties() + b"\x00\x11" if v5 else b""))
    merged = raw.packet(0xB0, b"\x00\x04" + (raw.properties() + b"\x00\x00\x11\x11" if v5 else b""))
    assert (
        established(v5=v5)
        >> DeviceBytes(raw.subscribe(3, *filters[:1], v5=v5))
        << SendToDevice(suback(3, 1, v5=v5))
        >> DeviceBytes(raw.unsubscribe(4, *gone, v5=v5))
        << SendToBus(raw.unsubscribe(4, "ok/a", "ok/b", v5=v5))
        >> BusBytes(from_bus)
        << SendToDevice(merged)
    )


def test_an_unsubscribe_that_is_all_the_bus_s_passes_beside_one_that_is_not():
    mixed = raw.unsubscribe(1, "gateway/x", "ok/a", v5=True)
    plain = raw.unsubscribe(2, "ok/b", v5=True)
    assert (
        established(v5=True)
        >> DeviceBytes(mixed + plain)
        << SendToBus(raw.unsubscribe(1, "ok/a", v5=True) + plain)
        >> BusBytes(raw.packet(0xB0, b"\x00\x02\x00\x11"))
        << SendToDevice(raw.packet(0xB0, b"\x00\x02\x00\x11"))
        >> BusBytes(raw.packet(0xB0, b"\x00\x01\x00\x00"))
        << SendToDevice(raw.packet(0xB0, b"\x00\x01\x00\x11\x00"))
    )


def test_two_unsubscribes_with_one_packet_id_are_answered_in_order():
    plain = raw.unsubscribe(5, "ok/a", "ok/b", v5=True)
    mixed = raw.unsubscribe(5, "ok/c", "gateway/x", "ok/d", v5=True)
    answer_of_bus = raw.packet(0xB0, b"\x00\x05\x00\x00\x00")
    assert (
        established(v5=True)
        >> DeviceBytes(plain + mixed)
        << SendToBus(plain + raw.unsubscribe(5, "ok/c", "ok/d", v5=True))
        >> BusBytes(answer_of_bus)
        << SendToDevice(answer_of_bus)
        >> BusBytes(answer_of_bus)
        << SendToDevice(raw.packet(0xB0, b"\x00\x05\x00\x00\x11\x00"))
    )


def test_an_answer_carries_the_subscription_identifiers():
    # [MQTT-3.3.4-3]
    assert (
        established(v5=True)
        >> DeviceBytes(raw.subscribe(1, ("gateway/reply/lamp-1/#", 0), v5=True, props=b"\x0b\x07"))
        << SendToDevice(suback(1, 0, v5=True))
        >> DeviceBytes(raw.subscribe(2, ("gateway/reply/lamp-1/x", 0), v5=True, props=b"\x0b\x80\x01"))
        << SendToDevice(suback(2, 0, v5=True))
        >> DeviceBytes(raw.publish("gateway/auth", v5=True))
        << Call(Service.AUTH, b"")
        >> Answer("gateway/reply/lamp-1/x", b"{}")
        << answer("gateway/reply/lamp-1/x", b"{}", b"\x0b\x07\x0b\x80\x01", v5=True)
        >> Answer("gateway/auth_response", b"{}")
        << answer("gateway/auth_response", b"{}", v5=True)
    )


def test_own_subscriptions_count_like_others():
    world = context(policy(subscriptions=1))
    assert (
        established(world)
        >> DeviceBytes(raw.subscribe(1, ("gateway/encrypt_response", 0), ("gateway/auth_response", 0)))
        << SendToDevice(suback(1, 0, 0x80))
        << refused("subscribe", "gateway/auth_response", "subscribe")
    )


def test_what_stands_below_the_prefix_on_the_bus_is_not_delivered():
    for topic in ("gateway/encrypt_response", "gateway/reply/lamp-1/x", "gateway/encrypt", "gateway"):
        from_bus = raw.publish(topic, b"{}", qos=1, packet_id=9)
        assert (
            established(device=READER)
            >> BusBytes(from_bus)
            << SendToBus(raw.ack(0x40, 9))
            << refused("delivery", topic, "subscribe")
        )


# The end


def test_an_answer_longer_than_the_device_takes():
    world = established(v5=True, props=b"\x27" + (300).to_bytes(4, "big"))
    assert (
        world
        >> Answer("gateway/encrypt_response", b"x" * 300, b"7")
        << answer("gateway/encrypt_response", TOO_LARGE, b"\x09" + raw.text("7"), v5=True)
    )
    tiny = established(v5=True, props=b"\x27" + (100).to_bytes(4, "big"))
    assert tiny >> Answer("gateway/encrypt_response", b"x" * 300)


def test_what_is_told_of_a_refusal():
    report = Report("service", "refused", "no right", "decrypt", "private/a")
    assert (
        established()
        >> Answer("gateway/decrypt_response", b"{}", None, report)
        << answer("gateway/decrypt_response", b"{}", v5=False)
        << report
    )


def test_a_flood_of_refusals_costs_few_lines():
    report = Report("service", "refused", "no right")
    book = established()
    told = sum(
        report in book.connection.receive(Answer("gateway/decrypt_response", b"{}", None, report))
        for _ in range(PER_SECOND + 100)
    )
    assert told == PER_SECOND
    assert book >> Tick() << Report("service", "refused", ANY, count=100)


def test_answers_for_a_device_that_left():
    request = raw.publish("gateway/auth")
    goodbye = raw.packet(0xE0)
    assert (
        established()
        >> DeviceBytes(request + goodbye)
        << SendToBus(goodbye)
        << Call(Service.AUTH, b"")
        >> Answer("gateway/auth_response", b"{}")
        << answer("gateway/auth_response", b"{}", v5=False)
    )
