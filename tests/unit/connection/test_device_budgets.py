"""What a device may cost: counted work, no seconds. One budget for all its connections, slices for each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness import raw
from harness.playbook import LAMP, NOW, connack, context, established, limited, policy, react

from gateway.connection.commands import AwaitTurn, Close, PauseDevice, SendToBus, SendToDevice
from gateway.connection.device_budgets import (
    EFFORT_DECODED,
    EFFORT_FILTER,
    ITERATION_EFFORT,
    RUN_PACKETS,
    SLICE_EFFORT,
    Budgets,
)
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import Authenticated, BusBytes, DeviceBytes, DeviceLost, Tick, Turn
from gateway.connection.process_counters import Counters
from gateway.connection.writes import LONG_BYTES
from gateway.mqtt.errors import LimitExceeded
from gateway.mqtt.packets import PacketType
from gateway.policy.engine.identity import Grant
from gateway.policy.engine.limits import Limits

DENIED = raw.publish("other", b"1", qos=1, packet_id=7)
OK = raw.publish("ok", b"1")
LIMITS = Limits(messages_per_second=100, bytes_per_second=1_000)


def acknowledged(commands):
    data = b"".join(one.data for one in commands if isinstance(one, SendToDevice))
    return sum(one[0] >> 4 == PacketType.PUBACK for one in raw.packets(data))


# One slice, whatever is in it


FLOODS = {
    "refused": DENIED * 5_000,
    "sealed": raw.publish("private/x", b"x" * 64) * 5_000,
    "sealed and long": raw.publish("private/x", b"x" * 4_096) * 200,
    "QoS 2": b"".join(raw.publish("ok", b"1", qos=2, packet_id=number) for number in range(1, 900)),
    "PINGREQ": raw.PINGREQ * 5_000,
    "PUBACK": raw.ack(0x40, 1) * 20_000,
    "the shortest allowed": OK * 20_000,
    "each on a topic of its own": b"".join(raw.publish(f"ok/{number}", b"") for number in range(5_000)),
    "SUBSCRIBE": b"".join(
        raw.subscribe(number, *[(f"other/{one}", 0) for one in range(20)]) for number in range(1, 300)
    ),
    "requests": raw.publish("gateway/encrypt", b"{}") * 5_000,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_no_chunk_costs_more_than_a_slice_whatever_it_holds(flood):
    """The kind: work that is done in one call, and that nothing counts."""
    world = context(policy(in_flight=100_000))
    connection = established(world, keep_alive=0).connection
    work = world.budgets.work
    work.begin()
    commands = connection.receive(DeviceBytes(flood))
    assert commands[-1] in (AwaitTurn(), PauseDevice())
    # One packet may go over it.
    assert 0 < work.done < SLICE_EFFORT + 20 * EFFORT_FILTER + EFFORT_DECODED + len(flood) // 2_048
    assert work.done >= min(SLICE_EFFORT, RUN_PACKETS >> 3)


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_the_rest_has_its_turn_and_nothing_is_lost(flood):
    limits = {"messages_per_second": 10_000_000, "in_flight": 100_000}
    whole = established(context(policy(**limits)), keep_alive=0).connection
    pieces = established(context(policy(**limits)), keep_alive=0).connection
    packets = list(raw.packets(flood))
    once = react(whole, DeviceBytes(flood))
    one_by_one = [command for packet in packets for command in react(pieces, DeviceBytes(packet))]
    for kind in (SendToBus, SendToDevice):
        said = [
            b"".join(one.data for one in commands if isinstance(one, kind)) for commands in (once, one_by_one)
        ]
        assert len(said[0]) == len(said[1])


def test_a_subscribe_of_thousands_of_filters_is_judged_in_slices():
    """4,096 filters took sixty milliseconds at once, and a second where many rules are searched for each."""
    world = context(policy(messages_per_second=10_000_000, subscriptions=5_000))
    connection = established(world, keep_alive=0).connection
    filters = [(f"ok/{number}", 0) for number in range(4_000)]
    work = world.budgets.work
    work.begin()
    commands = connection.receive(DeviceBytes(raw.subscribe(1, *filters, ("other", 0)) + OK))
    turns, said = 0, []
    while commands[-1] == AwaitTurn():
        assert work.done < SLICE_EFFORT + 2 * EFFORT_FILTER + 4_000 * 10 // 2_048
        work.begin()
        turns, commands = turns + 1, connection.receive(Turn())
        said += commands
    assert turns + 1 >= 4_000 * EFFORT_FILTER // SLICE_EFFORT
    to_bus = b"".join(one.data for one in said if isinstance(one, SendToBus))
    assert to_bus == raw.subscribe(1, *filters) + OK


@pytest.mark.parametrize("envelope", [b"{}", b"x" * 3_000])
def test_what_the_bus_sends_is_done_in_slices_too(envelope):
    """Sealed messages that do not open, for a device that subscribed itself to them sixty times."""
    world = context()
    connection = established(world, keep_alive=0).connection
    flood = raw.publish("private/x", envelope, qos=1, packet_id=1) * 1_000
    world.budgets.work.begin()
    commands = connection.receive(BusBytes(flood))
    assert commands[-1] == AwaitTurn()
    assert world.budgets.work.done < SLICE_EFFORT + 200 + len(flood) // 2_048
    answers = b"".join(one.data for one in commands if isinstance(one, SendToBus))
    while commands and commands[-1] == AwaitTurn():
        world.budgets.work.begin()
        commands = connection.receive(Turn())
        answers += b"".join(one.data for one in commands if isinstance(one, SendToBus))
    assert len(list(raw.packets(answers))) == 1_000


def test_what_the_bus_sends_costs_a_device_no_more_than_its_second():
    world = context(policy(messages_per_second=100))
    connection = established(world, keep_alive=0).connection
    flood = raw.publish("private/x", b"{}", qos=1, packet_id=1) * 100
    commands = react(connection, BusBytes(flood))
    assert connection.established.downstream.waits
    answers = 0
    for _ in range(100):
        answers += sum(isinstance(one, SendToBus) for one in commands)
        commands = react(connection, Tick())
    assert answers > 10
    assert not connection.established.downstream.waits


def test_a_turn_that_is_full_lets_what_is_like_the_last_message_pass_and_nothing_else():
    world = context()
    book = established(world, keep_alive=0) >> DeviceBytes(OK) << SendToBus(OK)
    connection = book.connection
    world.budgets.work.add(ITERATION_EFFORT)
    assert connection.receive(DeviceBytes(OK)) == [SendToBus(OK)]
    other = raw.publish("ok/a", b"1")
    assert connection.receive(DeviceBytes(other)) == [AwaitTurn()]
    # In order: what comes later does not overtake it.
    assert connection.receive(DeviceBytes(OK)) == [AwaitTurn()]
    world.budgets.work.begin()
    assert connection.receive(Turn()) == [SendToBus(other + OK)]


# One budget for a device


def test_connections_of_a_device_share_its_second():
    """Twenty of them get the messages and the effort that one gets; another device has its own."""
    world = context(policy(messages_per_second=100))
    links = [established(world, keep_alive=0).connection for _ in range(20)]
    flood = DENIED * 20
    answered = sum(acknowledged(react(link, DeviceBytes(flood))) for link in links)
    assert answered <= 100 // EFFORT_DECODED + 1
    other = established(world, keep_alive=0, device=_named("lamp-2")).connection
    assert acknowledged(react(other, DeviceBytes(flood))) > 5
    # A second later each Tick names the same second: they get one second's worth in all.
    again = sum(acknowledged(react(link, Tick(second=1))) for link in links)
    assert 0 < again <= 100 // EFFORT_DECODED + 1


def test_leaving_and_coming_back_gains_nothing():
    world = context(policy(messages_per_second=100))
    answered = 0
    for _ in range(20):
        link = established(world, keep_alive=0).connection
        answered += acknowledged(react(link, DeviceBytes(DENIED * 20)))
        assert link.receive(DeviceLost()) == [Close("the device closed the connection")]
    assert answered <= 100 // EFFORT_DECODED + 1


def test_acknowledgements_in_their_short_form_count_as_messages():
    connection = established(context(policy(messages_per_second=100)), keep_alive=0).connection
    ack = raw.ack(0x40, 1)
    assert connection.receive(DeviceBytes(ack * 300)) == [SendToBus(ack * 300), limited(), PauseDevice()]
    assert connection.receive(Tick()) == [PauseDevice()]
    assert connection.receive(Tick()) == [PauseDevice()]
    assert connection.receive(Tick()) == []


def test_long_properties_cost_by_their_length():
    """Two hundred user properties take ten times as long to read as the packet without."""
    world = context()
    connection = established(world, keep_alive=0, v5=True).connection
    plain, long = (
        raw.publish("other", b"", v5=True, props=b"\x26\0\1k\0\1v" * number) for number in (0, 200)
    )
    costs = []
    for packet in (plain, long):
        world.budgets.work.begin()
        connection.receive(DeviceBytes(packet))
        costs.append(world.budgets.work.done)
    assert costs[1] > 5 * costs[0]


def test_a_topic_costs_by_the_filters_of_the_token_that_it_is_compared_with():
    """A token may have as many as its roles: a refused message took a millisecond for the price of ten."""
    many = {action: tuple(f"ok/{number}/+" for number in range(1_000)) for action in ("publish", "subscribe")}
    costs = []
    for permissions in ({"publish": ("ok/#",), "subscribe": ("ok/#",)}, many):
        world = context()
        grant = Grant("t", "t", 0, 0, NOW, permissions)
        connection = established(world, keep_alive=0, grant=grant).connection
        for event in (
            DeviceBytes(raw.publish("other", b"")),
            DeviceBytes(raw.subscribe(1, ("other", 0))),
            BusBytes(raw.publish("other", b"")),
        ):
            world.budgets.work.begin()
            connection.receive(event)
            costs.append(world.budgets.work.done)
    assert all(dear - cheap > 400 for cheap, dear in zip(costs[:3], costs[3:], strict=True))


def test_a_subscribe_costs_by_its_filters_however_short_they_are():
    world = context()
    connection = established(world, keep_alive=0).connection
    costs = []
    for count in (1, 40):
        world.budgets.work.begin()
        connection.receive(DeviceBytes(raw.subscribe(1, *[("a", 0)] * count)))
        costs.append(world.budgets.work.done)
    assert costs[1] - costs[0] >= 39 * EFFORT_FILTER


def test_a_request_costs_by_its_size():
    world = context()
    connection = established(world, keep_alive=0).connection
    world.budgets.work.begin()
    connection.receive(DeviceBytes(raw.publish("gateway/encrypt", b"x" * 320_000)))
    assert world.budgets.work.done > 5_000


def test_a_long_chunk_is_paid_for_once_however_many_turns_it_takes():
    """A packet that came in pieces makes a chunk of megabytes; each slice of it was charged for all of it."""
    world = context(policy(messages_per_second=10_000_000))
    connection = established(world, keep_alive=0).connection
    long = raw.publish("ok", bytes(8 << 20))
    connection.receive(DeviceBytes(long[:-1]))
    cost, turns = 0, 0
    commands = [AwaitTurn()]
    event = DeviceBytes(long[-1:] + DENIED * 2_000)
    while commands and commands[-1] == AwaitTurn():
        world.budgets.work.begin()
        commands = connection.receive(event)
        cost, turns, event = cost + world.budgets.work.done, turns + 1, Turn()
    assert turns > 10
    assert cost < (len(long) >> 11) + 2_000 * 2 * EFFORT_DECODED


# Unfinished packets


def test_unfinished_packets_of_a_device_are_bounded_over_its_connections():
    """Sixty of 16 MiB each held a gigabyte."""
    world = context(policy(unfinished_bytes_per_device=10_000))
    packet = raw.publish("ok", b"x" * 4_000, v5=True)
    begun, rest = packet[:3_000], packet[3_000:]
    links = [established(world, keep_alive=0, v5=True).connection for _ in range(4)]
    ended = [react(link, DeviceBytes(begun)) for link in links]
    assert [bool(one) for one in ended] == [False, False, False, True]
    assert isinstance(ended[3][-1], Close)
    assert ended[3][0] == SendToDevice(raw.packet(0xE0, ended[3][0].data[2:]))
    assert ended[3][0].data[2] == 0x97
    assert world.budgets.work.held == 9_000
    # What has ended, or is whole, is free.
    react(links[0], DeviceLost())
    assert react(links[1], DeviceBytes(rest))[-1] == SendToBus(packet)
    assert world.budgets.work.held == 3_000


@pytest.mark.parametrize("rest", [1_000, LONG_BYTES + 1])
def test_a_packet_that_came_in_pieces_counts_until_its_turn_comes(rest):
    """A device that is over its second had each of its connections keep a whole packet beside the bound."""
    packet = raw.publish("ok/long", b"x" * (3_000 + rest))
    begun, rest = packet[:3_000], packet[3_000:]
    world = context(policy(unfinished_bytes_per_device=9_100 + 2 * len(rest), messages_per_second=100))
    links = [established(world, keep_alive=0).connection for _ in range(4)]
    for link in links[:3]:
        assert react(link, DeviceBytes(begun)) == []
    assert react(links[3], DeviceBytes(DENIED * 20))[-1] == PauseDevice()
    for number, link in enumerate(links[:2], 1):
        assert react(link, DeviceBytes(rest))[-1] == PauseDevice()
        assert world.budgets.work.held == 9_000 + number * len(rest)
    assert isinstance(react(links[2], DeviceBytes(rest))[-1], Close)
    for _ in range(4):
        said = [one for link in links[:2] for one in react(link, Tick())]
        if SendToBus(packet) in said:
            break
    assert world.budgets.work.held == 0


def test_unfinished_packets_of_all_devices_are_bounded():
    world = context(policy(unfinished_bytes=250_000))
    begun = raw.publish("ok", b"x" * 400_000)[:70_000]
    links = [
        established(world, keep_alive=0, device=_named(f"lamp-{number}")).connection for number in range(4)
    ]
    ended = [react(link, DeviceBytes(begun)) for link in links]
    assert [bool(one) for one in ended] == [False, False, False, True]


def test_unfinished_packets_of_the_bus_count_with_the_devices_own():
    world = context(policy(unfinished_bytes_per_device=10_000))
    begun = raw.publish("ok", b"x" * 40_000)[:6_000]
    links = [established(world, keep_alive=0).connection for _ in range(2)]
    assert react(links[0], BusBytes(begun)) == []
    assert isinstance(react(links[1], BusBytes(begun))[-1], Close)


def test_small_unfinished_packets_pass_whatever_a_few_devices_hold():
    """Four of them must not throw out whoever's packet comes in two chunks."""
    world = context(policy(unfinished_bytes=10_000, packet_size=400_000))
    big = raw.publish("ok", b"x" * 300_000)
    links = [
        established(world, keep_alive=0, device=_named(f"bad-{number}")).connection for number in range(2)
    ]
    ended = [react(link, DeviceBytes(big[:200_000])) for link in links]
    assert all(isinstance(one[-1], Close) for one in ended)
    world.budgets.work.held = 20_000
    honest = established(world, keep_alive=0, device=_named("good")).connection
    packet = raw.publish("ok", b"x" * 4_000)
    assert react(honest, DeviceBytes(packet[:3_000])) == []
    assert react(honest, DeviceBytes(packet[3_000:])) == [SendToBus(packet)]


