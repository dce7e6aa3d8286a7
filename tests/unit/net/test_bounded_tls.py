"""TLS records that yield nothing, without a socket: counted bytes and records, no seconds."""

from __future__ import annotations

import itertools
import ssl
import time

import pytest
import trustme
from harness.crafted_tls_records import client_records

from gateway.connection.device_budgets import ITERATION_EFFORT
from gateway.net import bounded_tls, tls_portions
from gateway.net.bounded_tls import UNPRODUCTIVE_MAX
from gateway.net.tls_contexts import BoundedSSLContext
from gateway.net.tls_record_counter import TooLittleData

CA = trustme.CA()
SERVER = CA.issue_cert("localhost")


class Transport:
    """What the loop gives a connection to hold on to."""

    def __init__(self) -> None:
        self.closing = False
        self.paused = 0

    def set_read_buffer_limits(self, *_limits: int) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        pass


@pytest.fixture
def side():
    """A server's connection whose handshake is done, and the client's records for it."""
    context = BoundedSSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    SERVER.configure_cert(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    trust = ssl.create_default_context()
    CA.configure_trust(trust)
    client = client_records(trust, server.do_handshake, incoming, outgoing)
    server.handshake_done(Transport())
    return server, client, incoming


def turns(server, most=1_000):
    """Turn after turn, until it is over with."""
    for _ in range(most):
        read(server)
        server._go_on()


def read(server):
    """All that it gives in a turn."""
    found = b""
    while True:
        try:
            chunk = server.read(1 << 18)
        except ssl.SSLWantReadError:
            return found
        if not chunk:
            return found
        found += chunk


def grow(side):
    """Have it known, and its portions as large as they get."""
    server, client, incoming = side
    server.peer_is_authenticated()
    for _ in range(8):
        incoming.write(b"".join(client.record(bytes(8_000)) for _ in range(8)))
        turns(server, 8)
    assert server._portion > 60_000


async def test_a_stranger_may_not_send_key_updates(side):
    server, client, incoming = side
    incoming.write(b"".join(client.key_update() for _ in range(10_000)))
    with pytest.raises(TooLittleData):
        turns(server)
    assert server._counter.records < 30, "more of them were undone than it takes to know"


async def test_a_strangers_turn_has_an_end(side):
    server, client, incoming = side
    incoming.write(b"".join(client.record(b"x" * 64) for _ in range(1_000)))
    assert len(read(server)) <= 64 * (64 + 1)
    assert server._is_awaiting_turn


@pytest.mark.parametrize("size", [1, 2, 500])
async def test_an_honest_strangers_connect_passes_however_it_is_cut(side, size):
    server, client, incoming = side
    connect = bytes(700)
    found = b""
    for at in range(0, len(connect), size):
        incoming.write(client.record(connect[at : at + size]))
        found += read(server)
    assert found == connect


async def test_an_authenticated_peer_may_not_send_key_updates_for_ever(side):
    server, client, incoming = side
    server.peer_is_authenticated()
    sent = 0

    def flood():
        nonlocal sent
        for _ in range(100):
            records = b"".join(client.key_update() for _ in range(100))
            incoming.write(records)
            sent += len(records)
            turns(server, 5)

    with pytest.raises(TooLittleData):
        flood()
    assert sent < 3 * bounded_tls.UNPRODUCTIVE_MAX


async def test_an_authenticated_peers_key_updates_are_not_undone_all_at_once(side):
    """A quarter of a megabyte of them was one call to OpenSSL, and a third of a second."""
    server, client, incoming = side
    server.peer_is_authenticated()
    incoming.write(b"".join(client.key_update() for _ in range(9_000)))
    before = incoming.pending
    assert read(server) == b""
    assert before - incoming.pending < bounded_tls.UNPRODUCTIVE_MAX, "more than a turn's worth"
    with pytest.raises(TooLittleData):
        turns(server)
    assert before - incoming.pending < 2 * bounded_tls.UNPRODUCTIVE_MAX


@pytest.mark.parametrize("size", [2, 20, 300, 16_000])
async def test_an_authenticated_peer_that_says_something_goes_on(side, size):
    """One short packet a record, which is what small devices send; now and then a KeyUpdate."""
    server, client, incoming = side
    server.peer_is_authenticated()
    for number in range(2_000):
        incoming.write(client.record(bytes(size)))
        if number % 100 == 0:
            incoming.write(client.key_update())
        assert len(read(server)) == size


async def test_openssl_is_not_asked_when_it_has_taken_all(side):
    server, client, incoming = side
    server.peer_is_authenticated()
    asked, take = [], server._take

    def counted(size):
        asked.append(size)
        return take(size)

    server._take = counted
    incoming.write(client.record(b"one") + client.record(b"two"))
    assert read(server) == b"onetwo"
    assert len(asked) == 2
    whole = client.record(b"three")
    incoming.write(whole[:10])
    assert read(server) == b""
    incoming.write(whole[10:] + client.record(b"four"))
    assert read(server) == b"threefour"


class Purse:
    """Pays a turn's worth (`gateway.connection.device_budgets`), and counts the turns."""

    def __init__(self):
        self.effort = self.spent = self.turns = 0

    @property
    def must_wait(self):
        return self.spent >= ITERATION_EFFORT

    def spend(self, effort, in_iteration):
        self.effort += effort
        self.spent += max(in_iteration, 0)

    def wait(self, go_on):
        del go_on
        self.spent, self.turns = 0, self.turns + 1


async def test_half_a_record_is_not_taken_for_nothing_while_all_are_careful(side):
    """With portions of half a record each cost its honest peer a turn, and a copy of all that waited."""
    server, client, incoming = side
    purse = Purse()
    server.peer_is_authenticated(purse)
    server._cap.portion_took(1.0)
    assert server._cap.portion_max == tls_portions.PORTION_CAREFUL
    incoming.write(b"".join(client.record(bytes(16_000)) for _ in range(40)))
    found = 0
    while found < 40 * 16_000:
        found += len(read(server))
        server._go_on()
    assert purse.turns < 20


async def test_a_stream_that_is_read_in_pieces_of_any_size_leaves_the_turn_to_others(side):
    """Kind: the rest of a record that is not whole yet counted as if it had yielded nothing, at each read."""
    server, client, incoming = side
    grow(side)
    purse = Purse()
    server.peer_is_authenticated(purse)
    stream = b"".join(client.record(bytes(16_384)) for _ in range(200))
    found = 0
    for at in range(0, len(stream), 250_000):
        incoming.write(stream[at : at + 250_000])
        found += len(read(server))
        purse.spent = 0  # the next turn of the loop
    assert found == 200 * 16_384
    assert purse.turns == 0
    assert purse.effort < 20_000


async def test_the_first_long_records_of_a_peer_leave_the_turn_to_others(side):
    """Kind: as above. A hundred devices that began to send at once took thirty turns each."""
    server, client, incoming = side
    purse = Purse()
    server.peer_is_authenticated(purse)
    incoming.write(b"".join(client.record(bytes(16_384)) for _ in range(4)))
    assert len(read(server)) == 4 * 16_384
    assert purse.turns == 0


async def test_what_yields_nothing_in_a_first_portion_counts_for_the_turn_as_a_whole(side):
    server, client, incoming = side
    purse = Purse()
    server.peer_is_authenticated(purse)
    incoming.write(b"".join(client.key_update() for _ in range(200)))
    assert read(server) == b""
    assert purse.turns == 1
    assert purse.effort >= ITERATION_EFFORT


async def test_what_yields_nothing_counts_for_the_turn_as_a_whole(side):
    server, client, incoming = side
    grow(side)
    purse = Purse()
    server.peer_is_authenticated(purse)
    incoming.write(b"".join(client.key_update() for _ in range(100)))
    assert read(server) == b""
    assert purse.spent >= 2_000


def test_after_one_that_was_slow_portions_grow_again_step_by_step(monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(tls_portions.time, "monotonic", lambda: now[0])
    cap = tls_portions.PortionCap()
    cap.portion_took(0.002)
    assert cap.portion_max == tls_portions.PORTION_MAX
    found = []
    cap.portion_took(0.004)
    for later in (0, 9, 2, 500, 101):
        now[0] += later
        cap.relax()
        found.append(cap.portion_max)
    careful, usual = tls_portions.PORTION_CAREFUL, tls_portions.PORTION_USUAL
    assert found == [careful, careful, usual, usual, tls_portions.PORTION_MAX]


@pytest.mark.parametrize("hours", [0, 1])
async def test_who_is_thrown_out_makes_all_careful(side, hours):
    """However long it has been quiet: what is forgiven has a bound."""
    server, client, incoming = side
    grow(side)
    server._forgiven_at -= hours * 3_600
    incoming.write(b"".join(client.key_update() for _ in range(2_000)))
    with pytest.raises(TooLittleData):
        read(server)
    assert server._cap.portion_max == tls_portions.PORTION_CAREFUL


async def test_a_busy_machine_is_no_reason_to_be_careful(side, monkeypatch):
    """The process was not run for a while: that is no work of this peer's."""
    server, client, incoming = side
    server.peer_is_authenticated()
    clock = itertools.count()
    monkeypatch.setattr(bounded_tls.time, "perf_counter", lambda: float(next(clock)))
    record = client.record(bytes(16_000))
    incoming.write(record[:8_000])
    assert read(server) == b""
    incoming.write(record[8_000:])
    turns(server, 5)
    assert server._cap.portion_max == tls_portions.PORTION_MAX


async def test_a_record_in_pieces_is_no_reason(side):
    server, client, incoming = side
    server.peer_is_authenticated()
    for _ in range(20):
        record = client.record(bytes(16_000))
        found = b""
        for at in range(0, len(record), 100):
            incoming.write(record[at : at + 100])
            found += read(server)
        assert len(found) == 16_000


def test_after_our_goodbye_nothing_is_undone(side):
    server, client, incoming = side
    server.peer_is_authenticated()
    server.stop_decrypting()
    server._transport.closing = True
    records = b"".join(client.record(b"x" * 100) for _ in range(500))
    incoming.write(records)
    assert read(server) == b""
    assert incoming.pending == 0
    incoming.write(records)
    with pytest.raises(ssl.SSLWantReadError):
        server.unwrap()
    assert incoming.pending == 0

    def flood():
        for _ in range(100):
            incoming.write(records)
            read(server)

    with pytest.raises(TooLittleData):
        flood()


async def test_data_before_a_fault_is_not_lost(side):
    server, client, incoming = side
    server.peer_is_authenticated()
    records = b"".join(client.record(b"x" * 1_000) for _ in range(10))
    incoming.write(records + b"\x17\x03\x03\x00\x20" + bytes(32))
    assert server.read(1 << 18) == b"x" * 10_000
    with pytest.raises(ssl.SSLError, match=r"(?i)mac|decrypt"):
        server.read(1 << 18)


@pytest.mark.parametrize("behind", [b"", b"next"])
async def test_data_before_too_little_data_is_not_lost(side, behind):
    server, client, incoming = side
    server.peer_is_authenticated()
    incoming.write(client.record(b"first"))
    assert read(server) == b"first"
    server._unproductive, server._forgiven_at = (
        UNPRODUCTIVE_MAX - 10,
        time.monotonic() + 60,
    )  # nothing is forgiven
    incoming.write(client.key_update() + client.record(b"last") + (client.record(behind) if behind else b""))
    assert server.read(1 << 18) == b"last" + behind
    with pytest.raises(TooLittleData):
        server.read(1 << 18)


async def test_an_authenticated_peers_small_records_are_not_undone_all_at_once(side):
    """Each yields a byte and is paid for, but thousands of them on each of sixty connections take long."""
    server, client, incoming = side
    grow(side)
    incoming.write(b"".join(client.record(b"x") for _ in range(2_600)))
    assert len(read(server)) <= 300
    assert server._is_awaiting_turn
    found = 0
    for _ in range(100):
        server._go_on()
        found += len(read(server))
    assert found >= 2_300
    assert not server._is_awaiting_turn


async def test_the_peers_end_behind_many_small_records_comes_last(side):
    server, client, incoming = side
    grow(side)
    incoming.write(b"".join(client.record(b"x") for _ in range(1_000)) + client.record(b"\1\0", kind=21))
    found = b""
    for _ in range(100):
        found += read(server)
        server._go_on()
    assert found == b"x" * 1_000
    assert server.read() == b""


class Spent:
    """The account of a device that has had its turn, by another of its connections."""

    must_wait = True

    def wait(self, go_on):
        pass


async def test_connections_whose_portions_have_grown_take_turns_all_the_same(side):
    """What one of them spends, the next one that comes in the same turn finds spent."""
    server, client, incoming = side
    grow(side)
    server.peer_is_authenticated(Spent())
    incoming.write(b"".join(client.key_update() for _ in range(500)))
    waiting = incoming.pending
    assert read(server) == b""
    assert incoming.pending == waiting
    assert server._is_awaiting_turn


async def test_who_sent_what_yields_nothing_waits_with_a_few_bytes_too(side):
    """Kind: a bound that is asked of large reads only, and sixty connections that make small ones."""
    server, client, incoming = side
    grow(side)
    incoming.write(b"".join(client.key_update() for _ in range(200)))
    assert read(server) == b""
    server.peer_is_authenticated(Spent())
    incoming.write(b"".join(client.key_update() for _ in range(10)))
    waiting = incoming.pending
    assert read(server) == b""
    assert incoming.pending == waiting
