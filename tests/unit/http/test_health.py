"""The health port, over real sockets."""

import asyncio
import json
import logging
import signal
import socket

import pytest
import uvloop

from gateway.config import Address
from gateway.connection.process_counters import Counters
from gateway.http import server as http_server
from gateway.http.health import serve
from gateway.net.tasks import Tasks
from gateway.observe.health_check_scheduler import Health
from gateway.observe.metrics import Metrics, collector_registry


async def ask(port, request="GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
    """Status, headers and body; the server ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request.encode())
        answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    return int(status.split()[1]), {line.split(":")[0].lower() for line in headers}, body


async def get(port, path):
    status, _, body = await ask(port, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
    return status, json.loads(body)


@pytest.fixture
async def server():
    opened = []

    async def open_server(health, own_registry=None):
        opened.append(await serve(health, own_registry, [Address("127.0.0.1", 0)], start=Tasks().start))
        return opened[-1].acceptor.port

    yield open_server
    for one in opened:
        await one.close()


def good(detail="fine"):
    return lambda: (True, detail)


def bad(detail="gone"):
    return lambda: (False, detail)


async def test_all_well(server):
    health = Health()
    health.add("store", good("3 devices"), vital=True)

    health.add("bus", good("warning: slow"), vital=False)
    port = await server(health)
    status, body = await get(port, "/health")
    store = body["checks"]["store"]
    assert (status, body["status"], body["ready"]) == (200, "ok", True)
    assert (store["ok"], store["detail"], store["state"]) == (True, "3 devices", "healthy")
    assert store["message"] == store["detail"]
    assert store["since"] <= store["checked_at"]
    assert store["duration_ms"] == 0
    assert body["checks"]["bus"]["state"] == "degraded"
    assert (await get(port, "/ready"))[0] == 200


async def test_a_bus_that_is_down_is_not_ready_but_alive(server):
    health = Health()
    health.add("store", good(), vital=True)
    health.add("bus", bad("connection refused"), vital=False)
    port = await server(health)
    status, body = await get(port, "/health")
    assert (status, body["status"], body["ready"]) == (200, "ok", False)
    bus = body["checks"]["bus"]
    assert (bus["ok"], bus["detail"], bus["state"]) == (False, "connection refused", "unhealthy")
    assert (await get(port, "/ready"))[0] == 503


async def test_a_vital_failure_is_neither(server):
    health = Health()
    health.add("policy", bad(), vital=True)
    port = await server(health)
    assert (await get(port, "/health"))[0] == 503
    status, body = await get(port, "/ready")
    assert (status, body["status"]) == (503, "failing")


async def test_without_any_check_nothing_is_ready(server):
    assert (await get(await server(Health()), "/ready"))[0] == 503


async def test_a_check_that_raises_has_failed_and_its_text_stays_inside(server):
    health = Health()

    def broken():
        raise OSError("postgresql://gateway:hunter2@db")

    health.add("store", broken, vital=True)
    status, body = await get(await server(health), "/health")
    assert status == 503
    assert "hunter2" not in json.dumps(body)


async def test_nobody_waits_for_a_check_that_hangs(server):
    health, tasks = Health(deadline=60), Tasks()

    async def hangs():
        await asyncio.Event().wait()
        raise AssertionError

    health.add("bus", hangs, vital=False)
    tasks.start(health.run(tasks.start))
    port = await server(health)
    async with asyncio.timeout(1):
        status, body = await get(port, "/ready")
    assert (status, body["checks"]["bus"]["detail"]) == (503, "not checked yet")
    assert (await get(port, "/health"))[0] == 200
    await tasks.stop()


async def test_metrics_are_served(server):
    counters = Counters()
    counters.sealed = 7
    port = await server(Health(), collector_registry(Metrics(counters)))
    status, headers, body = await ask(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200
    assert b"gateway_sealed_total 7.0" in body
    assert "server" not in headers


async def test_who_asks_for_metrics_without_end_has_them_read_once_a_second(server):
    counters = Counters()
    port = await server(Health(), collector_registry(Metrics(counters)))
    request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    _, _, before = await ask(port, request)
    counters.sealed = 7
    assert (await ask(port, request))[2] == before
    async with asyncio.timeout(3):
        while b"gateway_sealed_total 7.0" not in (await ask(port, request))[2]:  # noqa: ASYNC110 - of HTTP
            await asyncio.sleep(0.1)


async def test_whoever_fills_the_port_changes_no_answer(server):
    health = Health()
    health.add("loop", good(), vital=True)
    port = await server(health, collector_registry(Metrics(Counters())))
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
    half = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
    for _, writer in half:
        writer.write(b"GET /health HTTP/1.1\r\nX: ")
    try:
        for path in ("/health", "/ready", "/health", "/ready"):
            async with asyncio.timeout(1):
                assert (await get(port, path))[0] == 200
        assert (await ask(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
    finally:
        for _, writer in (*silent, *half):
            writer.close()


async def test_a_scrape_that_nobody_reads_holds_up_nobody(server):
    metrics = Metrics(Counters())
    many = {("secret", str(number)): 1 for number in range(20_000)}
    metrics.read(connections_established=lambda: many)
    health = Health()
    health.add("loop", good(), vital=True)
    port = await server(health, collector_registry(metrics))
    slow = []
    for _ in range(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        slow.append((reader, writer))
    await asyncio.gather(*(reader.readexactly(1) for reader, _ in slow))
    async with asyncio.timeout(1):
        assert (await get(port, "/health"))[0] == 200
    for _, writer in slow:
        writer.transport.abort()


async def test_without_a_registry_there_are_no_metrics(server):
    assert (await get(await server(Health()), "/metrics"))[0] == 404


@pytest.mark.parametrize(
    "line",
    [
        "GET /",
        "GET /health/",
        "GET /docs",
        "GET /metrics/x",
        "POST /health",
        "DELETE /ready",
        "GET /../etc/passwd",
    ],
)
async def test_anything_else_is_not_found(server, line):
    health = Health()
    health.add("store", good(), vital=True)
    status, headers, body = await ask(await server(health), f"{line} HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, body) == (404, b'{"status":"not found"}')
    assert "server" not in headers


@pytest.mark.parametrize("rubbish", ["\x16\x03\x01\x00\r\n\r\n", "GET\r\n\r\n", "GET /" + "a" * 20_000])
async def test_rubbish_is_refused_without_a_log_line(server, rubbish, caplog):
    port = await server(Health())
    assert (await ask(port, rubbish))[0] == 400
    assert caplog.records == []


async def test_a_silent_peer_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(http_server, "REQUEST_DEADLINE", 0.05)
    port = await server(Health())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nX: ")
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


async def test_a_port_that_is_taken_is_an_error_and_not_the_end_of_the_process():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="listens there already"),
    ):
        await serve(Health(), None, [Address("127.0.0.1", taken.getsockname()[1])], start=Tasks().start)


def test_on_uvloop_it_leaves_signals_and_the_root_logger_alone_and_ends():
    def surroundings():
        signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return signals, logging.getLogger().handlers[:]

    async def main():
        health = Health()
        health.add("store", good(), vital=True)
        before = surroundings()
        server = await serve(health, None, [Address("127.0.0.1", 0)], start=Tasks().start)
        after = surroundings()
        status, _ = await get(server.acceptor.port, "/health")
        _, idle = await asyncio.open_connection("127.0.0.1", server.acceptor.port)
        await server.close()
        idle.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.acceptor.port)
        return status, before == after

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == (200, True)
