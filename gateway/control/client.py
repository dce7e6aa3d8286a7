"""Asks a running gateway through its control socket, for `gateway-admin`: blocking, and without asyncio."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

from gateway.control.messages import LINE_MAX, REQUEST_MAX, Request, request_line
from gateway.control.socket_file import NAME, connect
from gateway.system.file_errors import who_may

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 10.0
_POKE_SECONDS = 1.0
"""How long to wait for a connection, for the next part of an answer, and for that of a poke."""


class NotRunning(Exception):
    """No gateway runs with this data folder, or it has no control socket."""


class NotAnswered(Exception):
    """A gateway runs, but does not do what was asked. The text says why and what to do."""


def ask(folder: Path, command: str, **arguments: object) -> Iterator[Mapping[str, object]]:
    """What the gateway with this data folder answers, item by item.

    Raises NotRunning, and NotAnswered, which may come after some items.
    """
    yield from _ask(folder, command, arguments, seconds=_ANSWER_SECONDS)


def follow(folder: Path, command: str, **arguments: object) -> Iterator[Mapping[str, object]]:
    """The same for a command that has no end of its own: each item is waited for, however long that takes."""
    yield from _ask(folder, command, arguments, seconds=None)


def poke(folder: Path) -> bool:
    """Have a running gateway look at what was changed. Return whether one did; it would soon by itself."""
    with suppress(NotRunning, NotAnswered):
        list(_ask(folder, "poke", {}, seconds=_POKE_SECONDS))
        return True
    return False


def _ask(
    folder: Path, command: str, arguments: Mapping[str, object], *, seconds: float | None
) -> Iterator[Mapping[str, object]]:
    sudo_user = os.environ.get("SUDO_USER", "") if os.geteuid() == 0 else ""
    line = request_line(Request(command, arguments, sudo_user))
    if len(line) > REQUEST_MAX:
        raise NotAnswered("that is more than the control socket takes in one request")
    try:
        connection = connect(folder, _CONNECT_SECONDS)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning(f"no gateway runs with the data folder {folder.absolute()}") from None
    except PermissionError:
        raise NotAnswered(
            f"{folder / NAME} can't be used: {who_may(folder / NAME, os.R_OK | os.W_OK)}"
        ) from None
    except OSError as error:
        raise NotAnswered(f"{folder / NAME} can't be used: {error}") from error
    with closing(connection):
        try:
            with suppress(BrokenPipeError):  # refused before the request was read: too many, or not for us
                connection.sendall(line)
            connection.settimeout(seconds)
            with connection.makefile("rb") as answer:
                yield from _items(answer)
        except TimeoutError:
            raise NotAnswered("the gateway did not answer in time: see `gateway-admin status`") from None
        except OSError as error:
            raise NotAnswered(f"the gateway ended the connection: {error}") from error


def _items(answer: BinaryIO) -> Iterator[Mapping[str, object]]:
    while line := answer.readline(LINE_MAX):
        try:
            found = json.loads(line)
        except ValueError:
            raise NotAnswered("what the gateway answers is cut") from None
        if "error" in found:
            raise NotAnswered(str(found.get("message", found["error"])))
        if "done" in found:
            return
        if isinstance(found.get("item"), dict):
            yield found["item"]
    raise NotAnswered("the gateway ended before its answer did")
