"""Wrong logins from many networks at a steady rate, by MQTT and by HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl

from harness import raw

from attacks.target import Progress, Target, many_files

_AT_ONCE = 400


def _names(target: Target, names: str) -> list[str]:
    """Whose names are tried: nobody's, those of devices, or those that newcomers are about to use."""
    return {
        "unknown": [f"guess-{number}" for number in range(50)],
        "known": [target.good, target.device],
        "newcomers": target.newcomers,
    }[names]


def _foreign_token(number: int) -> str:
    return f"eyJhbGciOiJIUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJ4In0.{number:043d}"


async def _guess(target: Target, tls: ssl.SSLContext, source: str, said: bytes, port: str) -> None:
    host, number = target.address(port)
    reader, writer = await asyncio.open_connection(
        host, number, ssl=tls, server_hostname="localhost", local_addr=(source, 0)
    )
    try:
        writer.write(said)
        await reader.read(100)
    finally:
        writer.transport.abort()


def _said(name: str, number: int, *, size: int, tokens: bool, port: str) -> bytes:
    password = _foreign_token(number) if tokens else "w" * max(5, size)
    if port == "devices":
        return raw.connect(f"g{number}", username=name, password=password)
    body = json.dumps({"device_id": name, "credentials": {"secret": password}}).encode()
    head = (
        f"POST /api/v1/token HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def wrong(
    target: Target,
    progress: Progress,
    *,
    networks: int,
    rate: float,
    names: str = "unknown",
    size: int = 0,
    tokens: bool = False,
    port: str = "devices",
) -> None:
    """`rate` a second in all, each from the next network; passwords of `size` bytes, or foreign `tokens`."""
    many_files()
    asyncio.run(_wrong(target, progress, networks, rate, _names(target, names), size, tokens, port))


async def _wrong(
    target: Target,
    progress: Progress,
    networks: int,
    rate: float,
    names: list[str],
    size: int,
    tokens: bool,
    port: str,
) -> None:
    tls, loop = target.tls(), asyncio.get_running_loop()
    begin, number = loop.time(), 0
    under_way: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        said = _said(names[number % len(names)], number, size=size, tokens=tokens, port=port)
        with contextlib.suppress(OSError):
            await _guess(target, tls, target.source(number % networks), said, port)
            progress.add(links=1, sent=len(said))
        progress.begin()

    while target.lasts():
        while number <= (loop.time() - begin) * rate and len(under_way) < _AT_ONCE:
            task = asyncio.create_task(one(number))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.sleep(0.005)
    for task in under_way:
        task.cancel()
