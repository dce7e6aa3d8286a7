"""How a connection ends: goodbyes in both directions, losses, withdrawals, and bad input."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import (
    LAMP,
    READER,
    Ends,
    Playbook,
    context,
    disconnect,
    established,
    limited,
    policy,
    refused,
)

from gateway.connection.commands import Authenticate, Close, OpenBus, SendToBus, SendToDevice
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
    Kicked,
    PolicyChanged,
    ShuttingDown,
    Tick,
)
from gateway.connection.transition_table import State
from gateway.keys.sealed_packet_size import announced
from gateway.mqtt.reason_codes import Reason

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


def said_goodbye(*, v5=False, goodbye=raw.DISCONNECT, **connect):
    return established(v5=v5, **connect) >> DeviceBytes(goodbye) << SendToBus(goodbye)


@pytest.mark.parametrize(
    ("v5", "goodbye"),
    [
        (False, raw.DISCONNECT),
        (True, raw.DISCONNECT),
        (True, disconnect(0x04)),
        (True, raw.packet(0xE0, b"\0\x05\x11\0\0\0\x3c")),
    ],
    ids=["3.1.1", "5", "with will", "with session expiry"],
)
def test_the_device_says_goodbye_and_the_bus_closes(v5, goodbye):
    # Only a session that stays may change for how long (MQTT 5, 3.14.2.2.2).
    book = said_goodbye(v5=v5, goodbye=goodbye, props=b"\x11\0\0\0\x05" if v5 else b"")
    assert book.connection.state is State.GOODBYE
    assert book >> BusLost() << Close(ANY)


def test_what_follows_a_goodbye_is_not_looked_at():
    book = established() >> DeviceBytes(raw.publish("ok", b"1") + raw.DISCONNECT + raw.publish("ok", b"2"))
    book = book << SendToBus(raw.publish("ok", b"1") + raw.DISCONNECT)
    assert (
        book
        >> DeviceBytes(raw.publish("ok", b"3"))
        >> DeviceBytes(b"\xff\xff\xff\xff\xff\xff")
        >> BusLost()
        << Close(ANY)
    )


def test_the_last_words_of_the_bus_still_pass():
    waits = raw.publish("ok", b"1", qos=1, packet_id=1)
    chunk = waits + raw.DISCONNECT
    assert (
        established()
        >> DeviceBytes(chunk)
        << SendToBus(chunk)
        >> BusBytes(raw.ack(0x40, 1))
        << SendToDevice(raw.ack(0x40, 1))
        >> PolicyChanged(LAMP)
        >> BusBytes(raw.publish("other", b""))
        << refused("delivery", "other", "subscribe")
        >> BusLost()
        << Close(ANY)
    )


def test_nothing_follows_a_goodbye_to_the_bus():
    # [MQTT-3.14.4-1]: neither an acknowledgement of ours nor a second DISCONNECT.
    assert (
        said_goodbye()
        >> BusBytes(raw.publish("other", b"", qos=1, packet_id=1))
        << refused("delivery", "other", "subscribe")
        >> AccessWithdrawn("Disabled.")
        << Close("Disabled.")
    )


def test_a_bus_that_does_not_close_is_not_waited_for_long():
    book = said_goodbye()
    for _ in range(5):
        book = book >> Tick()
    assert book >> Tick() << Close("the device said goodbye")


def test_who_said_disconnect_has_said_goodbye_whoever_closes_first():
    assert said_goodbye() >> DeviceLost() << Close("the device said goodbye")
    assert said_goodbye() >> BusLost() << Close("the device said goodbye")
    assert established() >> DeviceLost() << Close("the device closed the connection")


@both
def test_the_version_it_speaks_is_known_to_the_log(v5):
    assert established(v5=v5).connection.protocol == ("5" if v5 else "3.1.1")
    assert DeviceConnection(context()).protocol == ""


def test_other_ends_after_a_goodbye():
    assert said_goodbye() >> ShuttingDown() << Close(ANY)
    assert said_goodbye(v5=True) >> BusBytes(disconnect(0x8B)) << SendToDevice(disconnect(0x8B)) << Close(ANY)


@both
def test_the_device_vanishes(v5):
    # Without a DISCONNECT to the bus, which publishes the will then.
    book = established(v5=v5)
    assert book >> DeviceLost() << Close(ANY)
    assert book.connection.state is State.CLOSED


def test_the_bus_takes_the_session_away():
    # Taken over: passed on at once, and what came before it too.
    last = raw.publish("ok", b"1", v5=True)
    book = established(v5=True) >> BusBytes(last + disconnect(0x8E) + last)
    why = "the bus ended the session: session taken over (0x8e)"
    assert book << SendToDevice(last + disconnect(0x8E)) << Close(why)


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (b"\xe0\0", "no fault of the client's (0x00)"),
        (disconnect(0x8D), "keep alive timeout (0x8d)"),
        (disconnect(0xFF), "reason code (0xff)"),
    ],
)
def test_the_log_says_with_what_code_the_bus_ended_the_session(packet, said):
    book = established(v5=True) >> BusBytes(packet)
    assert book << SendToDevice(packet) << Close(f"the bus ended the session: {said}")


@both
def test_the_bus_vanishes(v5):
    assert established(v5=v5) >> BusLost() << Close(ANY)


# Access withdrawn (promise 6), and the end of the gateway


def test_access_is_withdrawn():
    # With a DISCONNECT to the bus: the will of a device without rights is not published.
    assert established() >> AccessWithdrawn("Disabled.") << SendToBus(raw.DISCONNECT) << Close("Disabled.")
    told = raw.packet(0xE0, b"\x87" + raw.properties(b"\x1f" + raw.text("Disabled.")))
    assert (
        established(v5=True)
        >> AccessWithdrawn("Disabled.")
        << SendToBus(raw.DISCONNECT)
        << SendToDevice(told)
        << Close("Disabled.")
    )
    assert (
        established(v5=True, props=b"\x17\0")
        >> AccessWithdrawn("Disabled.")
        << SendToBus(raw.DISCONNECT)
        << SendToDevice(disconnect(0x87))
        << Close("Disabled.")
    )


def test_a_kick_is_told_and_leaves_the_will_to_the_bus():
    # Without a DISCONNECT to the bus: it publishes the will, as for any connection that breaks.
    why = "An administrator ended the connection."
    assert established(will=("ok", b"gone", 0, False)) >> Kicked(why) << Close(why)
    told = raw.packet(0xE0, b"\x98" + raw.properties(b"\x1f" + raw.text(why)))
    assert established(v5=True) >> Kicked(why) << SendToDevice(told) << Close(why)


def test_a_kick_ends_what_only_waits_for_the_bus():
    assert said_goodbye() >> Kicked("why") << Close("why")
    opening = Playbook(DeviceConnection(context()))
    assert (
        opening
        >> DeviceBytes(raw.connect("c", username="lamp-1", password="s"))
        << Authenticate(b"lamp-1", b"s")
        >> Authenticated(LAMP)
        << OpenBus(ANY)
        >> Kicked("why")
        << Close("why")
    )


def test_nothing_passes_after_a_withdrawal():
    book = established() >> AccessWithdrawn("Disabled.") << SendToBus(raw.DISCONNECT) << Close(ANY)
    assert book >> DeviceBytes(raw.publish("ok", b"1")) >> BusBytes(raw.publish("ok", b"2")) >> Tick()


@both
def test_the_gateway_stops(v5):
    # With a DISCONNECT to the bus: a planned stop publishes no will.
    book = established(v5=v5) >> ShuttingDown() << SendToBus(raw.DISCONNECT)
    if v5:

        class Told:
            def __eq__(self, other):
                return other[0] == 0xE0 and other[2] == 0x8B

            __hash__ = None

        book = book << SendToDevice(Told())
    assert book << Close(ANY)


# The policy changes under a live connection (promise 6)


def test_the_next_packet_is_judged_by_the_new_rules():
    world = context()
    packet = raw.publish("ok", b"1")
    book = established(world) >> DeviceBytes(packet * 3) << SendToBus(packet * 3)
    world.policy = policy([])
    book = book >> PolicyChanged(LAMP) >> DeviceBytes(packet) << refused("publish", "ok")
    world.policy = policy()
    assert book >> PolicyChanged(LAMP) >> DeviceBytes(packet) << SendToBus(packet)


def test_a_packet_that_is_half_there_is_judged_when_it_is_whole():
    world = context()
    packet = raw.publish("ok", b"1")
    book = established(world) >> DeviceBytes(packet[:-1])
    world.policy = policy([])
    assert book >> PolicyChanged(LAMP) >> DeviceBytes(packet[-1:]) << refused("publish", "ok")


def test_other_roles_and_labels_take_effect():
    world = context()
    book = established(world, device=READER)
    assert book >> PolicyChanged(LAMP)
    assert book.connection.identity.roles == LAMP.roles
    assert book.connection.identity.client_id == "c"


# Bad input


def big(first):
    return bytes([first]) + raw.varint(16_777_216)


DEVICE_SAYS = {
    "a second CONNECT": raw.connect("c", username="lamp-1", password="s"),
    "a CONNACK": raw.packet(0x20, b"\0\0"),
    "a SUBACK": raw.packet(0x90, b"\0\1\0"),
    "an UNSUBACK": raw.packet(0xB0, b"\0\1"),
    "a PINGRESP": raw.PINGRESP,
    "AUTH": raw.packet(0xF0, b"\x18"),
    "type 0": raw.packet(0x00),
    "flags of PUBACK": raw.packet(0x41, b"\0\1"),
    "flags of PUBREL": raw.packet(0x60, b"\0\1"),
    "flags of PINGREQ": raw.packet(0xC1),
    "flags of DISCONNECT": raw.packet(0xE2),
    "five length bytes": b"\x30\xff\xff\xff\xff",
    "QoS 3": raw.packet(0x36, raw.text("ok") + b"\0\1"),
    "packet id 0": raw.packet(0x32, raw.text("ok") + b"\0\0\0"),
    "no topic": raw.packet(0x30),
    "an empty topic": raw.publish("", b"1"),
    "half a topic": raw.packet(0x30, b"\0\5ok"),
    "no packet id": raw.packet(0x32, raw.text("ok") + b"\0"),
    "a wildcard": raw.publish("ok/+", b""),
    "U+0000": raw.publish("ok/\0", b""),
    "no UTF-8": raw.publish(b"ok/\xff", b""),
    "a surrogate": raw.publish(b"ok/\xed\xa0\x80", b""),
    "longer than allowed": big(0x30),
    "longer than allowed, and no PUBLISH": big(0x82),
}
TOO_LONG = [packet for name, packet in DEVICE_SAYS.items() if name.startswith("longer")]
V5_SAYS = {
    "no properties": raw.packet(0x30, raw.text("ok")),
    "properties cut off": raw.packet(0x30, raw.text("ok") + b"\5\1\1"),
    "an unknown property": raw.publish("ok", b"", v5=True, props=b"\x7f\0"),
    "a property of CONNECT": raw.publish("ok", b"", v5=True, props=b"\x11\0\0\0\0"),
    "a property twice": raw.publish("ok", b"", v5=True, props=b"\x01\0\x01\0"),
    "a property cut off": raw.publish("ok", b"", v5=True, props=b"\x02\0\0"),
}


@pytest.mark.parametrize("packet", DEVICE_SAYS.values(), ids=DEVICE_SAYS)
@both
def test_bad_input_of_the_device_ends_its_connection(v5, packet):
    world = context()
    before = raw.publish("ok", b"1", v5=v5)
    book = established(world, v5=v5) >> DeviceBytes(before + packet) << SendToBus(before)
    if packet in TOO_LONG and not (v5 and packet[0] == 0x82):  # that one is none by its header
        book = book << limited()
    book = book << Ends()
    assert book >> DeviceBytes(before) >> BusBytes(before) >> Tick() >> BusLost() >> DeviceLost()
    assert world.counters.protocol_errors == 1


@pytest.mark.parametrize("packet", V5_SAYS.values(), ids=V5_SAYS)
def test_bad_properties_end_the_connection(packet):
    assert established(v5=True) >> DeviceBytes(packet) << Ends()
    assert established(v5=True) >> BusBytes(packet) << Ends()


BUS_SAYS = {
    "CONNECT": raw.connect("c"),
    "a second CONNACK": raw.packet(0x20, b"\0\0"),
    "SUBSCRIBE": raw.subscribe(1, ("a", 0)),
    "UNSUBSCRIBE": raw.unsubscribe(1, "a"),
    "PINGREQ": raw.PINGREQ,
    "AUTH": raw.packet(0xF0, b"\x18"),
    "flags": raw.packet(0x41, b"\0\1"),
    "QoS 3": raw.packet(0x36, raw.text("ok") + b"\0\1"),
    "no topic": raw.packet(0x30),
    "a wildcard": raw.publish("#", b""),
    "five length bytes": b"\x30\xff\xff\xff\xff",
}


@pytest.mark.parametrize("packet", BUS_SAYS.values(), ids=BUS_SAYS)
@both
def test_bad_input_of_the_bus_ends_the_connection(v5, packet):
    before = raw.publish("ok", b"1", v5=v5)
    assert established(v5=v5) >> BusBytes(before + packet) << SendToDevice(before) << Ends()


def test_a_disconnect_of_the_bus_is_not_known_in_311():
    assert established() >> BusBytes(raw.DISCONNECT) << Ends()


def test_an_acknowledgement_without_an_id_while_one_is_waited_for():
    book = established() >> DeviceBytes(raw.publish("other", b"", qos=2, packet_id=1))
    book = book << SendToDevice(raw.ack(0x50, 1)) << refused("publish", "other")
    assert book >> DeviceBytes(raw.packet(0x62, b"\0")) << Ends()


# The bus closes, and says why in MQTT 5 only


def silent_for(seconds, keep_alive, **connect):
    book = established(keep_alive=keep_alive, **connect)
    for _ in range(seconds):
        assert book >> Tick()
    return book


def test_a_device_that_was_not_heard_of_for_one_and_a_half_keep_alives_is_said_to_be_silent():
    words = "the bus ended the session: nothing was heard for 1.5 times its keep alive of 10 s"
    assert silent_for(14, 10) >> BusLost() << Close(words)
    assert silent_for(12, 10) >> BusLost() << Close("the bus closed the connection")
    assert silent_for(100, 0) >> BusLost() << Close("the bus closed the connection")
    spoke = silent_for(14, 10) >> DeviceBytes(raw.publish("ok", b"1")) << SendToBus(ANY)
    assert spoke >> BusLost() << Close("the bus closed the connection")


def test_it_is_the_keep_alive_of_the_bus_that_counts():
    book = established(v5=True, keep_alive=100, connack_props=b"\x13\0\x0a")
    for _ in range(14):
        assert book >> Tick()
    words = "the bus ended the session: nothing was heard for 1.5 times its keep alive of 10 s"
    assert book >> BusLost() << Close(words)


def test_a_client_that_came_again_is_said_to_have():
    words = "the bus ended the session: the same client id connected again"
    assert established() >> BusLost(taken_over=True) << Close(words)
    assert silent_for(14, 10) >> BusLost(taken_over=True) << Close(words)


# A packet that is too long


def test_what_is_too_long_is_refused_with_the_number_and_where_it_stands():
    words = "a packet of 16,777,221 bytes, and packet_size = 16,777,216 (acl/limits.toml)"
    book = established(v5=True) >> DeviceBytes(big(0x30)) << limited()
    told = b"\x95" + bytes([3 + len(words)]) + b"\x1f" + raw.text(words)
    assert book << SendToDevice(raw.packet(0xE0, told)) << Close(words)
    assert established() >> DeviceBytes(big(0x30)) << limited() << Close(words)


def test_what_is_too_long_for_the_bus_is_told_as_the_bus_does_and_logged_with_its_number():
    of_bus = {size: b"\x27" + size.to_bytes(4, "big") for size in (1_000, announced(1_000, "lamp-1"))}
    connack_props, passed_on = of_bus.values()
    book = established(v5=True, connack_props=connack_props, passed_on=passed_on)
    packet = raw.publish("ok", bytes(1_000), v5=True)
    words = f"a packet of {len(packet):,} bytes, and the bus takes 1,000 (its max_packet_size)"
    assert book >> DeviceBytes(packet) << SendToDevice(disconnect(0x95)) << Close(words)


def test_nothing_happens_after_the_end():
    book = established() >> DeviceLost() << Close(ANY)
    for event in (
        DeviceBytes(b"\x30"),
        BusBytes(b"\x30"),
        Authenticated(LAMP),
        AuthenticationFailed(Reason.NOT_AUTHORIZED),
        BusUnavailable(),
        PolicyChanged(LAMP),
        AccessWithdrawn("x"),
        Kicked("x"),
        DeviceLost(),
        BusLost(),
        ShuttingDown(),
        Tick(),
    ):
        assert book >> event
    assert book.connection.state is State.CLOSED


def test_what_passed_before_the_end_is_counted():
    world = context()
    book = established(world)
    before = world.counters.bytes_from_devices
    packet = raw.publish("ok", b"1")
    assert book >> DeviceBytes(packet) << SendToBus(packet) >> DeviceLost() << Close(ANY)
    assert world.counters.messages_from_devices == 1
    assert world.counters.bytes_from_devices - before == len(packet)
    assert world.counters.connections_opened == 1


def test_one_connection_knows_nothing_of_another():
    world = context()
    one, other = established(world), established(world)
    packet = raw.publish("ok", b"1")
    assert one >> DeviceBytes(packet[:3])
    assert other >> DeviceBytes(packet) << SendToBus(packet)
    assert one >> DeviceBytes(packet[3:]) << SendToBus(packet)
    assert DeviceConnection(world).state is State.AWAIT_CONNECT
