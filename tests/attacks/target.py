"""What an attacker knows and has: ports, one device's secret, any number of loopback addresses.

A target goes to another process, so it is made of plain values.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing as mp
import resource
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness import raw

_CONTEXT = mp.get_context("spawn")


class Progress:
    """How far an attack is, as whoever started it sees it."""

    def __init__(self) -> None:
        self._begun = _CONTEXT.Event()
        self._bytes = _CONTEXT.Value("q", 0)
        self._links = _CONTEXT.Value("q", 0)

    def begin(self) -> None:
        """The attack is under way."""
        self._begun.set()

    def wait(self, seconds: float) -> bool:
        return self._begun.wait(seconds)

    def add(self, *, sent: int = 0, links: int = 0) -> None:
        """So many bytes more were taken, so many connections more stood."""
        if sent:
            with self._bytes.get_lock():
                self._bytes.value += sent
        if links:
            with self._links.get_lock():
                self._links.value += links

    @property
    def sent(self) -> int:
        return int(self._bytes.value)

    @property
    def links(self) -> int:
        return int(self._links.value)


@dataclass(frozen=True)
class Target:
    """Whom to attack, and as whom."""

    port: int
    api_port: int
    health_port: int
    ca: str
    number: int
    """Of the row: no two come from the same addresses."""
    device: str
    secrets: Mapping[str, str]
    """Of the device and of the newcomers. Of these an attacker uses the names only."""
    good: str
    """The honest device's name."""
    until: float
    """By the monotonic clock: whatever happens to whoever began it, the attack ends."""

    @property
    def newcomers(self) -> list[str]:
        return [name for name in self.secrets if name != self.device]

    def lasts(self) -> bool:
        return time.monotonic() < self.until

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)

    def source(self, number: int) -> str:
        """An address of its own /24; the 250th is the first again."""
        return f"127.{self.number % 90 + 10}.{number % 250 + 1}.1"

    def address(self, port: str) -> tuple[str, int]:
        """Of the port of `devices`, of the `API` or of `health`."""
        ports = {"devices": self.port, "API": self.api_port, "health": self.health_port}
        return "127.0.0.1", ports[port]

    def open(self, port: str = "devices", *, source: str = "", timeout: float = 20.0) -> socket.socket:
        """A TCP connection. Raises OSError."""
        plain = socket.create_connection(
            self.address(port), timeout, source_address=(source, 0) if source else None
        )
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain

    def open_tls(self, tls: ssl.SSLContext, port: str = "devices", *, source: str = "") -> ssl.SSLSocket:
        """After the handshake. Raises OSError."""
        plain = self.open(port, source=source)
        try:
            return tls.wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise

    def login(self, client_id: str, *, v5: bool = False, **words: object) -> bytes:
        """The attacker's CONNECT, with the right secret."""
        return raw.connect(
            client_id, v5=v5, username=self.device, password=self.secrets[self.device], **words
        )  # type: ignore[arg-type]

    def join(
        self, tls: ssl.SSLContext, client_id: str, *, v5: bool = False, **words: object
    ) -> ssl.SSLSocket:
        """A connection of the device that is in. Raises OSError."""
        link = self.open_tls(tls)
        link.sendall(self.login(client_id, v5=v5, **words))
        answer = link.recv(1024)
        if answer[:1] != b"\x20" or answer[3]:
            link.close()
            raise ConnectionError(f"refused with {answer.hex()}")
        return link


def many_files() -> None:
    """As many sockets as the system gives."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def paced(rate: float, target: Target) -> Iterator[int]:
    """Numbers from 0 on, so many a second, as long as the attack lasts."""
    begin = time.monotonic()
    for number in itertools.count():
        late = begin + number / rate - time.monotonic()
        if late > 0:
            time.sleep(late)
        if not target.lasts():
            return
        yield number


def shut(*links: socket.socket) -> None:
    for link in links:
        with contextlib.suppress(OSError):
            link.close()
