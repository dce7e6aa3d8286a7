"""What is measured in seconds: heartbeat, rates, packets that take too long. No clock, only ticks."""

from __future__ import annotations

import pytest
from harness import raw
from harness.playbook import LAMP, Ends, context, established, limited, policy, react, refused

from gateway.connection.commands import PauseDevice, SendToBus, SendToDevice
from gateway.connection.events import BusBytes, DeviceBytes, PolicyChanged, Tick
from gateway.policy.engine.device_limits import CountedLimit

OK = raw.publish("ok", b"1")
DENIED = raw.publish("other", b"1")


def test_a_device_that_is_heard_here_alone_is_not_taken_for_gone():
    # Nothing of it reaches the bus, which would close after one and a half of its keep-alive.
    book = established(keep_alive=6)
    assert book >> DeviceBytes(DENIED) << refused("publish", "other") >> Tick() >> Tick()
    assert (
        book
        >> Tick()
        << SendToBus(raw.PINGREQ)
        # The answer is the gateway's own; the device's stay the device's.
        >> BusBytes(raw.PINGRESP)
        >> DeviceBytes(raw.PINGREQ)
        << SendToBus(raw.PINGREQ)
        >> BusBytes(raw.PINGRESP)
        << SendToDevice(raw.PINGRESP)
    )


def test_a_device_that_is_silent_is_taken_for_gone():
    book = established(keep_alive=2)
    for _ in range(10):
        book = book >> Tick()
    # One sign of life is passed on once.
    book = book >> DeviceBytes(DENIED) << refused("publish", "other") >> Tick() << SendToBus(raw.PINGREQ)
    for _ in range(10):
        book = book >> Tick()
    assert book


def test_what_the_bus_heard_is_not_told_again():
    book = established(keep_alive=4) >> DeviceBytes(DENIED) << refused("publish", "other")
    book = book >> Tick() >> DeviceBytes(OK) << SendToBus(OK)
    for _ in range(10):
        book = book >> Tick()
    assert book


def test_a_packet_that_comes_slowly_is_a_sign_of_life():
    book = established(keep_alive=4)
    for number in range(6):
        book = book >> DeviceBytes(raw.publish("ok", b"xxxx")[number : number + 1]) >> Tick()
        if number % 2:
            book = book << SendToBus(raw.PINGREQ)
    assert book


def test_without_keep_alive_there_is_no_heartbeat():
    book = established(keep_alive=0) >> DeviceBytes(DENIED) << refused("publish", "other")
    for _ in range(10):
        book = book >> Tick()
    assert book


def test_the_keep_alive_of_the_bus_counts():
    # Server Keep Alive (MQTT 5, 3.2.2.3.14)
    book = established(v5=True, keep_alive=60, connack_props=b"\x13\0\x04")
    bad = raw.publish("other", b"1", v5=True)
    assert (
        book
        >> DeviceBytes(bad)
        << refused("publish", "other")
        >> Tick()
        >> Tick()
        << SendToBus(raw.PINGREQ)
        >> BusBytes(raw.PINGRESP)
    )


def test_both_heartbeats_at_once():
    book = established(keep_alive=2) >> DeviceBytes(DENIED) << refused("publish", "other")
    book = book >> Tick() << SendToBus(raw.PINGREQ) >> DeviceBytes(raw.PINGREQ) << SendToBus(raw.PINGREQ)
    assert book >> BusBytes(raw.PINGRESP * 2) << SendToDevice(raw.PINGRESP)


# Rates: nothing is dropped, reading pauses.


def test_too_many_messages_pause_the_device():
    book = established(context(policy(messages_per_second=10)), keep_alive=0)
    assert book >> DeviceBytes(OK * 10) << SendToBus(OK * 10)
    assert (
        book
        >> DeviceBytes(OK)
        << SendToBus(OK)
        << limited()
        << PauseDevice()
        # One over the rate: it is taken from the next second.
        >> Tick()
        >> DeviceBytes(OK * 9)
        << SendToBus(OK * 9)
        >> DeviceBytes(OK)
        << SendToBus(OK)
        << PauseDevice()
    )


def test_what_is_denied_counts_too():
    book = established(context(policy(messages_per_second=10)), keep_alive=0)
    assert book >> DeviceBytes(DENIED * 11) << refused("publish", "other") << limited() << PauseDevice()


