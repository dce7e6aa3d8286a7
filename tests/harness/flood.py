"""One device with many connections, each of which sends the same bytes as fast as they are taken.

A process of its own, so that what is measured beside it is measured fairly:
`python flood.py PORT CA DEVICE SECRET CONNECTIONS SECONDS`, the bytes on standard input. It says `flooding`
once all connections stand, and ends by itself when all of them were ended, or the time is over.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import raw
from harness.gateway import Gateway


@contextmanager
def flood(
    gateway: Gateway, device: str, data: bytes, *, connections: int, seconds: float
) -> Iterator[subprocess.Popen[bytes]]:
    """The flood while it lasts; what began is stopped at the end."""
    words = [gateway.port, gateway.ca, device, gateway.secrets[device], connections, seconds]
    process = subprocess.Popen(
        [sys.executable, __file__, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(data)
        process.stdin.close()
        assert process.stdout.readline() == b"flooding\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _main() -> None:
    port, ca, device, secret, connections, seconds = sys.argv[1:]
    data = sys.stdin.buffer.read()
    tls = ssl.create_default_context(cafile=ca)
    unsent: dict[ssl.SSLSocket, memoryview] = {}
    for number in range(int(connections)):
        link = tls.wrap_socket(
            socket.create_connection(("127.0.0.1", int(port))), server_hostname="localhost"
        )
        link.sendall(raw.connect(f"flood-{number}", username=device, password=secret))
        link.settimeout(20)
        link.recv(100)
        link.setblocking(False)
        unsent[link] = memoryview(data)
    print("flooding", flush=True)  # noqa: T201 - told to whoever started it
    until = time.monotonic() + float(seconds)
    while unsent and time.monotonic() < until:
        idle = True
        for link, rest in list(unsent.items()):
            try:
                sent = link.send(rest[:65_536])
                unsent[link] = rest[sent:] or memoryview(data)
                idle = False
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                pass
            except OSError:
                del unsent[link]
                continue
            try:
                link.recv(65_536)
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                pass
            except OSError:
                del unsent[link]
        if idle:
            time.sleep(0.002)


if __name__ == "__main__":
    _main()
