"""What comes in pieces before a connection is established is bounded by its header, and hardly copied.

Of one kind: a peer that sends byte by byte must not make each byte cost a copy of all bytes before it.
"""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import LAMP, TURNED_AWAY, Playbook, connack, context

from gateway.connection.commands import Authenticate, Close, Established, OpenBus, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import Authenticated, BusBytes, DeviceBytes
from gateway.mqtt.data_types import encode_length
from gateway.mqtt.errors import PacketTooLarge
from gateway.mqtt.framing import first_packet
from gateway.policy.engine.limits import CONNACK_BYTES_MAX, CONNECT_BYTES_MAX

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
LONG = 8_000


class Counted(bytes):
    """A chunk that counts what is copied to put it behind others. (What grows in place copies nothing.)"""

    copied = 0

    def __radd__(self, before):
        if not isinstance(before, bytes):
            return NotImplemented
        Counted.copied += len(before) + len(self)
        return bytes(before) + bytes(self)


def byte_by_byte(book, event, data):
    """All but the last byte, each of which changes nothing; the answer is the last."""
    for at in range(len(data) - 1):
        assert book >> event(Counted(data[at : at + 1]))
    return event(Counted(data[-1:]))


def of_reason(length: int) -> bytes:
    return connack(v5=True, props=b"\x1f" + raw.text("r" * length))


def asked(**connect):
    packet = raw.connect("c", username="lamp-1", password="s", **connect)
    return (
        Playbook(DeviceConnection(context()))
        >> DeviceBytes(packet)
        << Authenticate(ANY, ANY)
        >> Authenticated(LAMP)
        << OpenBus(ANY)
    )


def test_bytes_one_by_one_are_not_copied_again_and_again():
    Counted.copied = 0
    book = Playbook(DeviceConnection(context()))
    hello = raw.connect("c" * LONG, v5=True, username="lamp-1", password="s")
    last = byte_by_byte(book, DeviceBytes, hello)
    assert book >> last << Authenticate(b"lamp-1", b"s") >> Authenticated(LAMP) << OpenBus(ANY)
    early = raw.publish("ok", b"x" * LONG, v5=True)
    assert book >> byte_by_byte(book, DeviceBytes, early)
    answer = of_reason(LONG)
    last = byte_by_byte(book, BusBytes, answer)
    assert book >> last << SendToDevice(answer) << Established() << ANY
    assert Counted.copied <= len(hello) + len(early) + len(answer)


def test_the_count_sees_what_it_looks_for():
    Counted.copied = 0
    data = b""
    for _ in range(100):
        data += Counted(b"x")
    assert Counted.copied == 5_050


@both
def test_an_endless_connack_is_refused_from_its_header(v5):
    assert asked(v5=v5) >> BusBytes(b"\x20\xff\xff\xff\x7f") << Close(ANY)
    header = b"\x20" + encode_length(CONNACK_BYTES_MAX - 3)
    assert asked(v5=v5) >> BusBytes(header + b"\0" * 100) << Close(ANY)


@pytest.mark.parametrize("length", [100, 65_000])
def test_a_long_one_passes(length):
    answer = of_reason(length)
    assert (
        asked(v5=True)
        >> BusBytes(answer[:50])
        >> BusBytes(answer[50:])
        << SendToDevice(answer)
        << Established()
    )


def test_an_endless_connect_is_refused_from_its_header():
    assert (
        Playbook(DeviceConnection(context()))
        >> DeviceBytes(b"\x10\xff\xff\xff\x7f")
        << TURNED_AWAY
        << Close(ANY)
    )


@pytest.mark.parametrize("most", [CONNECT_BYTES_MAX, 100])
def test_a_bound_is_that_of_the_whole_packet(most):
    size = most - 1 - len(encode_length(most - 4))
    fits = bytearray(b"\x10" + encode_length(size) + b"\0" * size)
    assert len(fits) == most
    assert first_packet(fits[:-1], most, "") is None
    assert first_packet(fits + b"more", most, "") == (most - size, most)
    with pytest.raises(PacketTooLarge, match="so long"):
        first_packet(fits, most - 1, "so long")
