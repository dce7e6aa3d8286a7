"""From the first byte to the CONNACK, and the ways in which it ends there."""

from __future__ import annotations

import dataclasses
from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import LAMP, TURNED_AWAY, Playbook, connack, context, established, policy, refused

from gateway.connection.commands import (
    Authenticate,
    Close,
    Established,
    OpenBus,
    SendToBus,
    SendToDevice,
)
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import (
    AccessWithdrawn,
    Authenticated,
    AuthenticationFailed,
    BusBytes,
    BusLost,
    BusUnavailable,
    DeviceBytes,
    DeviceLost,
    PolicyChanged,
    ShuttingDown,
    Tick,
)
from gateway.connection.transition_table import State
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.limits import CONNECT_BYTES_MAX

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


def begin(**settings):
    return Playbook(DeviceConnection(context(**settings)))


def asked(book, packet):
    """A CONNECT came and the connection asks whose it is."""
    return book >> DeviceBytes(packet) << Authenticate(ANY, ANY)


@both
def test_a_device_is_let_in(v5):
    answer = connack(v5=v5, session_present=True)
    book = begin()
    assert (
        book
        >> DeviceBytes(
            raw.connect("c", v5=v5, username="lamp-1", password=b"\xff\0", clean=False, keep_alive=7)
        )
        << Authenticate(b"lamp-1", b"\xff\0")
        >> Authenticated(LAMP)
        # In a namespace of its own, with the gateway's own credentials, and all else as it was.
        << OpenBus(raw.connect("lamp-1/c", v5=v5, username="gate", password="way", clean=False, keep_alive=7))
        >> BusBytes(answer)
        << SendToDevice(answer)
        << Established()
        >> DeviceBytes(raw.publish("ok", b"1", v5=v5))
        << SendToBus(raw.publish("ok", b"1", v5=v5))
    )
    assert book.connection.identity.client_id == "c"


def test_credentials_of_the_device_never_reach_the_bus():
    world = context()
    world.bus_username = world.bus_password = None
    assert (
        asked(Playbook(DeviceConnection(world)), raw.connect("c", username="lamp-1", password="hidden"))
        >> Authenticated(LAMP)
        << OpenBus(raw.connect("lamp-1/c"))
    )


def test_the_connect_may_come_byte_by_byte():
    packet = raw.connect("c", username="lamp-1", password="s")
    book = begin()
    for index in range(len(packet) - 1):
        assert book >> DeviceBytes(packet[index : index + 1])
    assert book >> DeviceBytes(packet[-1:]) << Authenticate(b"lamp-1", b"s")


@both
def test_an_empty_client_id_is_replaced(v5):
    # MQTT 5, 3.2.2.3.7: told without the prefix, whatever the bus says of it, and all else as it was.
    user = b"\x26" + raw.text("k") + raw.text("v")
    of_bus = connack(v5=v5, props=b"\x12" + raw.text("lamp-1/auto-1") + user)
    for_device = connack(v5=v5, props=b"\x12" + raw.text("auto-1") + user)
    assert (
        asked(begin(), raw.connect("", v5=v5, username="lamp-1", password="s"))
        >> Authenticated(LAMP)
        << OpenBus(raw.connect("lamp-1/auto-1", v5=v5, username="gate", password="way"))
        >> BusBytes(of_bus)
        << SendToDevice(for_device)
        << Established()
    )


def test_an_empty_client_id_without_clean_session_is_refused():
    # [MQTT-3.1.3-8] of 3.1.1, before anybody is asked for a secret
    assert (
        begin()
        >> DeviceBytes(raw.connect("", clean=False))
        << TURNED_AWAY
        << SendToDevice(connack(2))
        << Close(ANY)
    )


def test_an_empty_client_id_without_clean_start_is_fine_in_v5():
    assert asked(begin(), raw.connect("", v5=True, clean=False))


def test_what_a_packet_limit_and_aliases_promise_is_between_device_and_gateway():
    kept = b"\x21\0\x05" + b"\x11\0\0\0\x3c"
    ours = b"\x22\0\x09" + b"\x27\0\0\x10\0"
    assert (
        asked(begin(), raw.connect("c", v5=True, props=ours + kept))
        >> Authenticated(LAMP)
        << OpenBus(raw.connect("lamp-1/c", v5=True, username="gate", password="way", props=kept))
    )


