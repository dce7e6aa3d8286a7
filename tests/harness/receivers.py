"""What channels of alerts speak to: an HTTP server that keeps what it is sent, and a mail server."""

from __future__ import annotations

import email
import email.message
import email.policy
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

SECONDS = 20.0


@dataclass
class Posted:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def wait_until(what: Callable[[], bool], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come")
        time.sleep(0.02)


class HttpReceiver:
    """Answers each POST with the next of `answers`, the last of them for ever, and keeps it."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.posted: list[Posted] = []
        self.answers: list[int] = [200]
        self.said = b"ok"
        self.location: str | None = None
        self.hang = threading.Event()
        """Set: it takes the request and does not answer."""
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.posted.append(Posted(self.path, headers, body))
                if receiver.hang.is_set():
                    receiver.ended.wait(60)
                    return
                status = receiver.answers[0] if len(receiver.answers) == 1 else receiver.answers.pop(0)
                self.send_response(status)
                if receiver.location:
                    self.send_header("location", receiver.location)
                self.send_header("content-length", str(len(receiver.said)))
                self.end_headers()
                self.wfile.write(receiver.said)

            def log_message(self, *_: object) -> None:
                pass

        self.ended = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/x"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for(self, count: int, seconds: float = SECONDS) -> list[Posted]:
        wait_until(lambda: len(self.posted) >= count, seconds)
        return self.posted


@dataclass
class MailReceiver:
    """Takes mail of one user, after STARTTLS only."""

    tls: ssl.SSLContext
    username: str = "gateway"
    password: str = "hunter2-hunter2"
    refuse: str = ""
    """What it says to each mail in place of taking it."""
    mails: list[email.message.EmailMessage] = field(default_factory=list)
    senders: list[tuple[str | None, list[str]]] = field(default_factory=list)
    logins: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            tls_context=self.tls,
            require_starttls=True,
            auth_required=True,
            auth_require_tls=True,
            authenticator=self._login,
        )
        self._controller.start()

    def _login(self, _s: SMTP, _session: Session, _e: Envelope, _m: str, data: LoginPassword) -> AuthResult:
        good = data.login == self.username.encode() and data.password == self.password.encode()
        self.logins.append(good)
        return AuthResult(success=good, handled=False)

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name for it
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        if self.refuse:
            return self.refuse
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, email.message.EmailMessage)
        self.mails.append(mail)
        self.senders.append((envelope.mail_from, envelope.rcpt_tos))
        return "250 taken"

    def stop(self) -> None:
        self._controller.stop()

    def wait_for(self, count: int, seconds: float = SECONDS) -> list[email.message.EmailMessage]:
        wait_until(lambda: len(self.mails) >= count, seconds)
        return self.mails


def authority(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS for 127.0.0.1, and the file of the CA that signed it."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    path = folder / "receivers-ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return context, path