# What a connection gives back


@pytest.mark.parametrize("v5", [False, True])
def test_a_connection_that_ends_by_what_came_early_is_counted_off_once(v5):
    world = context()
    connection = DeviceConnection(world)
    connection.receive(DeviceBytes(raw.connect("c", v5=v5, username="lamp-1", password="s") + b"\xf1\x00"))
    connection.receive(Authenticated(LAMP))
    commands = connection.receive(BusBytes(connack(v5=v5)))
    commands += [] if isinstance(commands[-1], Close) else react(connection, DeviceLost())
    assert isinstance(commands[-1], Close)
    assert world.budgets.join("lamp-1", LIMITS).connections == 1


def test_nothing_of_ours_follows_the_devices_goodbye():
    """[MQTT-3.14.4-1], also when both directions waited for the same turn."""
    world = context()
    connection = established(world, keep_alive=0).connection
    world.budgets.work.add(ITERATION_EFFORT)
    connection.receive(DeviceBytes(raw.publish("ok/a", b"1") + raw.DISCONNECT))
    connection.receive(BusBytes(raw.publish("other", b"1", qos=1, packet_id=7)))
    world.budgets.work.begin()
    first = connection.receive(Turn())
    assert first == [SendToBus(raw.publish("ok/a", b"1") + raw.DISCONNECT), AwaitTurn()]
    assert not any(isinstance(one, SendToBus) for one in connection.receive(Turn()))


