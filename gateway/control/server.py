"""Serves the control socket: who may ask, how much at once, and what becomes of whoever reads too slowly.

Must not know what can be asked: that is `gateway.control.commands`. An answer is made while it is written,
and written no faster than it is read, so that a reader that stops costs one of a few connections, and no
more.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.admin.errors import Refused
from gateway.control import socket_file
from gateway.control.messages import (
    REQUEST_MAX,
    BadRequest,
    Request,
    done_line,
    error_line,
    item_line,
    read_request,
)
from gateway.observe.logs import get_logger
from gateway.store import StoreError

_CONNECTIONS_MAX = 16
"""Requests that are answered at once."""
_REQUEST_SECONDS = 5.0
"""Seconds for a request to come."""
_READ_SECONDS = 30.0
"""Seconds for a reader to take what was written for it."""
_ITEMS_TOGETHER = 64
"""Items made and written before others have their turn: about a millisecond of work."""
_BUFFER = 65_536
"""Bytes that may be written ahead of what a reader has read."""
_SUDO_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")

_log = get_logger()

Answer = AsyncGenerator[Mapping[str, object], None]


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asks: the user id is from the kernel."""

    uid: int
    sudo_user: str = ""

    @property
    def actor(self) -> str:
        """Who asks, for the audit."""
        try:
            name = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            name = str(self.uid)  # mostly in a container
        by = f" (sudo of {self.sudo_user})" if self.sudo_user else ""
        return f"gateway-admin:{name}{by}"


Command = Callable[[Request, Peer], Answer]
"""What answers a request: item by item, each when the one before was taken. Raises Refused, StoreError and
BadRequest; it is closed when the reader has gone."""


class ControlServer:
    """The control socket of a process."""

    def __init__(
        self,
        folder: Path,
        commands: Mapping[str, Command],
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        """`start` runs a coroutine in a task of its own."""
        self._folder = folder
        self._commands = commands
        self._start = start
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen from now on. Raises OSError."""
        listening = socket_file.listen(self._folder)
        self._server = await asyncio.start_unix_server(self._accept, sock=listening, limit=REQUEST_MAX)

    async def close(self) -> None:
        """Stop listening, and end what is being answered."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._serving):
            writer.transport.abort()
        with suppress(OSError):
            socket_file.remove(self._folder)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._start(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(writer)
        writer.transport.set_write_buffer_limits(high=_BUFFER)
        try:
            writer.write(await self._answer(reader, writer))
            await _taken(writer)
        except (OSError, TimeoutError):
            pass  # the reader has left, or takes nothing: it gets nothing more
        finally:
            self._serving.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Answer a request, and return the last line of the answer."""
        if len(self._serving) > _CONNECTIONS_MAX:
            return error_line("busy", f"{_CONNECTIONS_MAX} other requests are being answered: try again")
        uid = _uid_of(writer)
        if uid not in {0, os.geteuid()}:
            _log.warning("control socket denied", uid=uid)
            return error_line("denied", "only root and the user of the gateway may ask here")
        try:
            request = read_request(await _request_of(reader))
            command = self._command(request.command)
            answer = command(request, Peer(uid, _sudo_user(request) if uid == 0 else ""))
            await self._while_read(reader, _write(answer, writer))
        except BadRequest as error:
            return error_line("bad_request", str(error))
        except Refused as error:
            return error_line("refused", str(error))
        except StoreError as error:
            return error_line("store", str(error))
        return done_line()

    def _command(self, name: str) -> Command:
        command = self._commands.get(name)
        if command is None:
            raise BadRequest(f"this gateway knows no {name!r}: is it of an older version?")
        return command

    async def _while_read(self, reader: asyncio.StreamReader, work: Coroutine[Any, Any, None]) -> None:
        """Do this work until the reader leaves. Raises ConnectionResetError then."""
        writing = asyncio.ensure_future(work)  # noqa: TID251 - waited for here
        gone = asyncio.ensure_future(reader.read(1))  # noqa: TID251 - likewise
        try:
            await asyncio.wait({writing, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                raise ConnectionResetError("the reader has left")
            writing.result()
        finally:
            for task in (writing, gone):
                task.cancel()
            await asyncio.gather(writing, gone, return_exceptions=True)


async def _write(answer: Answer, writer: asyncio.StreamWriter) -> None:
    items = 0
    async with aclosing(answer):
        async for item in answer:
            writer.write(item_line(item))
            await _taken(writer)
            items += 1
            if items % _ITEMS_TOGETHER == 0:
                await asyncio.sleep(0)  # `drain` does not give way to others while the reader keeps up


async def _taken(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(_READ_SECONDS):
        await writer.drain()


async def _request_of(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(_REQUEST_SECONDS):
            return await reader.readline()
    except ValueError:
        raise BadRequest(f"a request has {REQUEST_MAX} bytes at most") from None


def _uid_of(writer: asyncio.StreamWriter) -> int:
    """The user at the other end, at the time it connected. Raises OSError."""
    connection = writer.get_extra_info("socket")
    if hasattr(socket, "SO_PEERCRED"):
        said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", said)[1])
    return os.geteuid()  # the rights of the file are what keeps others out


def _sudo_user(request: Request) -> str:
    return request.sudo_user if _SUDO_USER.fullmatch(request.sudo_user) else ""
