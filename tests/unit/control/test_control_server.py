"""The control socket: who may ask, how much, and what becomes of who reads slowly. Real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest
import uvloop

from gateway.admin.errors import Refused
from gateway.control import client, server, socket_file
from gateway.control.messages import REQUEST_MAX
from gateway.control.server import ControlServer
from gateway.net.tasks import Tasks

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Commands:
    """What the tests ask."""

    def __init__(self) -> None:
        self.peers = []
        self.made = 0
        self.flooding = asyncio.Event()
        self.ended = asyncio.Event()

    async def echo(self, request, peer):
        self.peers.append(peer)
        yield dict(request.arguments)

    async def refuse(self, _request, _peer):
        raise Refused("not today")
        yield {}

    async def flood(self, _request, _peer):
        try:
            while True:
                self.made += 1
                self.flooding.set()
                yield {"text": "x" * 1_000}
        finally:
            self.ended.set()

    async def wait(self, _request, _peer):
        try:
            yield {"begun": True}
            await asyncio.Event().wait()
        finally:
            self.ended.set()


@contextlib.asynccontextmanager
async def serving(folder: Path):
    commands, tasks = Commands(), Tasks()
    names = ("echo", "refuse", "flood", "wait")
    control = ControlServer(folder, {name: getattr(commands, name) for name in names}, start=tasks.start)
    await control.open()
    try:
        yield commands
    finally:
        await control.close()
        await tasks.stop()


@pytest.fixture
async def commands(tmp_path):
    async with serving(tmp_path) as commands:
        yield commands


async def ask(folder: Path, command: str, **arguments: object):
    return await asyncio.to_thread(lambda: list(client.ask(folder, command, **arguments)))


async def raw(folder: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(folder / socket_file.NAME))
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_a_request_is_answered_item_by_item(tmp_path, commands):
    assert await ask(tmp_path, "echo", device_id="lamp-1") == [{"device_id": "lamp-1"}]
    assert [peer.uid for peer in commands.peers] == [os.geteuid()]


async def test_only_the_owner_may_open_the_socket(tmp_path, commands):
    mode = (tmp_path / socket_file.NAME).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


async def test_whoever_is_neither_root_nor_the_gateways_user_is_denied(tmp_path, commands, monkeypatch):
    monkeypatch.setattr(server, "_uid_of", lambda _: 12_345)
    with pytest.raises(client.NotAnswered, match="only root and the user of the gateway"):
        await ask(tmp_path, "echo")
    assert commands.peers == []


async def test_the_kernel_says_who_asks():
    here, there = socket.socketpair()
    with here, there:

        class Writer:
            def get_extra_info(self, _name):
                return here

        assert server._uid_of(Writer()) == os.getuid()


@pytest.mark.parametrize(
    ("uid", "sudo_user", "actor"),
    [
        (0, "", "gateway-admin:root"),
        (0, "alice", "gateway-admin:root (sudo of alice)"),
        (4_000_000_000, "", "gateway-admin:4000000000"),
    ],
)
def test_an_actor_is_named_for_the_audit(uid, sudo_user, actor):
    assert server.Peer(uid, sudo_user).actor == actor


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "-x", "x" * 65])
def test_a_name_that_no_user_has_is_not_believed(name):
    assert server._sudo_user(server.Request("poke", {}, name)) == ""


async def test_a_refusal_is_an_error_in_words(tmp_path, commands):
    with pytest.raises(client.NotAnswered, match="not today"):
        await ask(tmp_path, "refuse")


async def test_what_it_does_not_know_it_says(tmp_path, commands):
    with pytest.raises(client.NotAnswered, match="knows no 'dance'"):
        await ask(tmp_path, "dance")


async def test_a_request_that_is_none_is_told_so(tmp_path, commands):
    assert b"bad_request" in await raw(tmp_path, b"hello\n")


async def test_a_request_has_a_bound(tmp_path, commands):
    assert f"{REQUEST_MAX} bytes at most".encode() in await raw(tmp_path, b"x" * (3 * REQUEST_MAX))


async def test_a_request_that_does_not_come_is_not_waited_for(tmp_path, commands, monkeypatch):
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.05)
    assert await raw(tmp_path, b"") == b""


async def test_too_many_at_once_are_told_to_come_again(tmp_path, commands):
    waiting = []
    for _ in range(server._CONNECTIONS_MAX):
        waiting.append(await asyncio.open_unix_connection(str(tmp_path / socket_file.NAME)))
    with pytest.raises(client.NotAnswered, match="try again"):
        await ask(tmp_path, "echo")
    for _, writer in waiting:
        writer.close()
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(client.NotAnswered):
                assert await ask(tmp_path, "echo", a=1) == [{"a": 1}]
                break
            await asyncio.sleep(0.01)


async def test_whoever_reads_nothing_is_written_no_more_than_a_buffer(tmp_path, commands, monkeypatch):
    monkeypatch.setattr(server, "_READ_SECONDS", 0.3)
    connection = socket_file.connect(tmp_path, 5)
    with connection:
        connection.sendall(b'{"v": 1, "command": "flood"}\n')
        await asyncio.wait_for(commands.ended.wait(), 10)
    assert 0 < commands.made < 5_000  # of a kilobyte each: what the kernel and we hold


async def test_an_answer_ends_when_its_reader_goes(tmp_path, commands):
    items = client.follow(tmp_path, "wait")
    assert await asyncio.to_thread(next, items) == {"begun": True}
    items.close()
    await asyncio.wait_for(commands.ended.wait(), 10)


async def test_others_are_answered_meanwhile(tmp_path, commands):
    connection = socket_file.connect(tmp_path, 5)
    with connection:
        connection.sendall(b'{"v": 1, "command": "flood"}\n')
        await asyncio.wait_for(commands.flooding.wait(), 10)
        assert await ask(tmp_path, "echo", a=1) == [{"a": 1}]


async def test_what_a_killed_gateway_left_is_taken_away(tmp_path):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / socket_file.NAME))
    left.close()
    with pytest.raises(client.NotRunning):
        await ask(tmp_path, "echo")
    async with serving(tmp_path):
        assert await ask(tmp_path, "echo", a=1) == [{"a": 1}]


async def test_what_is_no_socket_is_left_alone(tmp_path):
    (tmp_path / socket_file.NAME).write_text("mine")
    with pytest.raises(FileExistsError, match="not a socket"):
        socket_file.listen(tmp_path)
    assert (tmp_path / socket_file.NAME).read_text() == "mine"


async def test_nothing_is_left_when_it_stops(tmp_path):
    async with serving(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(client.NotRunning, match="no gateway runs"):
        await ask(tmp_path, "echo")


async def test_a_path_longer_than_an_address_will_do(tmp_path):
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    async with serving(folder):
        assert await ask(folder, "echo", a=1) == [{"a": 1}]
        assert stat.S_IMODE((folder / socket_file.NAME).stat().st_mode) == 0o600
    assert list(folder.iterdir()) == []


async def test_a_poke_without_a_gateway_is_nothing(tmp_path):
    assert client.poke(tmp_path) is False
