"""Checks of other services, over real sockets."""

import asyncio

import pytest

from bench.ports import free_port
from gateway.http.outbound_probes import ask_page, ask_port
from gateway.system.ip_address_blocks import Address


@pytest.fixture
async def answering():
    """A server that says one thing to whoever comes, and keeps what it was asked."""
    servers, asked = [], []

    async def open_server(answer):
        async def serve(reader, writer):
            asked.append(await reader.read(4_096))
            writer.write(answer)
            writer.close()

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return servers[-1].sockets[0].getsockname()[1]

    yield open_server, asked
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", (True, "it answers 200")),
        (b"HTTP/1.0 204\r\n\r\n", (True, "it answers 204")),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1/\r\n\r\n", (False, "it answers 301")),
        (b"HTTP/1.1 503 Unavailable\r\n\r\n", (False, "it answers 503")),
        (b"220 mail.example.org\r\n", (False, "it is reached, and does not answer in HTTP")),
        (b"", (False, "it is reached, and does not answer in HTTP")),
        (b"x" * 100_000, (False, "it is reached, and does not answer in HTTP")),
    ],
)
async def test_a_page(answering, answer, expected):
    open_server, asked = answering
    port = await open_server(answer)
    assert await ask_page(f"http://127.0.0.1:{port}/health?deep=1") == expected
    assert asked[0].startswith(f"GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode())


async def test_nothing_in_an_address_becomes_a_second_line(answering):
    open_server, asked = answering
    port = await open_server(b"HTTP/1.1 200 OK\r\n\r\n")
    await ask_page(f"http://127.0.0.1:{port}/a b\u2028é")
    assert asked[0].startswith(b"GET /a%20b%E2%80%A8%C3%A9 HTTP/1.1\r\n")


async def test_who_does_not_speak_tls_is_not_there(answering):
    open_server, _ = answering
    port = await open_server(b"HTTP/1.1 200 OK\r\n\r\n")
    well, why = await ask_page(f"https://127.0.0.1:{port}/")
    assert (well, why.startswith("can't be reached")) == (False, True)


async def test_a_port(answering):
    open_server, _ = answering
    port = await open_server(b"")
    assert await ask_port(Address("127.0.0.1", port)) == (True, "it accepts connections")


async def test_where_nobody_listens():
    for well, why in (
        await ask_port(Address("127.0.0.1", port := free_port())),
        await ask_page(f"http://127.0.0.1:{port}/"),
    ):
        assert (well, why) == (False, "can't be reached: Connection refused")


async def test_who_hangs_up_in_the_handshake_closed_the_connection(answering):
    open_server, _ = answering
    port = await open_server(b"")
    assert await ask_page(f"https://127.0.0.1:{port}/") == (
        False,
        "can't be reached: it closed the connection",
    )