def test_a_burst_is_paid_for_second_by_second():
    book = established(context(policy(messages_per_second=10)), keep_alive=0)
    book = book >> DeviceBytes(OK * 35) << SendToBus(OK * 35) << limited() << PauseDevice()
    book = book >> Tick() << PauseDevice() >> Tick() << PauseDevice()
    assert book >> Tick() >> DeviceBytes(OK * 5) << SendToBus(OK * 5)


def test_too_many_bytes_pause_the_device():
    big = raw.publish("ok", b"x" * 1000)
    book = established(context(policy(bytes_per_second=2000)), keep_alive=0)
    assert (
        book
        >> DeviceBytes(big)
        << SendToBus(big)
        >> DeviceBytes(big)
        << SendToBus(big)
        << limited()
        << PauseDevice()
        >> Tick()
        >> DeviceBytes(big)
        << SendToBus(big)
    )


def test_bytes_of_a_packet_that_is_not_whole_count():
    book = established(context(policy(bytes_per_second=2000)), keep_alive=0)
    assert book >> DeviceBytes(raw.publish("ok", b"x" * 5000)[:3000]) << limited() << PauseDevice()


def test_the_bus_is_not_slowed_down():
    book = established(context(policy(messages_per_second=1, bytes_per_second=1)), keep_alive=0)
    assert book >> BusBytes(OK * 100) << SendToDevice(OK * 100) >> Tick()


# A packet that takes too long


def slow(**limits):
    return established(context(policy(packet_seconds=3, **limits)), keep_alive=0)


@pytest.mark.parametrize("begun", [b"\x30", b"\x30\x05", b"\x30\x05\0\2o"])
def test_a_packet_that_never_ends(begun):
    book = slow() >> DeviceBytes(begun)
    for _ in range(4):
        book = book >> Tick()
    assert book >> Tick() << Ends()


def test_drops_do_not_help():
    book = slow() >> DeviceBytes(b"\x30\x80\x01")
    for _ in range(4):
        book = book >> DeviceBytes(b"\0") >> Tick()
    assert book >> DeviceBytes(b"\0") >> Tick() << Ends()


def test_many_packets_that_are_cut_are_not_one_slow_packet():
    book = slow() >> DeviceBytes(OK[:2])
    for _ in range(10):
        book = book >> Tick() >> DeviceBytes(OK[2:] + OK[:2]) << SendToBus(OK)
    assert book


def test_a_packet_that_comes_in_time():
    book = slow() >> DeviceBytes(OK[:3])
    for _ in range(3):
        book = book >> Tick()
    book = book >> DeviceBytes(OK[3:]) << SendToBus(OK)
    for _ in range(10):
        book = book >> Tick()
    assert book


def test_other_limits_take_effect_at_once():
    world = context()
    long = raw.publish("ok", b"x" * 200)
    book = established(world) >> DeviceBytes(long) << SendToBus(long)
    world.policy = policy(packet_size=100)
    book = book >> PolicyChanged(LAMP) >> DeviceBytes(OK) << SendToBus(OK)
    assert book >> DeviceBytes(long) << limited() << Ends()
    assert world.counters.limits_reached == {CountedLimit.PACKET_SIZE: 1}


@pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
def test_what_has_to_be_taken_apart_is_bounded_by_the_second_and_not_lost(v5):
    """A flood of small packets: the rest of a chunk waits for its turn, others are served meanwhile."""
    # Ten packets a second that are judged one by one.
    connection = established(context(policy(messages_per_second=100)), v5=v5).connection
    asked = b"".join(raw.subscribe(number + 1, ("other", 0), v5=v5) for number in range(15))
    answered = [sum_of_subacks(connection.receive(DeviceBytes(asked)))]
    assert answered[0] < 15
    for _ in range(20):
        answered.append(sum_of_subacks(react(connection, Tick(reading=False))))
    assert sum(answered) == 15
    assert max(answered) < 15


def sum_of_subacks(commands):
    data = b"".join(one.data for one in commands if isinstance(one, SendToDevice))
    return sum(1 for one in raw.packets(data) if one[0] == 0x90)


def test_a_packet_is_not_slow_while_the_gateway_does_not_read():
    book = established(context(policy(packet_seconds=2))) >> DeviceBytes(OK[:3])
    for _ in range(9):
        book = book >> Tick(reading=False)
    assert book >> Tick() >> Tick() >> DeviceBytes(OK[3:]) << SendToBus(OK)