def test_the_connack_passes_as_the_bus_sent_it():
    props = (
        b"\x21\0\x14\x22\0\x0a\x26" + raw.text("a") + raw.text("1") + b"\x26" + raw.text("a") + raw.text("0")
    )
    assert established(v5=True, connack_props=props)


def test_the_connack_may_come_in_pieces_and_with_more_behind_it():
    book = asked(begin(), raw.connect("c", clean=False)) >> Authenticated(LAMP) << OpenBus(ANY)
    answer, message = connack(session_present=True), raw.publish("ok", b"kept for you")
    assert (
        book
        >> BusBytes(answer[:1])
        >> BusBytes(answer[1:3])
        >> BusBytes(answer[3:] + message)
        << SendToDevice(answer)
        << Established()
        << SendToDevice(message)
    )


@both
def test_what_the_device_sends_early_waits_for_the_connack(v5):
    # MQTT 5, 3.1.4: a client need not wait.
    first, second = raw.publish("ok", b"1", v5=v5), raw.publish("other", b"2", v5=v5)
    answer = connack(v5=v5)
    assert (
        asked(begin(), raw.connect("c", v5=v5) + first[:3])
        >> DeviceBytes(first[3:])
        >> Authenticated(LAMP)
        << OpenBus(ANY)
        >> DeviceBytes(second)
        >> BusBytes(answer)
        << SendToDevice(answer)
        << Established()
        << SendToBus(first)
        << refused("publish", "other")
    )


def test_what_comes_early_is_bounded():
    book = asked(begin(), raw.connect("c")) >> DeviceBytes(b"\x30" * (CONNECT_BYTES_MAX + 1))
    assert book >> DeviceBytes(b"\x30") << TURNED_AWAY << Close(ANY)


@pytest.mark.parametrize(
    ("reason", "code_311"),
    [
        (Reason.NOT_AUTHORIZED, 5),
        (Reason.BAD_USER_NAME_OR_PASSWORD, 5),
        (Reason.SERVER_BUSY, 3),
        (Reason.QUOTA_EXCEEDED, 3),
    ],
)
@both
def test_who_is_not_let_in_learns_the_code_and_nothing_else(v5, reason, code_311):
    book = asked(begin(), raw.connect("c", v5=v5, username="lamp-1", password="wrong"))
    answer = connack(reason if v5 else code_311, v5=v5)
    assert book >> AuthenticationFailed(reason) << SendToDevice(answer) << Close("authentication failed")
    assert book.connection.state is State.CLOSED


@both
def test_the_bus_can_not_be_reached(v5):
    book = asked(begin(), raw.connect("c", v5=v5)) >> Authenticated(LAMP) << OpenBus(ANY)
    assert book >> BusUnavailable() << SendToDevice(connack(0x88 if v5 else 3, v5=v5)) << Close(ANY)


@pytest.mark.parametrize(
    ("v5", "of_bus", "for_device"),
    [
        (False, connack(2), connack(2)),
        (True, connack(0x97, v5=True), connack(0x97, v5=True)),
        # The gateway's own credentials are refused: an outage, and no fault of the device.
        (False, connack(5), connack(3)),
        (False, connack(4), connack(3)),
        (True, connack(0x87, v5=True), connack(0x88, v5=True)),
        (True, connack(0x86, v5=True), connack(0x88, v5=True)),
        # A bus that speaks 3.1.1 only answers a v5 CONNECT so.
        (True, connack(1), connack(0x84, v5=True)),
        (True, connack(0x84, v5=True), connack(0x84, v5=True)),
    ],
)
def test_the_bus_refuses(v5, of_bus, for_device):
    book = asked(begin(), raw.connect("c", v5=v5)) >> Authenticated(LAMP) << OpenBus(ANY)
    assert book >> BusBytes(of_bus) << SendToDevice(for_device) << Close(ANY)


