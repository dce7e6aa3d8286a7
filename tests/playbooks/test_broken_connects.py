"""A CONNECT that is none, or is broken: what is answered, what is told, and in which words."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import TURNED_AWAY, Playbook, connack, context, established, policy

from gateway.connection.commands import Authenticate, Close, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import DeviceBytes

CREDENTIALS = raw.text("c") + raw.text("lamp-1") + raw.text("s")


def begin(**settings):
    return Playbook(DeviceConnection(context(**settings)))


def broken(props=b"", *, flags=2, rest=None, **words):
    """A CONNECT of MQTT 5: as `raw.connect` writes it, or byte by byte."""
    if rest is None:
        return raw.connect(**{"client_id": "c", "v5": True, "props": props, **words})
    body = raw.text("MQTT") + bytes([5, flags, 0, 60]) + rest
    return raw.packet(0x10, body)


WILL = ("t", b"", 0, False)
# What Mosquitto 2.1.2 answers; None for a close without a word.
BROKEN_V5 = {
    "a property of PUBLISH": (broken(b"\x23\0\x01"), 0x82),
    "a property of PUBLISH, cut": (broken(b"\x02\0\0"), 0x81),
    "one of PUBLISH before one that is cut": (broken(b"\x23\0\x01\x21\0"), 0x81),
    "one of PUBLISH before one that nobody knows": (broken(b"\x23\0\x01\x7f\0"), 0x81),
    "a property that nobody knows": (broken(b"\x7f"), 0x81),
    "a property twice": (broken(b"\x21\0\x01" * 2), 0x82),
    "a Receive Maximum of 0": (broken(b"\x21\0\0"), 0x82),
    "a Maximum Packet Size of 0": (broken(b"\x27\0\0\0\0"), 0x82),
    "Request Problem Information 2": (broken(b"\x17\x02"), 0x82),
    "Authentication Data without a method": (broken(b"\x16\0\x01x"), 0x82),
    "Authentication Data with an empty method": (broken(b"\x15\0\0\x16\0\x01x"), 0x82),
    "a user property that is no text": (broken(b"\x26\0\x01\xff\0\x01v"), None),
    "properties longer than the packet": (broken(rest=b"\x30" + raw.text("c")), 0x81),
    "no length of properties": (broken(rest=b""), 0x81),
    "a length of five bytes": (broken(rest=b"\xff\xff\xff\xff\x01"), 0x81),
    "no client id": (broken(rest=b"\0"), None),
    "a client id with NUL": (broken(client_id="a\0b"), 0x85),
    "a client id that is no text": (broken(client_id=b"\xff"), 0x85),
    "a surrogate in the client id": (broken(client_id=b"\xed\xa0\x80"), 0x85),
    "a will of QoS 3": (broken(flags=0x1E, rest=b"\0" + raw.text("c")), None),
    "QoS 3 of no will": (broken(flags=0x1A, rest=b"\0" + raw.text("c")), None),
    "QoS 1 of no will": (broken(flags=0x0A, rest=b"\0" + raw.text("c")), None),
    "a will with a property of CONNECT": (broken(will=WILL, will_props=b"\x21\0\x05"), 0x82),
    "a will with a property that is cut": (broken(will=WILL, will_props=b"\x18\0"), 0x81),
    "a will whose format is 2": (broken(will=WILL, will_props=b"\x01\x02"), 0x82),
    "a will with a wildcard to answer to": (broken(will=WILL, will_props=b"\x08\0\x01+"), 0x82),
    "a will without a topic": (broken(will=("", b"", 0, False)), 0x82),
    "a will without a payload": (broken(flags=6, rest=b"\0" + raw.text("c") + b"\0" + raw.text("t")), 0x81),
    "a user name that is no text": (broken(username=b"\xff"), None),
    "a control character in the user name": (broken(username="a\x1fb"), None),
    "a C1 control in the user name": (broken(username="a\x9fb"), None),
    "a non-character in the user name": (broken(username="a\U0001fffe"), None),
    "no user name": (broken(flags=0x82, rest=b"\0" + raw.text("c")), None),
    "bytes behind": (broken(rest=b"\0" + raw.text("c") + b"x"), 0x81),
    "the reserved flag": (broken(flags=3, rest=b"\0" + raw.text("c")), None),
    "257 user properties": (broken(b"\x26\0\0\0\0" * 257), 0x97),
    "257 user properties of a will": (broken(will=WILL, will_props=b"\x26\0\0\0\0" * 257), 0x97),
}


@pytest.mark.parametrize("fault", BROKEN_V5)
def test_a_broken_connect_of_mqtt_5_is_answered_as_mosquitto_2_1_does(fault):
    packet, code = BROKEN_V5[fault]
    book = begin() >> DeviceBytes(packet) << TURNED_AWAY
    if code is not None:
        book = book << SendToDevice(connack(code, v5=True))
    assert book << Close(ANY)


def test_how_many_properties_a_connect_has_is_a_limit():
    props = b"\x26\0\0\0\0" * 300
    for most, last in ((300, Authenticate), (299, Close)):
        commands = begin(in_force=policy(connect_properties=most)).connection.receive(
            DeviceBytes(broken(props))
        )
        assert isinstance(commands[-1], last)


def test_an_empty_authentication_method_is_none():
    packet = raw.connect("c", v5=True, username="lamp-1", password="s", props=b"\x15\0\0")
    assert begin() >> DeviceBytes(packet) << Authenticate(b"lamp-1", b"s", None)


def test_flags_in_the_first_byte_are_of_no_account_in_mqtt_3_1():
    packet = raw.packet(0x10, raw.text("MQIsdp") + bytes([3, 0xC2, 0, 60]) + CREDENTIALS)
    assert begin() >> DeviceBytes(b"\x1f" + packet[1:]) << Authenticate(b"lamp-1", b"s")
    packet = raw.packet(0x10, raw.text("MQTT") + bytes([4, 0xC2, 0, 60]) + CREDENTIALS)
    assert begin() >> DeviceBytes(b"\x1f" + packet[1:]) << TURNED_AWAY << Close(ANY)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"PROXY TCP4 1.2.3.4", "HTTP or the PROXY protocol"),
        (b"SSH-2.0-x\r\n", "SSH"),
        (b"hello", ""),
    ],
)
def test_another_protocol_is_called_by_its_name(data, said):
    report, _ = begin().connection.receive(DeviceBytes(data))
    assert report.reason == "the first packet is not a CONNECT" + (f"; perhaps it is {said}" if said else "")


# Behind a good CONNECT: what Mosquitto 2.1.2 says of a packet that may not come from a client, if anything.
STRANGE = {
    "SUBACK": (b"\x90\x03\0\x01\0", 0x82),
    "SUBACK with flags": (b"\x92\x03\0\x01\0", 0x81),
    "UNSUBACK": (b"\xb0\x03\0\x01\0", 0x82),
    "UNSUBACK with flags": (b"\xb2\x03\0\x01\0", 0x81),
    "PINGRESP": (b"\xd0\0", 0x82),
    "PINGRESP with flags": (b"\xd1\0", 0x81),
    "PINGRESP that is not empty": (b"\xd0\x01\0", None),
    "PINGRESP with flags and not empty": (b"\xd1\x01\0", None),
    "PINGREQ with flags and not empty": (b"\xc1\x01\0", None),
    "CONNACK with flags": (b"\x21\x02\0\0", 0x82),
    "the reserved type, its first byte": (b"\x00", 0x82),
    "SUBSCRIBE to a group of +": (raw.subscribe(1, ("$share/+/ok", 0), v5=True), 0x82),
    "SUBSCRIBE to no group": (raw.subscribe(1, ("$share//ok", 0), v5=True), 0x82),
    "SUBSCRIBE to a group with +": (raw.subscribe(1, ("$share/g+/ok", 0), v5=True), 0x81),
}


@pytest.mark.parametrize("packet", STRANGE)
def test_flags_are_looked_at_before_who_may_send_it(packet):
    data, code = STRANGE[packet]
    commands = established(v5=True).connection.receive(DeviceBytes(data))
    told = [command for command in commands if isinstance(command, SendToDevice)]
    assert told == ([] if code is None else [SendToDevice(bytes([0xE0, 1, code]))])
