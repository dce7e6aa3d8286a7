"""What passes by `passes` or `passes_to_device` alone leaves all as if each packet had been looked at."""

from __future__ import annotations

from functools import cache
from unittest.mock import patch

import pytest
from harness import raw
from harness.playbook import context, established, policy
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.connection.commands import AwaitTurn, Command, PauseDevice, SendToBus, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import BusBytes, DeviceBytes, Event, Tick, Turn
from gateway.connection.one_way_relay import Relay

DATA = (DeviceBytes, BusBytes)


limited = cache(policy)


def short(connection: DeviceConnection, event: Event) -> list[Command]:
    """As `DeviceSide` does it."""
    session = connection.established
    if session is not None:
        if isinstance(event, DeviceBytes) and session.passes(event.data):
            return [SendToBus(event.data)]
        if isinstance(event, BusBytes) and session.passes_to_device(event.data):
            return [SendToDevice(event.data)]
    return connection.receive(event)


def long(connection: DeviceConnection, event: Event) -> list[Command]:
    """All of it, and nothing is like the last message: to be called so."""
    return connection.receive(event)


def trace(way, version, limits, events):
    """What came of each event, and what was counted at the end."""
    on = context(limited(**limits))
    connection = established(on, v5=version, keep_alive=6).connection
    told = []
    paused = False
    for event in events:
        on.budgets.work.begin()
        if isinstance(event, Tick):
            paused = False
        elif paused and isinstance(event, DATA):
            continue  # nothing is read then
        commands = way(connection, event)
        while AwaitTurn() in commands:
            told.append(commands)
            on.budgets.work.begin()
            commands = way(connection, Turn())
        paused = paused or PauseDevice() in commands
        told.append(commands)
    session = connection._stage
    meters = session._meter, session._budget.from_bus
    counted = [(one.messages, one.bytes, one.effort, one.messages_left, one.bytes_left) for one in meters]
    both = session.upstream.ledger, session.upstream.other_ledger
    ledgers = [(one.passed1, one.acked1, one.waiting_answers) for one in both]
    sent = on.counters.bytes_to_devices, on.counters.messages_from_devices, on.counters.messages_to_devices
    return told, counted, ledgers, sent, (session.heartbeat.heard, session.heartbeat.silent)


@cache
def pieces(v5):
    messages = [
        raw.publish(topic, payload, qos=qos, packet_id=packet_id, v5=v5)
        for topic in ("ok", "ok/1", "other", "private/1")
        for payload in (b"1", b"2", b"longer")
        for qos, packet_id in ((0, 0), (1, 7), (1, 8), (1, 0))
    ]
    acks = [raw.ack(0x40, 7)] * 2 + [raw.ack(0x40, 9), raw.ack(0x50, 7)]
    return [*messages, *messages[:6], *acks, raw.PINGREQ, b"".join(messages[:4])]


KINDS = (Tick, *[DeviceBytes] * 5, *[BusBytes] * 4)
PLACES = (*range(12), 16, *range(-12, 0))
"""Of the one in a chunk that differs: near its beginning, near its end, and between."""
NUMBERS = st.integers(0, len(KINDS) * 60 * 8 * 2 * len(PLACES) * 60 - 1)
"""Each stands for something that happens: one draw for all that is chosen, for draws are what takes long."""


def happening(number, v5):
    """The events that a number stands for."""

    def choose(some):
        nonlocal number
        number, which = divmod(number, len(some))
        return some[which]

    event, known = choose(KINDS), pieces(v5)
    if event is Tick:
        return [Tick()]
    if event is BusBytes:
        # What the bus says: what it delivers of the allowed, and acknowledgements.
        known = [one for one in known if one != raw.PINGREQ]
    chunk, together = choose(known), choose((0, 0, 2, 3, 31, 32, 33, 40))
    if together:
        # Some of the same kind in one chunk, one of which may be another.
        several = [chunk] * together
        if choose((False, True)):
            place, other = choose(PLACES), choose(known)
            several[place % together] = other
        return [event(b"".join(several))]
    times, cut = choose((1, 2, 3, 4)), choose((0, 0, 0, 1, 5))
    if cut:
        chunk = chunk * times
        return [event(chunk[:cut]), event(chunk[cut:])] if len(chunk) > cut else [event(chunk)]
    return [event(chunk)] * times


@pytest.mark.parametrize("v5", [False, True])
@settings(max_examples=500)
@given(
    numbers=st.integers(1, 40).flatmap(lambda count: st.lists(NUMBERS, min_size=count, max_size=count)),
    limits=st.sampled_from(
        [{}, {"messages_per_second": 5}, {"messages_per_second": 35}, {"bytes_per_second": 60}]
    ),
)
def test_the_short_way_and_the_long_one_give_and_count_the_same(v5, numbers, limits):
    events = [event for number in numbers for event in happening(number, v5)]
    told = trace(short, v5, limits, events)
    with patch.object(Relay, "takes_fast_path", lambda *_: False):
        assert told == trace(long, v5, limits, events)


def test_there_are_as_many_pieces_as_a_number_tells_apart():
    assert [len(pieces(v5)) for v5 in (False, True)] == [60, 60]


@pytest.mark.parametrize("qos", [0, 1])
def test_most_chunks_go_the_short_way(qos):
    connection = established().connection
    message = raw.publish("ok", b"1", qos=qos, packet_id=7 if qos else 0)
    assert connection.established is not None
    assert not connection.established.passes(message)  # nothing was judged yet
    assert connection.receive(DeviceBytes(message)) == [SendToBus(message)]
    assert connection.established.passes(message)
    assert connection.established.passes_to_device(raw.ack(0x40, 7))


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("packet", [raw.publish("ok", b"1"), raw.ack(0x40, 7)])
def test_the_short_way_ends_where_the_second_is_spent(packet, together):
    """Acknowledgements too: sent one by one, they would pass without any bound."""
    connection = established(context(policy(messages_per_second=5))).connection
    connection.receive(DeviceBytes(raw.publish("ok", b"1")))
    connection.receive(Tick())
    chunk = packet * together
    for _ in range(5 // together):
        assert connection.established.passes(chunk)
    assert not connection.established.passes(chunk)
    assert PauseDevice() in connection.receive(DeviceBytes(chunk))


@pytest.mark.parametrize("packet", [raw.publish("ok", b"1"), raw.ack(0x40, 7)])
def test_many_in_one_chunk_wait_for_their_turn(packet):
    session = established().connection.established
    session.device_bytes(DeviceBytes(raw.publish("ok", b"1")))
    assert session.passes(packet * 32)
    assert not session.passes(packet * 33)


def test_there_is_no_short_way_before_the_connack_and_after_the_end():
    book = established()
    message = raw.publish("ok", b"1")
    assert book >> DeviceBytes(message) << SendToBus(message)
    assert book >> DeviceBytes(raw.packet(0xE0)) << SendToBus(raw.packet(0xE0))
    assert book.connection.established is None
    assert DeviceConnection(context()).established is None
