"""A port for HTTP, over real sockets and real TLS, on both event loops."""

import asyncio
import contextlib
import json
import os
import resource
import socket
import ssl

import pytest
import structlog
import trustme
import uvloop
from harness.background_tasks import until

from gateway.config import Address
from gateway.http import server as http_server
from gateway.net import acceptor
from gateway.net.tasks import Tasks

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CA = trustme.CA()


# The gateway runs on the second.
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def server_side(authority=CA):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


def client_side(authority=CA):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


LOOPBACK = Address("127.0.0.1", 0)


class Application:
    """Answers `hello`; what it does before that is up to the test."""

    def __init__(self, size=5):
        self.size = size
        self.before = None
        self.asked = 0

    async def __call__(self, scope, receive, send):
        self.asked += 1
        if self.before is not None:
            await self.before(receive)
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(self.size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello".ljust(self.size, b".")})


@pytest.fixture
async def served(monkeypatch):
    """Start a port: `served(application, tls=…, connections=…)`."""
    # What a test waits for must not come by the passing of time.
    for deadline in ("HANDSHAKE_DEADLINE", "REQUEST_DEADLINE", "ANSWER_DEADLINE"):
        monkeypatch.setattr(http_server, deadline, 100.0)
    opened = []
    tasks = Tasks()

    async def serve(application=None, **options):
        options = {"connections": 8, "connections_per_address": 8} | options
        opened.append(
            await http_server.serve(
                application or Application(), [Address("127.0.0.1", 0)], start=tasks.start, **options
            )
        )
        return opened[-1]

    with structlog.testing.capture_logs() as lines:
        serve.lines = lines
        yield serve
        for one in opened:
            await one.close()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def dial(server, tls=None, **options):
    return await asyncio.open_connection("127.0.0.1", server.acceptor.port, ssl=tls, **options)


async def ends(reader):
    """What still comes until the server ends the connection."""
    received = b""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while chunk := await reader.read(65_536):
                received += chunk
    return received


async def ask(server, request=GET, tls=None, **options):
    reader, writer = await dial(server, tls, **options)
    writer.write(request)
    answer = await ends(reader)
    writer.close()
    return answer


@pytest.mark.parametrize("secure", [False, True])
async def test_one_answer_with_its_headers_and_the_end(served, secure):
    server = await served(tls=server_side() if secure else None)
    answer = await ask(server, tls=client_side() if secure else None)
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    assert status == "HTTP/1.1 200 OK"
    assert body == b"hello"
    assert sorted(headers) == [
        "connection: close",
        "content-length: 5",
        "content-security-policy: default-src 'none'",
        "content-type: text/plain",
        "referrer-policy: no-referrer",
        "x-content-type-options: nosniff",
    ]


async def test_what_is_sent_behind_a_request_is_not_looked_at(served):
    application = Application()
    server = await served(application)
    answer = await ask(server, GET + b"POST /smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + GET)
    assert answer.count(b"HTTP/1.1") == 1
    assert application.asked == 1


RUBBISH = {
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "a head without end": b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000,
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a length and chunks": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a line folded with NUL": b"GET / HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
}


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
@pytest.mark.parametrize("secure", [False, True])
async def test_rubbish_is_refused_without_a_log_line(served, caplog, rubbish, secure):
    application = Application()
    server = await served(application, tls=server_side() if secure else None)
    answer = await ask(server, rubbish, client_side() if secure else None)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nx-content-type-options: nosniff\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "invalid_request"
    assert (application.asked, served.lines, caplog.records) == (0, [], [])


async def read_all(receive):
    while (await receive()).get("more_body"):
        pass


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("when", ["at once", "while it is read", "after the answer"])
@pytest.mark.parametrize("secure", [False, True])
async def test_a_chunk_that_is_none_ends_the_request(served, caplog, when, secure):
    application = Application()
    application.before = read_all if when == "while it is read" else None
    server = await served(application, tls=server_side() if secure else None)
    reader, writer = await dial(server, client_side() if secure else None)
    if when == "at once":
        writer.write(CHUNKED + b"none\r\n")
    else:
        writer.write(CHUNKED + b"3\r\nabc\r\n")
        if when == "after the answer":
            assert await reader.readuntil(b"hello")
        else:
            await until(lambda: application.asked)
        writer.write(b"none\r\n")
    answer = await ends(reader)
    writer.close()
    if when == "after the answer":
        assert answer == b""
    else:
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.count(b"HTTP/1.1") == 1
    assert (served.lines, caplog.records) == ([], [])


@pytest.mark.parametrize("secure", [False, True])
async def test_a_body_in_thousands_of_chunks_is_not_read(served, secure):
    """Each costs the loop as much as a long one, and all of them are there at once."""
    application = Application()
    application.before = read_all
    server = await served(application, tls=server_side() if secure else None)
    chunks = b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n"
    assert b"hello" not in await ask(server, CHUNKED + chunks, client_side() if secure else None)
    few = b"1\r\na\r\n" * 100 + b"0\r\n\r\n"
    assert b"hello" in await ask(server, CHUNKED + few, client_side() if secure else None)


@pytest.fixture
def looked_at(monkeypatch):
    """What the parser under ours gave, in the order it did."""
    given = []
    plain = http_server.h11.Connection.next_event

    def counted(self):
        given.append(plain(self))
        return given[-1]

    monkeypatch.setattr(http_server.h11.Connection, "next_event", counted)
    return given


@pytest.mark.parametrize("secure", [False, True])
async def test_of_what_comes_at_once_few_parts_are_looked_at(served, secure, looked_at):
    """The kind: two hundred strangers send theirs in the same turn of the loop."""
    server = await served(tls=server_side() if secure else None)
    assert b"hello" not in await ask(server, CHUNKED + b"1\r\na\r\n" * 400, client_side() if secure else None)
    assert len(looked_at) == 128


MANY_LINES = {
    "of a head": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x: y\r\n" * 2_000 + b"\r\n",
    "of a head longer than one": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
    "of a head that does not end": b"GET / HTTP/1.1\nHost: x\n" + b"x: y\n" * 2_000,
    "that are folded": b"GET / HTTP/1.1\r\nHost: x\r\nx: y\r\n" + b" y\r\n" * 2_000 + b"\r\n",
}


@pytest.mark.parametrize("lines", MANY_LINES.values(), ids=MANY_LINES)
@pytest.mark.parametrize("secure", [False, True])
async def test_a_head_of_many_lines_is_refused_before_it_is_looked_at(served, lines, secure, looked_at):
    application = Application()
    server = await served(application, tls=server_side() if secure else None)
    answer = await ask(server, lines, client_side() if secure else None)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert (application.asked, looked_at) == (0, [])


async def test_a_head_of_as_many_lines_as_browsers_send_is_taken_however_it_comes(served):
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x: y\r\n" * 120
    server = await served()
    assert (await ask(server, head + b"\r\n")).endswith(b"hello")
    reader, writer = await dial(server)
    for piece in (head, b"\r", b"\n"):
        writer.write(piece)
        await asyncio.sleep(0.01)
    assert (await ends(reader)).endswith(b"hello")
    writer.close()


async def test_a_trailer_of_many_lines_is_refused_and_a_body_of_many_is_not(served, looked_at):
    application = Application()
    application.before = read_all
    server = await served(application)
    assert b"hello" not in await ask(server, CHUNKED + b"0\r\n" + b"x: y\r\n" * 2_000 + b"\r\n")
    assert not any(isinstance(one, http_server.h11.EndOfMessage) for one in looked_at)
    assert b"hello" in await ask(server, CHUNKED + b"0\r\nx: y\r\n\r\n")
    body = b"\n" * 2_000
    assert b"hello" in await ask(server, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + body)


async def test_plain_http_on_a_tls_port_gets_no_answer(served, caplog):
    application = Application()
    server = await served(application, tls=server_side())
    assert b"HTTP" not in await ask(server)
    assert (application.asked, served.lines, caplog.records) == (0, [], [])
    assert await ask(server, tls=client_side())


async def test_who_is_answered_early_can_send_all_and_read_the_answer(served):
    for tls, trust in ((None, None), (server_side(), client_side())):
        server = await served(tls=tls)

        def send_then_read(port=server.acceptor.port, trust=trust):
            with socket.create_connection(("127.0.0.1", port), 20) as plain:
                peer = plain if trust is None else trust.wrap_socket(plain, server_hostname="localhost")
                with peer:
                    peer.sendall(
                        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + bytes(900_000)
                    )
                    return peer.recv(65_536)

        answer = await asyncio.to_thread(send_then_read)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_who_never_stops_sending_is_left(served):
    server = await served()
    _, writer = await dial(server)
    writer.write(CHUNKED)
    sent = 0
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"10000\r\n" + bytes(65_536) + b"\r\n")
                sent += 65_536
                await writer.drain()
                await asyncio.sleep(0)
    writer.close()
    # What is dropped, and what the sockets of both sides hold.
    assert sent < 32 * 2**20


SLOW = {
    "nothing": b"",
    "half a head": b"GET / HTTP/1.1\r\nX: ",
    "half a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
}


@pytest.mark.parametrize("first", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("secure", [False, True])
async def test_a_slow_peer_is_cut_off_however_busy_it_seems(served, monkeypatch, first, secure):
    monkeypatch.setattr(http_server, "REQUEST_DEADLINE", 0.3)
    application = Application()
    application.before = read_all
    server = await served(application, tls=server_side() if secure else None)
    reader, writer = await dial(server, client_side() if secure else None)
    writer.write(first)

    async def drip():
        while not writer.is_closing():
            writer.write(b"a")
            await asyncio.sleep(0.01)

    dripping = asyncio.ensure_future(drip())
    answer = await ends(reader)
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    writer.close()
    assert answer == b""


async def test_a_peer_that_says_nothing_where_tls_begins_is_cut_off(served, monkeypatch):
    monkeypatch.setattr(http_server, "HANDSHAKE_DEADLINE", 0.1)
    server = await served(tls=server_side())
    reader, writer = await dial(server)
    assert await ends(reader) == b""
    writer.close()
    assert await ask(server, tls=client_side())


async def test_an_answer_may_take_longer_than_a_request(served, monkeypatch):
    monkeypatch.setattr(http_server, "REQUEST_DEADLINE", 0.1)
    application = Application()

    async def wait(_):
        await asyncio.sleep(0.3)

    application.before = wait
    assert (await ask(await served(application))).endswith(b"hello")


async def test_a_peer_that_does_not_read_is_cut_off(served, monkeypatch):
    monkeypatch.setattr(http_server, "ANSWER_DEADLINE", 0.3)
    server = await served(Application(64 * 2**20), connections=1)
    _, writer = await dial(server, limit=1)
    writer.write(GET)
    # The one place is free again: whoever asks gets in.
    async with asyncio.timeout(20):
        while True:
            other, its = await dial(server)
            its.write(GET)
            with contextlib.suppress(ConnectionError):
                if await other.read(1):
                    break
            its.close()
            await asyncio.sleep(0.05)
    its.close()
    writer.close()


async def test_the_oldest_who_asked_for_nothing_makes_room(served):
    application = Application()
    release = asyncio.Event()

    async def wait(_):
        await release.wait()

    application.before = wait
    server = await served(application, connections=3)
    asking, its_writer = await dial(server)
    its_writer.write(GET)
    await until(lambda: application.asked == 1)
    old, old_writer = await dial(server)
    new, new_writer = await dial(server)
    newest, newest_writer = await dial(server)
    assert await ends(old) == b""
    for writer in (new_writer, newest_writer):
        writer.write(GET)
    await until(lambda: application.asked == 3)
    # All of them wait for an answer now: nobody else gets in.
    late, late_writer = await dial(server)
    assert await ends(late) == b""
    release.set()
    for reader in (asking, new, newest):
        assert (await ends(reader)).endswith(b"hello")
    for writer in (its_writer, old_writer, new_writer, newest_writer, late_writer):
        writer.close()


async def test_who_was_answered_and_stays_makes_room(served, monkeypatch):
    monkeypatch.setattr(acceptor, "_SHUTDOWN_DEADLINE", 100.0)
    server = await served(tls=server_side(), connections=1)

    def ask_and_stay():
        plain = socket.create_connection(("127.0.0.1", server.acceptor.port), 20)
        peer = client_side().wrap_socket(plain, server_hostname="localhost")
        peer.sendall(GET)
        # The goodbye is behind the answer, and stays unread and unanswered.
        assert peer.recv(1)
        return peer

    with await asyncio.to_thread(ask_and_stay):
        assert (await ask(server, tls=client_side())).endswith(b"hello")


@pytest.mark.parametrize("secure", [False, True])
async def test_one_address_can_not_take_all_places_nor_shut_itself_out(served, secure):
    """The kind: silent peers who take places. The oldest of the same address goes, and nobody else's."""
    server = await served(connections=8, connections_per_address=2, tls=server_side() if secure else None)
    trust = client_side() if secure else None
    other, its_writer = await dial(server, local_addr=("127.0.0.2", 0))
    # Without a TLS hello on a TLS port: a handshake takes a place too.
    silent = [await dial(server) for _ in range(6)]
    for reader, writer in silent[:4]:
        assert await ends(reader) == b""
        writer.close()
    assert await ask(server, tls=trust)
    assert not other.at_eof()
    assert len(server._open) <= 3
    for writer in (its_writer, *(writer for _, writer in silent[4:])):
        writer.close()


async def test_who_asks_at_once_is_read_before_others_crowd_it_out(served):
    """The kind: a probe of /health, and hundreds of silent peers who all came before the loop looked."""
    server = await served(connections=64, connections_per_address=64)
    with contextlib.ExitStack() as silent:

        def come(count):
            return [
                silent.enter_context(socket.create_connection(("127.0.0.1", server.acceptor.port), 20))
                for _ in range(count)
            ]

        come(60)
        (probe,) = come(1)
        probe.sendall(GET)
        come(160)
        probe.setblocking(False)
        answer = b""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while chunk := await asyncio.get_running_loop().sock_recv(probe, 65_536):
                    answer += chunk
        assert answer.endswith(b"hello")


async def test_of_a_full_port_the_largest_crowd_makes_room(served):
    """Strangers from some addresses, each with less than its share: not the one who came first and alone."""
    server = await served(connections=8, connections_per_address=8)
    alone, its_writer = await dial(server, local_addr=("127.0.0.2", 0))
    silent = [await dial(server, local_addr=(f"127.0.0.{3 + number % 2}", 0)) for number in range(20)]
    for reader, writer in silent[:10]:
        assert await ends(reader) == b""
        writer.close()
    its_writer.write(GET)
    assert (await ends(alone)).endswith(b"hello")
    for writer in (its_writer, *(writer for _, writer in silent[10:])):
        writer.close()


async def test_another_certificate_is_for_new_connections(served):
    other = trustme.CA()
    server = await served(tls=server_side())
    reader, writer = await dial(server, client_side())
    server.acceptor.tls = server_side(other)
    assert await ask(server, tls=client_side(other))
    with pytest.raises(ssl.SSLError):
        await ask(server, tls=client_side())
    writer.write(GET)
    assert (await ends(reader)).endswith(b"hello")
    writer.close()


async def test_closing_ends_who_waits_who_asks_and_who_shakes_hands(served, caplog):
    application = Application()

    async def wait(_):
        await asyncio.Event().wait()

    application.before = wait
    server = await served(application, tls=server_side())
    trust = client_side()
    silent, idle, asking = await dial(server), await dial(server, trust), await dial(server, trust)
    asking[1].write(GET)
    await until(lambda: application.asked == 1)
    await server.close()
    for reader, writer in (silent, idle, asking):
        assert await ends(reader) == b""
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await dial(server)
    assert (served.lines, caplog.records) == ([], [])


@pytest.mark.parametrize("secure", [False, True])
async def test_who_is_ended_before_its_handshake_began_keeps_nothing(served, secure):
    """A task that is cancelled before its first step does not get to close what it was given."""
    server = await served(tls=server_side() if secure else None)
    peer, other = socket.socketpair()
    peer.setblocking(False)
    server.acceptor._take_in(peer, Address("192.0.2.1", 7))
    (connection,) = server._open
    connection.end()
    await asyncio.sleep(0.01)
    assert len(server._open) == 0
    assert peer.fileno() == -1
    other.close()


async def test_closing_lets_an_answer_leave(served):
    application = Application()
    release = asyncio.Event()

    async def wait(_):
        await release.wait()

    application.before = wait
    server = await served(application)
    reader, writer = await dial(server)
    writer.write(GET)
    await until(lambda: application.asked == 1)
    closing = asyncio.ensure_future(server.close())
    await until(lambda: not server.acceptor.is_open)
    release.set()
    assert (await ends(reader)).endswith(b"hello")
    await closing
    writer.close()


async def test_without_file_descriptors_it_says_so_and_goes_on_later(served):
    server = await served()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as peer:
        peer.settimeout(20)
        highest = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(highest, peer.fileno()) + 1, limits[1]))
        try:
            filler = []
            with contextlib.suppress(OSError):
                while True:
                    filler.append(os.dup(0))
            peer.connect(("127.0.0.1", server.acceptor.port))
            await until(lambda: served.lines)
        finally:
            for descriptor in filler:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        peer.sendall(GET)
        assert (await asyncio.to_thread(peer.recv, 65_536)).startswith(b"HTTP/1.1 200")
    assert [line["event"] for line in served.lines] == ["can't accept connections"]


async def test_an_address_that_can_not_be_had_is_an_error():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="listens there already"),
    ):
        await http_server.serve(
            Application(),
            [Address("127.0.0.1", taken.getsockname()[1])],
            start=Tasks().start,
            connections=1,
            connections_per_address=1,
        )
