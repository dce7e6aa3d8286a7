"""TLS 1.3 records by hand (RFC 8446, 5.2 and 7.2): what no client library sends.

The handshake is the standard library's; from then on the client's records are made here, under the
secret that it wrote into its key log.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

_HANDSHAKE, _APPLICATION_DATA = 22, 23


class Client:
    """The client's half of a TLS 1.3 connection after its handshake."""

    def __init__(self, log: str, cipher: str) -> None:
        """`log` is what the client wrote into its key log."""
        lines = [line.split() for line in log.splitlines()]
        (secret,) = (line[2] for line in lines if line and line[0] == "CLIENT_TRAFFIC_SECRET_0")
        self._digest = "sha384" if cipher.endswith("SHA384") else "sha256"
        self._cipher = ChaCha20Poly1305 if "CHACHA20" in cipher else AESGCM
        self._key_size = 16 if "AES_128" in cipher else 32
        self._use(bytes.fromhex(secret))

    def _expand(self, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
        # One block is enough for all that is asked for.
        return hmac.digest(self._secret, info + b"\1", self._digest)[:size]

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._aead = self._cipher(self._expand(b"key", self._key_size))
        self._iv = int.from_bytes(self._expand(b"iv", 12), "big")
        self._number = 0

    def record(self, content: bytes, *, kind: int = _APPLICATION_DATA, padding: int = 0) -> bytes:
        """The next record, to be sent in its order."""
        inner = content + bytes([kind]) + bytes(padding)
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (self._iv ^ self._number).to_bytes(12, "big")
        self._number += 1
        return header + self._aead.encrypt(nonce, inner, header)

    def key_update(self, *, asks: bool = False) -> bytes:
        """A record that says that the client's next ones are under a new key; `asks` for the same back."""
        made = self.record(bytes([24, 0, 0, 1, asks]), kind=_HANDSHAKE)
        self._use(self._expand(b"traffic upd", hashlib.new(self._digest).digest_size))
        return made


def client_records(
    context: ssl.SSLContext, answer: Callable[[], object], to_server: ssl.MemoryBIO, to_client: ssl.MemoryBIO
) -> Client:
    """A handshake in memory; `answer` has the server take its next step."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.NamedTemporaryFile() as log:
        context.keylog_filename = log.name
        tls = context.wrap_bio(to_client, to_server, server_hostname="localhost")
        for step in (tls.do_handshake, answer, tls.do_handshake, answer):
            with contextlib.suppress(ssl.SSLWantReadError):
                step()
        return Client(Path(log.name).read_text(), tls.cipher()[0])  # type: ignore[index]


class Records:
    """A connection whose records are sent one by one."""

    def __init__(
        self, port: int, context: ssl.SSLContext, *, timeout: float = 10.0, source: str = ""
    ) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout, source_address=(source, 0) if source else None
        )
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with tempfile.NamedTemporaryFile() as log:
            context.keylog_filename = log.name
            self._from, self._to = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = context.wrap_bio(self._from, self._to, server_hostname="localhost")
            while True:
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    self.socket.sendall(self._to.read())
                    self._from.write(self.socket.recv(65_536))
                else:
                    break
            self.socket.sendall(self._to.read())
            self.client = Client(Path(log.name).read_text(), self._tls.cipher()[0])  # type: ignore[index]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *records: bytes) -> None:
        self.socket.sendall(b"".join(records))

    def read(self, size: int = 65_536) -> bytes:
        """What the other side sent next; b"" at its end."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                more = self.socket.recv(65_536)
                if not more:
                    return b""
                self._from.write(more)

    def ended(self, seconds: float) -> bool:
        """Whether the other side ends the connection within so many seconds."""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(65_536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True
