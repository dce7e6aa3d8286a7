"""A connection that has ended is freed at once, however it ended: nobody waits for the garbage collector.

The kind: an object that stands in a connection's way and is referred to by it again. Full collections are
rare (`gateway.app.gc_tuning`), and each connection that waits for one holds 300 KiB of buffers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest
import uvloop
from harness import raw
from harness.background_tasks import until
from harness.in_process import House, settle, started
from harness.mosquitto import Mosquitto

from gateway.config import Settings
from gateway.http.server import _Connection
from gateway.http.token_api import _CONNECTIONS_PER_ADDRESS
from gateway.net import puback_latency_samples
from gateway.net.bounded_tls import BoundedSSLObject
from gateway.net.device_side import DeviceSide
from gateway.net.handshakes import PendingHandshake
from gateway.net.puback_latency_samples import RoundTripSamples


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    bus = Mosquitto(tmp_path_factory.mktemp("bus")).start()
    yield settle(tmp_path_factory.mktemp("gateway"), bus, denied="no/#")
    bus.kill()


def says_goodbye(house: House) -> None:
    with house.join("bad") as one:
        assert one.publish("t", b"x") == 0
        one.send(b"\xe0\x00")
        assert one.read() == b""


def is_gone(house: House) -> None:
    house.join("bad").close()


def is_silent_from_the_start(house: House) -> None:
    house.dial().close()


def has_a_wrong_secret(house: House) -> None:
    with house.dial() as one:
        assert one.connect(client_id="c", username="bad", password="y" * 32)[3]


def is_refused_what_it_says(house: House) -> None:
    with house.join("bad") as one:
        assert one.publish("no/t", b"x") == 0x87
        assert one.subscribe("t") == [1]


def breaks_the_protocol(house: House) -> None:
    with house.join("bad") as one:
        one.send(b"\xf7\xff\xff\xff\xff\xff")
        while one.read():
            pass


def is_over_its_limit(house: House) -> None:
    with house.join("bad") as one:
        one.send(b"\x30\xff\xff\xff\x7f")
        while one.read():
            pass


def breaks_its_tls(house: House) -> None:
    with house.join("bad") as one:
        one.send(raw.publish("t", b"x", v5=True))
        plain = socket.socket(fileno=os.dup(one._socket.fileno()))
        with plain:
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        with contextlib.suppress(OSError):
            while one.read():
                pass


def breaks_its_connect(house: House) -> None:
    with house.dial() as one:
        one.send(b"\x10\x07\x00\x04MQTT\x09\xff")
        one.read()


def speaks_no_tls(house: House) -> None:
    with socket.create_connection(("127.0.0.1", house.port), 10) as plain:
        plain.sendall(raw.connect(v5=True, client_id="c", username="bad", password="y"))
        with contextlib.suppress(OSError):
            while plain.recv(4_096):
                pass


def leaves_before_its_login_is_over(house: House) -> None:
    with house.dial() as one:
        one.send(raw.connect(v5=True, client_id="c", username="bad", password="y" * 32))


def says_what_can_not_be_opened(house: House) -> None:
    with house.join("bad") as one:
        one.send(raw.publish("gateway/decrypt", b'{"payload":"e30="}', qos=1, packet_id=1, v5=True))
        assert one.answer(4)
        one.send(raw.packet(0x82, b"\0\2\0\0\3t/+\3"))
        while one.read():
            pass


def is_taken_over(house: House) -> None:
    with house.join("bad") as one, house.join("bad") as other:
        while one.read():
            pass
        assert other.publish("t", b"x") == 0


def asks_a_service(house: House) -> None:
    with house.join("bad") as one:
        one.send(raw.publish("gateway/validate", b"{}", qos=1, packet_id=1, v5=True))
        assert one.answer(4)


def over_https(house: House, said: bytes) -> None:
    (address,) = house.gateway._http_bound
    plain = socket.create_connection((address.host, address.port), 10)
    with house.tls.wrap_socket(plain, server_hostname="localhost") as tls:
        tls.sendall(said)
        while said and tls.recv(4_096):
            pass


def gets_an_answer(house: House) -> None:
    over_https(house, b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n\r\n")


def posts_what_is_refused(house: House) -> None:
    over_https(house, b"POST /api/v1/token HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")


def speaks_no_http(house: House) -> None:
    over_https(house, b"\0" * 100 + b"\r\n\r\n")


def asks_nothing(house: House) -> None:
    over_https(house, b"")


def speaks_no_tls_to_the_api(house: House) -> None:
    with socket.create_connection(house.gateway._http_bound[0], 10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(OSError):
            while plain.recv(4_096):
                pass


def leaves_in_the_handshake_of_the_api(house: House) -> None:
    with socket.create_connection(house.gateway._http_bound[0], 10) as plain:
        plain.sendall(b"\x16\x03\x01\x02\x00\x01")


def is_crowded_out_of_the_api(house: House) -> None:
    with contextlib.ExitStack() as crowd:
        first, *_ = [
            crowd.enter_context(socket.create_connection(house.gateway._http_bound[0], 10))
            for _ in range(_CONNECTIONS_PER_ADDRESS + 1)
        ]
        with contextlib.suppress(ConnectionError):
            assert first.recv(1) == b""


ENDS: list[Callable[[House], None]] = [
    says_goodbye,
    is_gone,
    is_silent_from_the_start,
    has_a_wrong_secret,
    is_refused_what_it_says,
    breaks_the_protocol,
    is_over_its_limit,
    breaks_its_tls,
    breaks_its_connect,
    speaks_no_tls,
    leaves_before_its_login_is_over,
    says_what_can_not_be_opened,
    is_taken_over,
    asks_a_service,
    gets_an_answer,
    posts_what_is_refused,
    speaks_no_http,
    asks_nothing,
    speaks_no_tls_to_the_api,
    leaves_in_the_handshake_of_the_api,
    is_crowded_out_of_the_api,
]


TIMES = 6
OF_THREADS = 4
"""A thread that waits for work has the last it did in its hands: a login, a look at the store."""


def left() -> int:
    kinds = DeviceSide | BoundedSSLObject | PendingHandshake | _Connection
    return sum(isinstance(one, kinds) for one in gc.get_objects())


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def in_a_house(
    settings: Settings, patch: pytest.MonkeyPatch, ends: Callable[[House], Awaitable[object]]
) -> None:
    async def scenario() -> None:
        async with started(settings, patch) as house:
            with without_collections():
                for _ in range(TIMES):
                    await ends(house)
                await until(lambda: not house.plane.registry.live)
                await until(lambda: left() <= OF_THREADS)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


@pytest.mark.parametrize("end", ENDS)
def test_whoever_ends(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, end: Callable[[House], None]
) -> None:
    in_a_house(settings, monkeypatch, partial(asyncio.to_thread, end))


def test_whose_answers_were_timed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(puback_latency_samples, "_LOOK_SECONDS", 3_600.0)  # of the gateway's own

    async def ends(house: House) -> None:
        took: list[float] = []
        samples = RoundTripSamples(house.plane.registry, took.append)
        with await asyncio.to_thread(house.join, "bad") as one:
            await until(lambda: house.link().connection.established is not None)
            samples.look()  # whom there is to watch
            samples.look()
            assert await asyncio.to_thread(one.publish, "t", b"x") == 0
            assert took
            samples.look()  # and watches it again
        await until(lambda: not house.plane.registry.live)
        samples.look()

    in_a_house(settings, monkeypatch, ends)