@pytest.mark.parametrize(
    "answer",
    [
        raw.PINGRESP,
        b"\x20\x00",
        raw.packet(0x20, b"\x02\0"),
        b"\x20\xff\xff\xff\xff",
        raw.packet(0x20, b"\0\0\0"),
    ],
)
def test_the_bus_answers_with_something_else(answer):
    book = asked(begin(), raw.connect("c")) >> Authenticated(LAMP) << OpenBus(ANY)
    assert book >> BusBytes(answer) << Close(ANY)


def test_a_client_id_we_gave_must_not_make_the_connack_too_long():
    packet = raw.connect("", v5=True, props=b"\x27\0\0\0\x0a")
    book = asked(begin(), packet) >> Authenticated(LAMP) << OpenBus(ANY)
    assert book >> BusBytes(connack(v5=True)) << Close(ANY)


def test_a_v5_client_is_told_when_the_bus_speaks_311_only():
    book = begin(bus_speaks_v5=False)
    assert (
        book
        >> DeviceBytes(raw.connect("c", v5=True))
        << TURNED_AWAY
        << SendToDevice(connack(0x84, v5=True))
        << Close(ANY)
    )


def test_a_method_of_authentication_is_refused():
    packet = raw.connect("c", v5=True, props=b"\x15" + raw.text("SCRAM"))
    assert begin() >> DeviceBytes(packet) << TURNED_AWAY << SendToDevice(connack(0x8C, v5=True)) << Close(ANY)


def spoken(name, level, flags=2, rest=None):
    return raw.packet(0x10, raw.text(name) + bytes([level, flags, 0, 60]) + (rest or raw.text("c")))


@pytest.mark.parametrize("level", [0, 2, 6, 0x82, 255])
@pytest.mark.parametrize("name", ["MQTT", "MQIsdp"])
def test_a_level_that_nobody_speaks(name, level):
    # In the form of MQTT 5, as Mosquitto 2.1 answers it.
    assert (
        begin()
        >> DeviceBytes(spoken(name, level))
        << TURNED_AWAY
        << SendToDevice(connack(0x84, v5=True))
        << Close(ANY)
    )


@pytest.mark.parametrize(("name", "level"), [("MQTT", 3), ("MQTT", 0x83), ("MQIsdp", 4), ("MQIsdp", 5)])
def test_a_level_of_the_other_name(name, level):
    assert (
        begin() >> DeviceBytes(spoken(name, level)) << TURNED_AWAY << SendToDevice(connack(1)) << Close(ANY)
    )


CREDENTIALS = raw.text("c") + raw.text("lamp-1") + raw.text("s")


@pytest.mark.parametrize(("name", "level"), [("MQIsdp", 3), ("MQIsdp", 0x83), ("MQTT", 0x84), ("MQTT", 4)])
def test_old_clients_and_bridges_are_passed_on_as_what_they_are(name, level):
    """The bus tells a bridge its own messages once and keeps its retained ones, by the bit in the level."""
    on_bus = raw.text("lamp-1/c") + raw.text("gate") + raw.text("way")
    assert (
        begin()
        >> DeviceBytes(spoken(name, level, 0xC2, CREDENTIALS))
        << Authenticate(b"lamp-1", b"s")
        >> Authenticated(LAMP)
        << OpenBus(spoken(name, level, 0xC2, on_bus))
    )


def test_a_bridge_that_speaks_mqtt_5():
    packet = raw.packet(0x10, raw.text("MQTT") + bytes([0x85, 0xC2, 0, 60, 0]) + CREDENTIALS)
    book = begin() >> DeviceBytes(packet) << Authenticate(b"lamp-1", b"s") >> Authenticated(LAMP)
    on_bus = raw.text("lamp-1/c") + raw.text("gate") + raw.text("way")
    assert book << OpenBus(raw.packet(0x10, raw.text("MQTT") + bytes([0x85, 0xC2, 0, 60, 0]) + on_bus))


def test_mqtt_3_1_has_no_empty_client_id():
    packet = spoken("MQIsdp", 3, 2, raw.text(""))
    assert begin() >> DeviceBytes(packet) << TURNED_AWAY << SendToDevice(connack(2)) << Close(ANY)