def test_a_turn_takes_nothing_of_a_device_that_is_over_its_second():
    world = context(policy(messages_per_second=100))
    connection = established(world, keep_alive=0).connection
    assert connection.receive(DeviceBytes(OK * 20_000))[-1] == PauseDevice()
    world.budgets.work.begin()
    assert connection.receive(Turn()) == [PauseDevice()]


def test_nothing_more_is_read_of_a_connection_whose_turn_was_in_vain():
    """Its device was over its second by then: what waits grew by a chunk each second, for ever."""
    world = context(policy(messages_per_second=100))
    waits, other = (established(world, keep_alive=0).connection for _ in range(2))
    world.budgets.work.add(ITERATION_EFFORT)
    assert waits.receive(DeviceBytes(raw.publish("ok/a", b"1"))) == [AwaitTurn()]
    assert react(other, DeviceBytes(DENIED * 20))[-1] == PauseDevice()
    assert waits.receive(Turn()) == [PauseDevice()]
    for _ in range(3):
        commands = react(waits, Tick())
    assert commands == []


def test_what_the_bus_still_says_to_one_who_leaves_is_taken_second_by_second():
    world = context(policy(messages_per_second=100))
    connection = established(world, keep_alive=0).connection
    react(connection, DeviceBytes(raw.publish("ok", b"1", qos=1, packet_id=1) + b"\x36\x00"))
    flood = raw.publish("private/x", b"{}", qos=1, packet_id=1) * 20
    commands = react(connection, BusBytes(flood + raw.PINGRESP))
    for _ in range(5):
        if commands and isinstance(commands[-1], Close):
            break
        commands = react(connection, Tick())
    assert isinstance(commands[-1], Close)
    assert "did not close" not in commands[-1].why


