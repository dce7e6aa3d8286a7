"""What a peer does that never says who it is: handshakes, silence, pieces, junk."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable

from harness import raw

from attacks.target import Progress, Target, many_files, shut

_NOT_YET = (BlockingIOError, InterruptedError)


def hello(target: Target) -> bytes:
    """A ClientHello as a client sends it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = target.tls().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def _begun(target: Target, port: str, source: str) -> socket.socket:
    """A connection that is under way; nothing waits for it. Raises OSError."""
    plain = socket.socket()
    try:
        plain.setblocking(False)
        plain.bind((source, 0))
        with contextlib.suppress(*_NOT_YET):
            plain.connect(target.address(port))
    except BaseException:
        plain.close()
        raise
    return plain


def crowd(
    target: Target,
    progress: Progress,
    *,
    count: int,
    networks: int,
    says: str = "",
    port: str = "devices",
    lasting: bool = True,
) -> None:
    """`count` connections at once from so many networks: silent, or with a `hello`, half of one, junk.

    With `lasting` they stay, and each that is ended is followed by another; else all are ended and begun
    again as soon as they have said it.
    """
    many_files()
    whole = hello(target)
    said = {"": b"", "hello": whole, "half a hello": whole[: len(whole) // 2], "junk": b"junk\r\n" * 50}[says]
    links: deque[tuple[socket.socket, memoryview]] = deque()
    made = 0
    while target.lasts():
        for _ in range(min(200, count - len(links))):
            with contextlib.suppress(OSError):
                links.append((_begun(target, port, target.source(made % networks)), memoryview(said)))
            made += 1
        idle, kept = True, deque[tuple[socket.socket, memoryview]]()
        for link, unsent in links:
            rest = unsent
            try:
                if rest:
                    rest = rest[link.send(rest) :]
                    idle = False
                elif not lasting or not link.recv(65_536):
                    link.close()
                    continue
                kept.append((link, rest))
            except BlockingIOError:
                kept.append((link, rest))
            except OSError as error:
                if error.errno == errno.ENOTCONN:  # not yet
                    kept.append((link, rest))
                else:
                    link.close()
        progress.add(links=made - progress.links, sent=0)
        links = kept
        if made >= count:
            progress.begin()
        if idle:
            time.sleep(0.01)
    shut(*(link for link, _ in links))


def pieces(
    target: Target,
    progress: Progress,
    *,
    connections: int,
    networks: int,
    what: str,
    port: str = "devices",
    size: int = 1_000,
) -> None:
    """One long beginning on each connection, by pieces: of a CONNECT, or of an HTTP request."""
    tls = target.tls()
    streams = {
        "CONNECT": lambda: raw.packet(0x10, bytes(65_000))[:60_000],
        "named CONNECT": lambda: raw.connect("c", username="u" * 30_000, password="p" * 30_000)[:-1],
        "HTTP headers": lambda: b"POST /api/v1/token HTTP/1.1\r\nhost: x\r\n" + b"x-a: b\r\n" * 20_000,
        "HTTP chunks": lambda: (
            b"POST /api/v1/token HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"1\r\n \r\n" * 20_000
        ),
        "HTTP body": lambda: (
            b"POST /api/v1/token HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n" + b" " * 59_999
        ),
        "HTTP pipeline": lambda: b"GET /api/v1/nothing HTTP/1.1\r\nhost: x\r\n\r\n" * 2_000,
    }
    data = streams[what]()

    def one(number: int) -> socket.socket:
        source = target.source(number % networks)
        link = (
            target.open(port, source=source)
            if port == "health"
            else target.open_tls(tls, port, source=source)
        )
        link.setblocking(False)
        return link

    _drip(target, progress, one, data, connections, size)


def _drip(
    target: Target,
    progress: Progress,
    one: Callable[[int], socket.socket],
    data: bytes,
    connections: int,
    size: int,
) -> None:
    """A piece into each connection in turn; whatever is ended is begun again."""
    made = 0
    links: list[tuple[socket.socket, int]] = []
    while target.lasts():
        while len(links) < connections and target.lasts():
            with contextlib.suppress(OSError):
                links.append((one(made), 0))
                progress.add(links=1)
            made += 1
        progress.begin()
        kept: list[tuple[socket.socket, int]] = []
        for link, begun in links:
            at = begun
            try:
                if at < len(data):
                    count = link.send(data[at : at + size])
                    progress.add(sent=count)
                    at += count
                elif not link.recv(65_536):
                    link.close()
                    continue
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, *_NOT_YET):
                pass
            except OSError:
                link.close()
                continue
            kept.append((link, at))
        links = kept
        time.sleep(0.002)
    shut(*(link for link, _ in links))


def _proxy_header(source: str, port: int) -> bytes:
    body = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack(">HH", port, 8883)
    return bytes.fromhex("0d0a0d0a000d0a515549540a") + struct.pack(">BBH", 0x21, 0x11, len(body)) + body


def proxied(target: Target, progress: Progress, *, connections: int, what: str) -> None:
    """From a trusted proxy: its header split at every byte, junk before it, or none at all."""
    made = 0
    header = _proxy_header("10.1.2.3", 4_000) + hello(target)
    links: deque[tuple[socket.socket, deque[bytes]]] = deque()
    while target.lasts():
        while len(links) < connections:
            with contextlib.suppress(OSError):
                parts: deque[bytes] = deque()
                if what == "split at every byte":
                    parts.extend(header[at : at + 1] for at in range(len(header)))
                elif what == "split in two":
                    cut = 1 + made % (len(header) - 1)
                    parts.extend((header[:cut], header[cut:]))
                elif what == "junk before":
                    parts.extend((bytes(made % 20 + 1) + header,))
                elif what == "a long first line":
                    parts.extend([b"PROXY TCP4 " + b"1" * 60_000])
                links.append((target.open(source=target.source(made % 200)), parts))
                links[-1][0].setblocking(False)
                progress.add(links=1)
            made += 1
        progress.begin()
        for _ in range(len(links)):
            link, parts = links.popleft()
            try:
                if parts:
                    part = parts.popleft()
                    progress.add(sent=link.send(part))
                elif not link.recv(65_536):
                    link.close()
                    continue
                links.append((link, parts))
            except _NOT_YET:
                links.append((link, parts))
            except OSError:
                link.close()
        time.sleep(0.001)
    shut(*(link for link, _ in links))