@pytest.mark.parametrize("rest", [raw.text("c"), raw.text("c") + raw.text("lamp-1")])
def test_mqtt_3_1_may_leave_out_what_its_flags_promise(rest):
    name = b"lamp-1" if len(rest) > 3 else None
    assert begin() >> DeviceBytes(spoken("MQIsdp", 3, 0xC2, rest)) << Authenticate(name, None)


@pytest.mark.parametrize("first", [0x60, 0x62, 0x6A])
def test_a_pubrel_of_mqtt_3_1_may_have_any_flags(first):
    """MQTT 3.1 sends it again with DUP; Mosquitto looks at none of them."""
    packet = raw.ack(first, 1)
    for name, level, passes in (("MQIsdp", 3, True), ("MQTT", 4, first == 0x62)):
        book = begin() >> DeviceBytes(spoken(name, level, 0xC2, CREDENTIALS)) << Authenticate(b"lamp-1", b"s")
        book = book >> Authenticated(LAMP) << OpenBus(ANY) >> BusBytes(connack())
        commands = book.connection.receive(DeviceBytes(packet))
        assert (commands == [SendToBus(packet)]) is passes


GOOD = raw.connect("c", username="u", password="p")


@pytest.mark.parametrize(
    "data",
    [
        raw.PINGREQ,
        raw.publish("ok", b"1"),
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
        b"\x11\x00",
        b"\x10\x80\x80\x80\x80",
        # More than may come before authentication: known from the header.
        b"\x10" + raw.varint(CONNECT_BYTES_MAX),
        b"\x10\xff\xff\xff\x7f",
        raw.packet(0x10),
        raw.packet(0x10, raw.text("MQTX") + bytes([4, 2, 0, 60]) + raw.text("c")),
        raw.packet(0x10, raw.text("MQTT") + bytes([4, 3, 0, 60]) + raw.text("c")),
        raw.packet(0x10, raw.text("MQTT") + bytes([4, 0x22, 0, 60]) + raw.text("c")),
        raw.packet(0x10, raw.text("MQTT") + bytes([4, 0x42, 0, 60]) + raw.text("c") + raw.text("p")),
        raw.packet(
            0x10, raw.text("MQTT") + bytes([4, 0x1E, 0, 60]) + raw.text("c") + raw.text("t") + raw.text("p")
        ),
        raw.packet(0x10, GOOD[2:] + b"x"),
        raw.packet(0x10, GOOD[2:-1]),
        raw.connect(b"\xff"),
        raw.connect("a\0b"),
        raw.connect("c", username=b"\xc0\x80", password="p"),
    ],
    ids=range(19),
)
def test_what_is_no_connect_gets_no_answer(data):
    book = begin()
    assert book >> DeviceBytes(data) << TURNED_AWAY << Close(ANY)
    assert book.connection.state is State.CLOSED


def test_the_first_byte_alone_says_that_it_is_no_connect():
    assert begin() >> DeviceBytes(b"\xc0") << TURNED_AWAY << Close(ANY)


def test_a_will_that_is_too_long_for_the_bus_is_not_our_credentials():
    """3.1.1 has one code for both, and the bus takes these credentials for others."""
    world = context()
    will = raw.connect("c", will=("ok/gone", b"long", 0, False))
    for code, why in ((3, "credentials"), (5, "will")):
        book = asked(Playbook(DeviceConnection(world)), will) >> Authenticated(LAMP) << OpenBus(ANY)
        refusal, close = book.connection.receive(BusBytes(connack(5)))
        assert refusal == SendToDevice(connack(code))
        assert why in close.why
        book = (
            asked(Playbook(DeviceConnection(world)), raw.connect("c")) >> Authenticated(LAMP) << OpenBus(ANY)
        )
        assert book >> BusBytes(connack()) << ANY << ANY
    book = asked(Playbook(DeviceConnection(world)), raw.connect("c")) >> Authenticated(LAMP) << OpenBus(ANY)
    assert book >> BusBytes(connack(5)) << SendToDevice(connack(3)) << Close(ANY)


