"""What one device does to keep the gateway busy, or to fill it, with little effort of its own."""

from __future__ import annotations

from harness import raw
from harness.playbook import LAMP, established, react

from gateway.connection.commands import Call, Command, PauseDevice, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import DeviceBytes, Tick
from gateway.mqtt.reason_codes import Reason

IDENTIFIER = b"\x0b\x05"
REQUEST = raw.publish("gateway/encrypt", b"{}", v5=True)
AT_ONCE = 200
"""Filters of one SUBSCRIBE: of 100,000 bytes at most, as Mosquitto 2.1 takes them."""


def subscribe(connection: DeviceConnection, count: int, length: int) -> bytes:
    """The codes of as many filters for answers, of so many bytes."""
    names = [f"gateway/reply/{LAMP.device_id}/{number:04}" for number in range(count)]
    filters = [(name + "/+" * ((length - len(name)) // 2), 0) for name in names]
    codes = b""
    for begin in range(0, count, AT_ONCE):
        some = filters[begin : begin + AT_ONCE]
        commands = react(connection, DeviceBytes(raw.subscribe(7, *some, v5=True, props=IDENTIFIER)))
        (answer,) = [one.data for one in commands if isinstance(one, SendToDevice)]
        codes += answer[-len(some) :]
        for _ in range(20):  # to take that many apart has its price too
            react(connection, Tick())
    return codes


def calls(commands: list[Command]) -> int:
    return sum(isinstance(one, Call) for one in commands)


def test_a_thousand_subscriptions_to_answers_are_compared_with_few():
    """Each answer is compared with all of them: 70 ms for 500 of 180 levels each."""
    connection = established(v5=True).connection
    assert set(subscribe(connection, 300, 400)) == {0}
    commands = react(connection, DeviceBytes(REQUEST * 100))
    assert 0 < calls(commands) < 10
    assert isinstance(commands[-1], PauseDevice)
    # Nothing is lost: they are answered, second by second.
    answered = calls(commands)
    for _ in range(100):
        answered += calls(react(connection, Tick()))
    assert answered == 100


def test_requests_that_are_refused_are_no_cheaper_than_other_packets():
    connection = established(v5=True).connection
    assert 0 < calls(react(connection, DeviceBytes(REQUEST * 12_000))) < 5_000


def test_few_subscriptions_slow_down_nobody():
    connection = established(v5=True).connection
    subscribe(connection, 5, 40)
    assert calls(react(connection, DeviceBytes(REQUEST * 1_000))) == 1_000


def test_filters_for_answers_take_little_room():
    """They are held as they are, and a thousand of 64 KiB would be 64 MiB a connection."""
    connection = established(v5=True).connection
    codes = subscribe(connection, 1_000, 400)
    assert codes[0] == 0
    assert codes[-1] == Reason.QUOTA_EXCEEDED
    assert codes.count(0) * 398 <= 131_072
    # What is given up makes room.
    first = f"gateway/reply/{LAMP.device_id}/0000"
    gone = first + "/+" * ((400 - len(first)) // 2)
    react(connection, DeviceBytes(raw.unsubscribe(8, gone, v5=True)))
    assert set(subscribe(connection, 1, 400)) == {0}
