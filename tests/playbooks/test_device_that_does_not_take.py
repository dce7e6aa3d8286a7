"""What comes from the bus for a device that does not take it is read all the same, and waits, bounded."""

from __future__ import annotations

import pytest
from harness import raw
from harness.playbook import Ends, context, established, limited, policy, react

from gateway.connection.commands import Close, SendToBus, SendToDevice
from gateway.connection.events import (
    BusBytes,
    BusLost,
    DeviceBytes,
    DeviceFull,
    DeviceLost,
    DeviceReady,
    Kicked,
    PolicyChanged,
    Tick,
)
from gateway.policy.engine.identity import Device
from gateway.policy.engine.policy import Action, Effect
from gateway.policy.engine.rules import Role, Rule

OK = raw.publish("ok/a", b"x" * 1_000)
MOST = 400_000
"""`unfinished_bytes_per_device` in these tests; a quarter of it is for messages of QoS 0."""


def qos1(count: int, size: int = 1_000) -> bytes:
    return b"".join(
        raw.publish("ok/a", bytes(size), qos=1, packet_id=number) for number in range(1, count + 1)
    )


def to_device(commands: list) -> bytes:
    return b"".join(one.data for one in commands if isinstance(one, SendToDevice))


def full(world=None, **more):
    world = world or context(policy(unfinished_bytes_per_device=MOST))
    ok = raw.publish("ok/a", b"x", v5=more.get("v5", False))
    book = established(world, keep_alive=0, **more) >> BusBytes(ok) << SendToDevice(ok) >> DeviceFull()
    assert book
    return world, book.connection


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 500, 1_009, 1_010, 4_096, 1_000_000])
def test_it_gets_all_of_it_in_order_when_it_takes_it(cut):
    """However the bus's bytes are cut, a packet that has begun among them, and one that has not ended."""
    world, connection = full()
    stream = raw.publish("ok/a", b"first") + OK * 5 + qos1(9) + raw.PINGRESP + OK * 7
    assert connection.receive(DeviceReady()) == []
    said = to_device(connection.receive(BusBytes(stream[:3])))
    connection.receive(DeviceFull())
    for number, at in enumerate(range(3, len(stream) - 500, cut)):
        assert to_device(react(connection, BusBytes(stream[at : min(at + cut, len(stream) - 500)]))) == b""
        if number % 1_000 == 0:
            assert to_device(react(connection, Tick())) == b""
    assert world.budgets.work.held >= len(stream) - 503
    said += to_device(react(connection, DeviceReady()))
    said += to_device(react(connection, BusBytes(stream[-500:])))
    assert said == stream
    assert world.budgets.work.held == 0
    assert world.counters.deliveries_dropped == 0
    assert connection.receive(BusBytes(OK)) == [SendToDevice(OK)], "and passes again"


def test_above_its_room_messages_of_qos_0_are_dropped_and_nothing_else():
    world, connection = full()
    counted = world.counters
    before = counted.messages_to_devices
    flood = OK * 300
    assert connection.receive(BusBytes(flood)) == [limited()]
    kept = qos1(20)
    assert connection.receive(BusBytes(flood + kept + flood)) == [], "it is said once"
    assert world.budgets.work.held < MOST // 4 + len(kept) + 21 * 64
    said = to_device(react(connection, DeviceReady()))
    packets = list(raw.packets(said))
    assert [one for one in packets if one != OK] == list(raw.packets(kept)), "of QoS 1 nothing is missing"
    passed = packets.count(OK)
    assert 90 <= passed <= MOST // 4 // len(OK)
    assert packets[:passed] == [OK] * passed, "those that came first"
    assert counted.deliveries_dropped == 900 - passed
    react(connection, Tick())
    assert counted.messages_to_devices - before == 1 + 900 + 20
    assert counted.messages_ended["to_devices"] == 900 - passed


