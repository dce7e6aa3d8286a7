"""Wrong logins from many addresses, at a steady rate: a process of its own.

`python guessers.py PORT CA ADDRESSES RATE SECONDS` opens one connection after the other, each from the next
of so many loopback addresses (a /24 each), RATE a second in all. It says `guessing` once one was refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import raw
from harness.gateway import Gateway

_AT_ONCE = 400


@contextmanager
def guessing(gateway: Gateway, *, addresses: int, rate: float, seconds: float) -> Iterator[None]:
    """Wrong logins while it lasts."""
    words = [gateway.port, gateway.ca, addresses, rate, seconds]
    process = subprocess.Popen([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"guessing\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def _guess(port: int, tls: ssl.SSLContext, number: int, addresses: int) -> None:
    source = (f"127.0.{number % addresses + 1}.1", 0)
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname="localhost", local_addr=source
        )
        try:
            writer.write(raw.connect("g", username=f"guess-{number % 50}", password="wrong"))
            await reader.read(100)
        finally:
            writer.transport.abort()
    if number == 0:
        print("guessing", flush=True)  # noqa: T201 - told to whoever started it


async def _main() -> None:
    port, ca, addresses, rate, seconds = sys.argv[1:]
    tls = ssl.create_default_context(cafile=ca)
    loop = asyncio.get_running_loop()
    begin, number = loop.time(), 0
    under_way: set[asyncio.Task[None]] = set()
    while loop.time() - begin < float(seconds):
        while number <= (loop.time() - begin) * float(rate) and len(under_way) < _AT_ONCE:
            task = asyncio.create_task(_guess(int(port), tls, number, int(addresses)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.sleep(0.005)
    for task in under_way:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(_main())