# The arithmetic


def test_a_debt_is_carried_on_and_a_rest_is_not():
    budgets, counters = Budgets(), Counters()
    budget = budgets.join("one", LIMITS)
    budget.from_device.messages = 250
    budget.tick(-1, LIMITS, counters)
    assert budget.from_device.messages_left == -50
    budget.tick(-1, LIMITS, counters)
    assert budget.from_device.messages_left == 50
    budget.tick(-1, LIMITS, counters)
    assert budget.from_device.messages_left == 100
    assert counters.messages_from_devices == 250


def test_one_second_fills_it_once():
    budgets, counters = Budgets(), Counters()
    budget = budgets.join("one", LIMITS)
    for _ in range(5):
        budget.from_device.messages = 90
        budget.tick(7, LIMITS, counters)
    assert budget.from_device.messages_left == 100 - 4 * 90
    budget.tick(8, LIMITS, counters)
    assert budget.from_device.messages_left == 100 - 260


def test_budgets_of_devices_that_are_gone_are_dropped_in_time():
    budgets = Budgets()
    live = budgets.join("live", LIMITS)
    for number in range(5_000):
        budgets.join(f"gone-{number}", LIMITS).connections -= 1
    assert len(budgets._budgets) < 2_100
    assert budgets.join("live", LIMITS) is live


def test_what_is_held_is_refused_by_name():
    budget = Budgets().join("one", Limits(unfinished_bytes_per_device=10))
    with pytest.raises(LimitExceeded, match="the device"):
        budget.hold(11, budget.from_device.work)


def _named(device_id):
    return replace(LAMP, device_id=device_id)


def test_what_came_from_a_device_is_counted_by_its_budget():
    budgets = Budgets()
    one = budgets.join("lamp", Limits())
    one.from_device.messages, one.from_device.bytes = 3, 400
    assert budgets.received() == {"lamp": (0, 0)}
    one.count_up(Counters())
    one.from_device.messages, one.from_device.bytes = 1, 50
    one.count_up(Counters())
    assert budgets.received() == {"lamp": (4, 450)}
