"""The API of a running gateway, as a device's author meets it, and as those do who mean it no good."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import pytest
from harness import raw
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from harness.one_minute import in_one_minute
from harness.raw import Raw

from gateway.pki.initial_certificates import ensure_server_certificate

World = tuple[Mosquitto, Gateway]
TOKEN, KEYS = "/api/v1/token", "/.well-known/jwks.json"


class Answer:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = dict(answer.getheaders())
        self.body = answer.read()

    @property
    def json(self) -> dict[str, object]:
        return json.loads(self.body)


def ask(
    gateway: Gateway, method: str, path: str, body: object = None, *, source: str = "127.0.0.1"
) -> Answer:
    connection = http.client.HTTPSConnection(
        "localhost", gateway.http_port, timeout=10, context=gateway.tls(), source_address=(source, 0)
    )
    with contextlib.closing(connection):
        connection.request(method, path, None if body is None else json.dumps(body))
        return Answer(connection.getresponse())


def log_in(gateway: Gateway, device_id: str, secret: str, *, source: str = "127.0.0.1") -> Answer:
    return ask(gateway, "POST", TOKEN, {"device_id": device_id, "secret": secret}, source=source)


def connack(gateway: Gateway, username: str | None, password: object, *, source: str = "127.0.0.1") -> bytes:
    with Raw(gateway.port, gateway.tls(), source=source) as device:
        return device.send(raw.connect(v5=True, username=username, password=password)).read()


def entered(answer: bytes) -> bool:
    return answer[3] == 0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def lamp(world: World) -> tuple[str, str]:
    """A device of the module's gateway, and its secret."""
    return "lamp-1", world[1].add_device("lamp-1", "sensor")


def test_a_secret_becomes_a_token_and_the_token_opens_the_door(world: World, lamp: tuple[str, str]) -> None:
    _, gateway = world
    answer = log_in(gateway, *lamp)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    said = answer.json
    assert said["success"] is True
    assert said["expires_at"] == pytest.approx(said["timestamp"] + 86_400_000, abs=1_000)
    for username in ("lamp-1", None):
        assert entered(connack(gateway, username, said["token"]))
    assert not entered(connack(gateway, "lamp-2", said["token"]))
    # The administrator sees it, and takes it back.
    token_id = jwt.decode(said["token"], options={"verify_signature": False})["jti"]
    until(lambda: token_id in gateway.admin("token", "list", "--json").stdout)
    gateway.admin("token", "revoke", token_id)
    until(lambda: not entered(connack(gateway, "lamp-1", said["token"])))


def test_the_public_keys_are_all_that_others_need_to_verify_a_token(
    world: World, lamp: tuple[str, str]
) -> None:
    _, gateway = world
    token = log_in(gateway, *lamp).json["token"]
    keys = jwt.PyJWKClient(f"https://localhost:{gateway.http_port}{KEYS}", ssl_context=gateway.tls())
    verified = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token),
        algorithms=["EdDSA"],
        audience="mqtt",
        issuer="mqtt-security-gateway",
        options={"require": ["exp", "iat", "nbf", "jti", "sub"]},
    )
    assert verified["sub"] == "lamp-1"
    assert verified["permissions"] == log_in(gateway, *lamp).json["permissions"]


def test_after_a_rotation_both_keys_are_public_and_both_tokens_good(
    world: World, lamp: tuple[str, str]
) -> None:
    _, gateway = world
    before = log_in(gateway, *lamp).json["token"]
    gateway.admin("keys", "rotate", "signing")

    def ids() -> list[str]:
        return [key["kid"] for key in ask(gateway, "GET", KEYS).json["keys"]]

    until(lambda: len(ids()) == 2)
    after = log_in(gateway, *lamp).json["token"]
    assert jwt.get_unverified_header(after)["kid"] == ids()[0]
    assert jwt.get_unverified_header(before)["kid"] == ids()[1]
    assert entered(connack(gateway, "lamp-1", before))
    assert entered(connack(gateway, "lamp-1", after))


def test_what_is_told_and_what_is_not(world: World, lamp: tuple[str, str]) -> None:
    _, gateway = world
    good = log_in(gateway, *lamp)
    wrong = log_in(gateway, "lamp-1", "hunter2-hunter2")
    assert (wrong.status, wrong.json["message"]) == (401, "Invalid credentials")
    told = {
        line["request_id"]: (line["kind"], line["outcome"], line["device"])
        for line in gateway.log_lines()
        if line.get("action") == "api"
    }
    assert told[good.headers["x-request-id"]] == ("token", "done", "lamp-1")
    assert told[wrong.headers["x-request-id"]] == ("login", "refused", "lamp-1")
    log = gateway.log_text()
    for secret in (lamp[1], "hunter2", str(good.json["token"])):
        assert secret not in log