def test_a_message_that_finds_no_room_is_not_gathered():
    world, connection = full()
    connection.receive(BusBytes(OK * 200))
    held = world.budgets.work.held
    long = raw.publish("ok/a", bytes(1_000_000))
    for at in range(0, len(long), 50_000):
        connection.receive(BusBytes(long[at : at + 50_000]))
        assert world.budgets.work.held == held
    connection.receive(BusBytes(qos1(1)))
    assert to_device(react(connection, DeviceReady())).endswith(qos1(1))


@pytest.mark.parametrize("v5", [False, True])
def test_what_may_not_be_dropped_has_a_bound_too_and_the_connection_ends(v5):
    world, connection = full(v5=v5)
    book_commands = []
    for number in range(1, 500):
        packet = raw.publish("ok/a", bytes(1_000), qos=1, packet_id=number, v5=v5)
        book_commands = connection.receive(BusBytes(packet))
        if book_commands:
            break
        assert world.budgets.work.held <= MOST
    assert number > 350
    assert Ends(0x97 if v5 else None).fits(book_commands)
    assert world.budgets.work.held == 0


def test_its_connections_share_the_room_and_another_device_has_its_own():
    world, connection = full()
    links = [connection] + [full(world)[1] for _ in range(20)]
    for link in links:
        link.receive(BusBytes(OK * 50))
    assert world.budgets.work.held <= MOST // 4 + 21 * 64
    other = full(world, device=Device("lamp-2", ("lamp",), {}, True, "", 1, 0, 0))[1]
    dropped = world.counters.deliveries_dropped
    other.receive(BusBytes(OK * 50))
    assert world.counters.deliveries_dropped == dropped
    for link in links:
        assert link.receive(DeviceLost()) == [Close("the device closed the connection")]
    other.receive(DeviceLost())
    assert world.budgets.work.held == 0


def test_who_comes_after_many_finds_room():
    world = context(policy(unfinished_bytes_per_device=16_000_000, unfinished_bytes=4_000_000))
    held = []
    for number in range(10):
        link = full(world, device=Device(f"lamp-{number}", ("lamp",), {}, True, "", 1, 0, 0))[1]
        before = world.budgets.work.held
        link.receive(BusBytes(OK * 2_000))
        held.append(world.budgets.work.held - before)
    assert world.budgets.work.held < 4_000_000 + 4 * 65_536
    assert min(held) >= 50_000


def test_what_waits_is_judged_by_the_rules_in_force_when_it_is_taken():
    world, connection = full()
    connection.receive(BusBytes(OK * 3))
    deny = Rule(Effect.DENY, frozenset({Action.SUBSCRIBE}), "ok/#", file="lamp.toml", line=1)
    world.policy = policy([Role("lamp", "", (deny,))], unfinished_bytes_per_device=MOST)
    connection.receive(PolicyChanged(connection.device))
    assert to_device(react(connection, DeviceReady())) == b""


def test_a_device_that_had_its_second_gets_the_rest_in_the_next_ones():
    """Each packet is taken apart. The bus is read meanwhile: it would queue without regard to bytes."""
    world = context(policy(messages_per_second=100, unfinished_bytes_per_device=MOST))
    connection = established(world, keep_alive=0).connection
    flood = b"".join(raw.publish(f"ok/{number}", b"x" * 100) for number in range(200))
    said = to_device(react(connection, BusBytes(flood[:10_000])))
    assert 0 < len(said) < 2_500
    assert react(connection, BusBytes(flood[10_000:])) == []
    for _ in range(30):
        said += to_device(react(connection, Tick()))
    assert said == flood
    assert world.counters.deliveries_dropped == 0


def test_what_can_not_be_cut_in_a_second_ends_the_connection():
    """A device that takes nothing costs the gateway no more than its second."""
    world, connection = full(v5=True)
    flood = raw.publish("ok/a", b"x", v5=True) * 20_000
    for number in range(30):  # noqa: B007 - where it ends is looked at
        commands = connection.receive(BusBytes(flood))
        if any(isinstance(one, Close) for one in commands):
            break
    assert to_device(commands)[2] == 0x97
    assert number >= 15
    assert world.budgets.work.held == 0


