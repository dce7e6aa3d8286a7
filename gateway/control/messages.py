"""What passes on the control socket: one request per connection, and its answer, in lines of JSON.

    {"v": 1, "command": "kick", "arguments": {"device_id": "lamp-1"}}
    {"v": 1, "item": {"device_id": "lamp-1", "connections": 2}}
    {"v": 1, "done": true}

An answer is any number of items, and a last line: `done`, or `error` and `message`. A line that is none of
these comes from a newer version, and whoever reads skips it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

VERSION = 1
REQUEST_MAX = 4_096
"""Bytes of a request."""
LINE_MAX = 65_536
"""Bytes of a line of an answer."""


class BadRequest(Exception):
    """What came is no request of this version. The text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the gateway."""

    command: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    sudo_user: str = ""
    """Who became root to ask, as `sudo` says. It is taken only from root, who could act without asking."""

    def text(self, name: str) -> str:
        """The argument of this name. Raises BadRequest."""
        value = self.arguments.get(name)
        if not isinstance(value, str) or not value:
            raise BadRequest(f"{self.command} needs {name}, a text")
        return value

    def number(self, name: str) -> int:
        """The argument of this name, which is not negative. Raises BadRequest."""
        value = self.arguments.get(name)
        if type(value) is not int or value < 0:
            raise BadRequest(f"{self.command} needs {name}, a number")
        return value


def request_line(request: Request) -> bytes:
    """The request as it is sent."""
    return _line({"command": request.command, "arguments": request.arguments, "sudo_user": request.sudo_user})


def read_request(line: bytes) -> Request:
    """The request of this line. Raises BadRequest."""
    try:
        found = json.loads(line)
    except ValueError:
        raise BadRequest("this is no line of JSON") from None
    if not isinstance(found, dict):
        raise BadRequest("this is no JSON object")
    if found.get("v") != VERSION:
        raise BadRequest(
            f"this gateway speaks version {VERSION} of the control protocol: use the gateway-admin that was "
            "installed with it, or restart the gateway"
        )
    command, arguments, sudo_user = (found.get(name) for name in ("command", "arguments", "sudo_user"))
    if not isinstance(command, str):
        raise BadRequest("there is no command")
    return Request(
        command,
        arguments if isinstance(arguments, dict) else {},
        sudo_user if isinstance(sudo_user, str) else "",
    )


def item_line(item: Mapping[str, object]) -> bytes:
    """One thing that was asked for."""
    return _line({"item": item})


def done_line() -> bytes:
    """The last line of a complete answer."""
    return _line({"done": True})


def error_line(error: str, message: str) -> bytes:
    """The last line of an answer that failed. `error` is a word for programs, `message` is for people."""
    return _line({"error": error, "message": message})


def _line(value: Mapping[str, object]) -> bytes:
    return json.dumps({"v": VERSION, **value}).encode() + b"\n"