def test_a_disabled_device_gets_no_token_and_no_other_answer(world: World) -> None:
    _, gateway = world
    secret = gateway.add_device("off-1", "sensor")
    assert log_in(gateway, "off-1", secret).status == 200
    gateway.admin("device", "disable", "off-1")
    until(lambda: log_in(gateway, "off-1", secret).status != 200)
    answers = [log_in(gateway, "off-1", secret), log_in(gateway, "no-such", secret)]
    for answer in answers:
        assert (answer.status, answer.json["error"]) == (401, "not_accepted")


def test_guesses_here_close_the_door_for_devices_too(world: World) -> None:
    _, gateway = world
    secret = gateway.add_device("safe-1", "sensor")

    def guess(attempt: int) -> tuple[list[int], bool]:
        source = f"127.0.0.{attempt + 9}"
        statuses = [log_in(gateway, "safe-1", "guess", source=source).status for _ in range(31)]
        return statuses, entered(connack(gateway, "safe-1", secret, source=source))

    assert in_one_minute(guess) == ([401] * 30 + [429], False)
    assert entered(connack(gateway, "safe-1", secret))


def test_old_versions_of_tls_are_refused(world: World) -> None:
    _, gateway = world
    context = gateway.tls()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", gateway.http_port), 10) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def test_plain_http_on_the_tls_port_is_no_request(world: World) -> None:
    _, gateway = world
    with (
        pytest.raises((http.client.BadStatusLine, ConnectionError)),
        urllib.request.urlopen(f"http://localhost:{gateway.http_port}{KEYS}", timeout=10),
    ):
        pass


def test_what_is_sent_behind_a_request_is_not_looked_at(world: World) -> None:
    _, gateway = world
    with (
        socket.create_connection(("127.0.0.1", gateway.http_port), 10) as plain,
        gateway.tls().wrap_socket(plain, server_hostname="localhost") as peer,
    ):
        peer.sendall(f"GET {KEYS} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 3)
        received = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while more := peer.recv(65_536):
                received += more
    assert received.count(b"HTTP/1.1 200 OK") == 1


def test_a_long_body_is_refused_while_it_is_sent(world: World) -> None:
    _, gateway = world
    answer = ask(gateway, "POST", TOKEN, {"device_id": "lamp-1", "secret": "x" * 900_000})
    assert (answer.status, answer.json["error"]) == (413, "too_large")


@pytest.fixture
def besieged(world: World) -> Iterator[Gateway]:
    """From one address: hundreds who never begin TLS, never end their head, never send their body."""
    _, gateway = world
    port, context = gateway.http_port, gateway.tls()
    with contextlib.ExitStack() as peers:
        for first in (
            b"GET / HTTP/1.1\r\nX: ",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n",
        ):
            for _ in range(8):
                plain = socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.66", 0))
                peer = peers.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
                peer.sendall(first)
        for _ in range(400):
            peers.enter_context(socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.66", 0)))
        yield gateway


def test_one_address_that_holds_connections_open_keeps_nobody_else_out(
    besieged: Gateway, lamp: tuple[str, str]
) -> None:
    descriptors = len(list(Path(f"/proc/{besieged.pid}/fd").iterdir()))
    assert descriptors < 200
    assert log_in(besieged, *lamp).status == 200
    assert entered(connack(besieged, *lamp))


def test_another_certificate_is_shown_without_a_restart(gateway: Gateway, tmp_path: Path) -> None:
    # A connection takes the one that is in force when it begins.
    ensure_server_certificate(tmp_path / "new" / "server.crt", tmp_path / "new" / "server.key", names=[])
    port = gateway.http_port
    before, after = gateway.tls(), ssl.create_default_context(cafile=str(tmp_path / "new" / "ca.crt"))

    def is_trusted(context: ssl.SSLContext) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"https://localhost:{port}{KEYS}", context=context, timeout=10),
        ):
            return True
        return False

    assert (is_trusted(before), is_trusted(after)) == (True, False)
    for name in ("server.crt", "server.key"):
        (tmp_path / "new" / name).replace(gateway.folder / "certs" / name)
    until(lambda: is_trusted(after))
    assert not is_trusted(before)


def test_without_tls_it_speaks_plain_http_on_loopback(
    mosquitto: Mosquitto, start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway(mosquitto.port, TLS_ENABLED="false")
    secret = gateway.add_device("lamp-1", "sensor")
    connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", TOKEN, json.dumps({"device_id": "lamp-1", "secret": secret}))
        assert connection.getresponse().status == 200