@pytest.mark.parametrize("client_id", ["/", "+", "#", "../lamp-2", "lamp-2/c", "ü" * 100])
def test_no_client_id_leaves_the_namespace(client_id):
    assert (
        asked(begin(), raw.connect(client_id))
        >> Authenticated(LAMP)
        << OpenBus(raw.connect(f"lamp-1/{client_id}", username="gate", password="way"))
    )


def test_a_client_id_with_no_room_for_the_namespace():
    # What may come before authentication leaves room for 65,522 bytes, the namespace does not.
    named = raw.connect("x" * 65_500)
    assert asked(begin(), named) >> Authenticated(LAMP) << OpenBus(ANY)
    unnamed = raw.connect("x" * 65_519)
    longest = dataclasses.replace(LAMP, device_id="lamp-" + "1" * 20)
    assert (
        asked(begin(), unnamed)
        >> Authenticated(longest)
        << TURNED_AWAY
        << SendToDevice(connack(2))
        << Close(ANY)
    )


# What else may happen meanwhile


def test_the_device_goes_at_any_time():
    assert begin() >> DeviceLost() << Close(ANY)
    book = begin()
    assert book >> DeviceBytes(raw.connect("c")[:4]) >> DeviceLost() << Close(ANY)
    book = asked(begin(), raw.connect("c")) >> DeviceLost() << Close(ANY)
    # Whatever is still answered then.
    assert book >> Authenticated(LAMP) >> AuthenticationFailed(Reason.NOT_AUTHORIZED) >> DeviceLost()
    book = (
        asked(begin(), raw.connect("c")) >> Authenticated(LAMP) << OpenBus(ANY) >> DeviceLost() << Close(ANY)
    )
    assert book >> BusUnavailable() >> BusBytes(connack()) >> BusLost() >> Tick() >> DeviceBytes(b"x")


def test_the_bus_goes_before_it_answered():
    book = asked(begin(), raw.connect("c")) >> Authenticated(LAMP) << OpenBus(ANY)
    assert book >> BusLost() << Close(ANY)


@both
def test_access_is_withdrawn_meanwhile(v5):
    no = connack(0x87 if v5 else 5, v5=v5)
    book = asked(begin(), raw.connect("c", v5=v5)) >> Authenticated(LAMP) << OpenBus(ANY)
    # Whether the bus has seen the CONNECT yet or not, its will is not to be published.
    assert (
        book
        >> AccessWithdrawn("disabled")
        << SendToBus(raw.DISCONNECT)
        << SendToDevice(no)
        << Close("disabled")
    )


def test_the_policy_changes_while_the_bus_is_asked():
    world = context()
    book = asked(Playbook(DeviceConnection(world)), raw.connect("c")) >> Authenticated(LAMP) << OpenBus(ANY)
    world.policy = policy([])
    assert (
        book
        >> PolicyChanged(LAMP)
        >> BusBytes(connack())
        << SendToDevice(connack())
        << Established()
        >> DeviceBytes(raw.publish("ok", b"1"))
        << refused("publish", "ok")
    )


def test_the_gateway_stops_meanwhile():
    assert begin() >> ShuttingDown() << Close(ANY)
    assert asked(begin(), raw.connect("c")) >> ShuttingDown() << Close(ANY)
    assert (
        asked(begin(), raw.connect("c"))
        >> Authenticated(LAMP)
        << OpenBus(ANY)
        >> ShuttingDown()
        << SendToBus(raw.DISCONNECT)
        << Close(ANY)
    )


def test_an_event_that_can_not_be_is_a_fault_of_ours():
    with pytest.raises(RuntimeError, match="BusBytes can't happen while await connect"):
        DeviceConnection(context()).receive(BusBytes(b"x"))


def test_passwords_and_wills_are_not_shown_or_kept():
    book = asked(
        begin(), raw.connect("c", username="lamp-1", password="hidden", will=("ok", b"last", 0, False))
    )
    assert "hidden" not in repr(Authenticate(b"u", b"hidden"))
    book = book >> Authenticated(LAMP)
    opened = book._left[0]
    assert "way" not in repr(opened)
    assert book << OpenBus(ANY)
    assert book.connection._stage._connect is None
