"""`[limits]` of roles on a connection: what a device meets, what is told, and that a change acts at once."""

from __future__ import annotations

import dataclasses

from harness import raw
from harness.playbook import (
    LAMP,
    ROLES,
    Ends,
    context,
    established,
    limited,
    policy,
    react,
    refused,
    rule,
    suback,
)

from gateway.connection.commands import PauseDevice, SendToBus, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import BusBytes, DeviceBytes, PolicyChanged, Tick
from gateway.policy.engine.device_limits import CountedLimit
from gateway.policy.engine.policy import Role

OK = raw.publish("ok", b"1")


def lamp(**limits):
    return dataclasses.replace(
        ROLES[0], limits=limits, locations={key: f"roles/lamp.toml:{at}" for at, key in enumerate(limits, 1)}
    )


def under(*roles):
    return context(policy([*roles, ROLES[1]]))


def test_messages_of_a_role_pause_the_device_and_are_told_once():
    world = under(lamp(messages_per_second=3))
    book = established(world, keep_alive=0) >> DeviceBytes(OK * 4) << SendToBus(OK * 4)
    book = book << limited("roles/lamp.toml:1") << PauseDevice()
    book = book >> Tick() >> DeviceBytes(OK * 3) << SendToBus(OK * 3) << PauseDevice()
    assert world.counters.limits_reached == {CountedLimit.MESSAGES_PER_SECOND: 2}, "each time is counted"
    for _ in range(61):
        book = book >> Tick()
    assert book >> DeviceBytes(OK * 4) << SendToBus(OK * 4) << limited("roles/lamp.toml:1") << PauseDevice()


def test_bytes_of_a_role_too():
    big = raw.publish("ok", b"x" * 1_000)
    world = under(lamp(bytes_per_second=1_500))
    book = established(world, keep_alive=0) >> DeviceBytes(big) << SendToBus(big) >> DeviceBytes(big)
    assert book << SendToBus(big) << limited("roles/lamp.toml:1") << PauseDevice()
    assert world.counters.limits_reached == {CountedLimit.BYTES_PER_SECOND: 1}


def test_a_device_of_few_messages_may_still_subscribe_to_many_filters():
    """The work of a packet is bounded apart: a second of one message is not a hundredth of a SUBSCRIBE."""
    asked = raw.subscribe(1, *((f"ok/{number}", 0) for number in range(200)))
    connection = established(under(lamp(messages_per_second=1))).connection
    assert react(connection, DeviceBytes(asked)) == [SendToBus(asked)]


def test_a_lowered_limit_acts_on_a_live_connection():
    world = under(lamp(messages_per_second=50, packet_size=1_000))
    long = raw.publish("ok", b"x" * 500)
    book = established(world, keep_alive=0) >> DeviceBytes(OK * 40 + long) << SendToBus(OK * 40 + long)
    world.policy = policy([lamp(messages_per_second=3, packet_size=300), ROLES[1]])
    book = book >> PolicyChanged(LAMP) >> Tick()
    book = book >> DeviceBytes(OK * 4) << SendToBus(OK * 4) << limited("roles/lamp.toml:1") << PauseDevice()
    assert book >> DeviceBytes(long) << limited("roles/lamp.toml:2") << Ends()


def test_a_device_that_gets_another_role_has_its_limits():
    slow = Role("slow", "", (rule("slow", "publish"),), limits={"packet_size": 200}, locations={})
    world = under(ROLES[0], slow)
    long = raw.publish("ok", b"x" * 500)
    book = established(world) >> DeviceBytes(long) << SendToBus(long)
    book = book >> PolicyChanged(dataclasses.replace(LAMP, roles=("lamp", "slow")))
    assert book >> DeviceBytes(long) << limited("slow") << Ends()


def taken(connection: DeviceConnection, number: int, topic: str) -> bool:
    """Whether a SUBSCRIBE goes to the bus."""
    commands = connection.receive(DeviceBytes(raw.subscribe(number, (topic, 0))))
    if any(isinstance(one, SendToBus) for one in commands):
        connection.receive(BusBytes(suback(number, 0)))
        return True
    assert SendToDevice(suback(number, 0x80)) in commands
    assert refused("subscribe", topic, "subscribe") in commands
    return False


def test_subscriptions_of_a_role_are_of_all_connections_of_the_device_together():
    world = under(lamp(subscriptions=3))
    one, other = established(world).connection, established(world, client_id="other").connection
    assert [taken(one, 1, "ok/1"), taken(one, 2, "ok/2"), taken(other, 1, "ok/1")] == [True] * 3
    assert not taken(one, 3, "ok/3")
    assert not taken(other, 2, "ok/4")
    assert taken(one, 4, "ok/1"), "the same again takes no place"
    assert world.counters.limits_reached == {CountedLimit.SUBSCRIPTIONS: 2}
    other.receive(DeviceBytes(raw.packet(0xA2, b"\0\x09" + raw.text("ok/1"))))
    assert taken(one, 5, "ok/3"), "and an UNSUBSCRIBE gives one back"


def test_who_leaves_gives_the_places_back():
    world = under(lamp(subscriptions=1))
    book = established(world)
    assert taken(book.connection, 1, "ok/1")
    second = established(world, client_id="other").connection
    assert not taken(second, 1, "ok/2")
    book >> DeviceBytes(raw.packet(0xE0, b""))
    for _ in range(40):
        if taken(second, 2, "ok/2"):
            return
        book.connection.receive(Tick())
    raise AssertionError("the place is not free")


def test_a_session_that_is_kept_on_the_bus_counts_though_nobody_is_connected():
    world = under(lamp(subscriptions=2))
    first = established(world, clean=False)
    assert taken(first.connection, 1, "ok/1")
    assert taken(first.connection, 2, "ok/2")
    other = established(world, client_id="other").connection
    assert not taken(other, 1, "ok/3")