def test_a_second_that_was_long_enough_is_followed_by_a_whole_one():
    _, connection = full(v5=True)
    flood = raw.publish("ok/a", b"x", v5=True) * 20_000
    for _ in range(10):
        for _ in range(10):
            assert not any(isinstance(one, Close) for one in connection.receive(BusBytes(flood)))
        connection.receive(Tick())


def test_what_the_bus_is_owed_for_what_is_swallowed_is_said_when_it_is_judged():
    _, connection = full()
    secret = raw.publish("ok/no/x", b"1", qos=1, packet_id=7)
    assert connection.receive(BusBytes(secret)) == []
    commands = react(connection, DeviceReady())
    assert [one for one in commands if isinstance(one, SendToBus)] == [SendToBus(raw.ack(0x40, 7))]


@pytest.mark.parametrize("end", [DeviceLost(), BusLost(), Kicked("kicked"), BusBytes(b"\x00\x00")])
def test_nothing_is_kept_and_nothing_counted_after_the_end(end):
    """The object lives until its socket is closed: what it kept would be in no bound."""
    world, connection = full()
    connection.receive(BusBytes(OK * 51))
    downstream = connection.established.downstream
    assert world.budgets.work.held > 50_000
    assert any(isinstance(one, Close) for one in react(connection, end) + react(connection, DeviceReady()))
    assert downstream.waiting is None
    assert downstream.unprocessed is None
    assert world.budgets.work.held == 0


def test_what_is_taken_and_not_looked_at_is_held_until_it_is():
    world, connection = full(world=context(policy(messages_per_second=100, unfinished_bytes_per_device=MOST)))
    flood = b"".join(raw.publish(f"ok/{number}", b"x" * 100) for number in range(500))
    connection.receive(BusBytes(flood))
    commands = react(connection, DeviceReady())
    left = len(flood) - len(to_device(commands))
    assert connection.established.downstream.unprocessed is not None, "its second is over"
    assert world.budgets.work.held >= left


def test_a_small_chunk_costs_something_too():
    """A bus that sends its messages one by one would have them looked at for nothing, without end."""
    _, connection = full(v5=True)
    packet = raw.publish("ok/a", b"x", v5=True)
    for _ in range(30_000):
        commands = connection.receive(BusBytes(packet))
        if any(isinstance(one, Close) for one in commands):
            break
    assert to_device(commands)[2] == 0x97


@pytest.mark.parametrize("most", [1, 1_000, 32_768, 65_536])
def test_with_little_room_messages_are_dropped_and_the_connection_stays(most):
    world, connection = full(world=context(policy(unfinished_bytes_per_device=most)))
    for _ in range(100):
        commands = connection.receive(BusBytes(OK))
        assert not any(isinstance(one, Close) for one in commands)
        assert world.budgets.work.held <= most
    assert world.counters.deliveries_dropped > 80


def test_limits_below_what_is_held_end_the_connection_with_their_words():
    world, connection = full(v5=True)
    connection.receive(DeviceReady())
    connection.receive(BusBytes(OK[:900]))
    world.policy = policy(unfinished_bytes_per_device=100)
    connection.receive(PolicyChanged(connection.device))
    connection.receive(Tick())
    assert to_device(react(connection, DeviceFull()))[2] == 0x97


def test_a_device_whose_session_was_taken_over_hears_it_though_more_waits():
    _, connection = full(v5=True)
    connection.receive(BusBytes(raw.publish("ok/a", b"x", v5=True)))
    assert to_device(react(connection, BusLost(taken_over=True)))[2] == 0x8E


def test_what_keeping_takes_is_in_the_room_too():
    world, connection = full()
    connection.receive(BusBytes((raw.publish("ok/a", b"x" * 991)) * 200))
    assert 90_000 < world.budgets.work.held <= MOST // 4


def test_what_comes_from_the_device_takes_none_of_their_room():
    world, connection = full()
    connection.receive(DeviceBytes(raw.publish("ok/a", b"x" * 250_000)[:200_000]))
    connection.receive(BusBytes(OK * 80))
    assert world.counters.deliveries_dropped == 0
    connection.receive(DeviceLost())
    assert world.budgets.work.held == 0
