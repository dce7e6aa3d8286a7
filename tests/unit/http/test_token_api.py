"""The API over real sockets, with the real gate, keys and office behind it; TLS is tested with the port."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from email.utils import formatdate
from unittest.mock import ANY

import pytest
import structlog
from harness.request_handler import NOW, SECRET, Counter, allow

from gateway.auth.claimed_name_redaction import ClaimedNames
from gateway.auth.credentials import Credentials
from gateway.auth.login import Login
from gateway.auth.login_gate import LoginGate
from gateway.auth.passwords import PasswordPool, VerifiedSecrets
from gateway.auth.signing_keys import SigningKeys
from gateway.config import Address
from gateway.connection.audit_vocabulary import Kind, Outcome
from gateway.http import token_api
from gateway.http.token_api import Api, serve_api
from gateway.keys.key_ring import Key, KeyState
from gateway.net.tasks import Tasks
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Policy, Role

FULL = ("#", "$SYS/#")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        return json.loads(self.body)

    @property
    def same(self) -> object:
        """All of it that does not differ between two answers of the same kind."""
        headers = {name: value for name, value in self.headers.items() if name != "x-request-id"}
        return self.status, headers, self.body


class Pool(PasswordPool):
    """Counts what the answers cost."""

    hashes = 0

    def submit(self, work):
        self.hashes += 1
        return super().submit(work)


class World:
    """Whom the endpoints ask, and what they tell."""

    def __init__(self, pool: Pool, **limits: int) -> None:
        self.request_handler = Counter(**limits)
        self.pool = pool
        self.events: list[AuditEvent] = []
        devices = self.request_handler.devices.devices
        devices["off"] = replace(devices["svc"], device_id="off", enabled=False)
        context = self.request_handler.context
        self.login = Login(
            self.request_handler.devices,
            pool,
            VerifiedSecrets(),
            self.request_handler.tokens,
            limits=Limits(**limits),
            rehash=lambda *_: None,
        )
        audit = Audit(context.counters, self.events.append)
        gate = LoginGate(
            self.login,
            ClaimedNames(self.request_handler.devices),
            context.counters,
            lambda report, origin: audit.emit(AuditEvent.of(report, origin, context.now())),
            lambda method, device_id, origin: audit.admitted(method, device_id, origin, context.now()),
        )
        self.api = Api(
            login=gate,
            token_issuer=self.request_handler.token_issuer,
            jwks=lambda: self.request_handler.tokens.keys.jwks(),  # noqa: PLW0108 - other keys after a rotation
            audit=audit,
            now=context.now,
        )
        self.port = 0

    async def ask(self, request: bytes, *, source: str = "127.0.0.1") -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        writer.write(request)
        async with asyncio.timeout(20):
            received = await reader.read()
        writer.close()
        head, _, body = received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        assert len(headers) == len(lines)
        return Answer(int(status.split()[1]), headers, body)

    async def get(self, path: str, method: str = "GET") -> Answer:
        return await self.ask(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    async def post(self, body: object, *, source: str = "127.0.0.1", query: str = "") -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"POST /api/v1/token{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n"
        return await self.ask(head.encode() + raw, source=source)

    async def log_in(self, device_id: str, secret: str = SECRET, *, source: str = "127.0.0.1") -> Answer:
        return await self.post({"device_id": device_id, "secret": secret}, source=source)


@pytest.fixture
async def started():
    """Start an API: `started(login_failures_per_minute=2)`; the keywords are limits."""
    tasks, opened = Tasks(), []

    async def start(pool: Pool | None = None, **limits: int) -> World:
        world = World(pool or Pool(), **limits)
        port = await serve_api(world.api, [Address("127.0.0.1", 0)], start=tasks.start, tls=None)
        opened.append((world, port))
        world.port = port.acceptor.port
        return world

    yield start
    for world, port in opened:
        await port.close()
        world.pool.close()


@pytest.fixture
async def world(started):
    return await started()


async def test_the_public_keys(world):
    answer = await world.get("/.well-known/jwks.json")
    assert (answer.status, answer.json) == (200, world.request_handler.tokens.keys.jwks())
    assert answer.headers.items() >= {
        ("content-type", "application/json"),
        ("cache-control", "public, max-age=300"),
        ("date", formatdate(NOW / 1000, usegmt=True)),
        ("x-content-type-options", "nosniff"),
    }
    assert [(key["kid"], set(key)) for key in answer.json["keys"]] == [
        ("s1", {"kty", "crv", "x", "kid", "use", "alg"})
    ]


async def test_the_public_keys_after_a_rotation(world):
    keys = [
        Key("s1", bytes(32), KeyState.VERIFY_ONLY, 0, retired_at=0, until=NOW),
        Key("s2", bytes(range(32)), KeyState.ACTIVE, 0),
    ]
    world.request_handler.tokens.use(SigningKeys.of_keys(keys, NOW // 1000))
    answer = await world.get("/.well-known/jwks.json")
    assert [key["kid"] for key in answer.json["keys"]] == ["s2", "s1"]


async def test_a_shared_secret_is_not_shown(world):
    world.request_handler.tokens.use(SigningKeys.of_secret(b"hunter2" * 5))
    assert (await world.get("/.well-known/jwks.json")).json == {"keys": []}


@pytest.mark.parametrize(
    "body",
    [
        {"device_id": "svc", "secret": SECRET},
        {"device_id": "svc", "credentials": {"secret": SECRET}},
        {"credentials": {"secret": SECRET}, "ttl": "1h", "device_id": "svc"},
    ],
)
async def test_a_token_for_a_secret(world, body):
    answer = await world.post(body)
    said = answer.json
    device, grant = world.request_handler.tokens.verify(said.pop("token").encode())
    assert (answer.status, device.device_id) == (200, "svc")
    assert said == {
        "success": True,
        "permissions": {action: list(FULL) for action in ("publish", "subscribe", "encrypt", "decrypt")},
        "expires_at": NOW + 3_600_000,
        "timestamp": NOW,
    }
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    assert [(one.token_id, one.source) for one in world.request_handler.token_issuer.unsaved()] == [
        (grant.token_id, "api")
    ]
    origin = {"device": "svc", "request_id": answer.headers["x-request-id"]}
    address = world.events[0].address
    assert address.startswith("127.0.0.1:")
    assert world.events == [
        AuditEvent(
            time=NOW, kind=kind, outcome=Outcome.DONE, reason=reason, action=action, address=address, **origin
        )
        for kind, reason, action in (
            (Kind.LOGIN, "by secret", "secret"),
            (Kind.TOKEN, f"issued {grant.token_id}", "api"),
        )
    ]


async def test_a_secret_that_was_verified_is_known_again(world):
    for _ in range(2):
        assert (await world.log_in("svc")).status == 200
    counters = world.request_handler.context.counters
    assert (world.pool.hashes, counters.logins_verified, counters.logins_remembered) == (1, 1, 1)


async def test_who_is_not_accepted_learns_nothing_more_and_pays_the_same(world):
    answers = [
        await world.log_in("svc", "wrong"),
        await world.log_in("nobody"),
        await world.log_in("off"),
        await world.log_in("no device id/#"),
        await world.log_in("lämp"),
    ]
    assert world.pool.hashes == len(answers)
    assert {repr(answer.same) for answer in answers} == {repr(answers[0].same)}
    assert answers[0].status == 401
    assert answers[0].json == {
        "success": False,
        "error": "not_accepted",
        "message": "Invalid credentials",
        "timestamp": NOW,
    }
    assert answers[0].headers["www-authenticate"]
    assert answers[0].headers["cache-control"] == "no-store"
    # Our log knows.
    assert world.events[1].device.startswith("unknown:"), "it may be a secret that somebody typed there"
    assert [(event.reason, event.device) for event in world.events] == [
        ("wrong secret", "svc"),
        ("unknown device", ANY),
        ("disabled device", "off"),
        ("unknown device", None),
        ("unknown device", None),
    ]
    assert {(event.kind, event.outcome) for event in world.events} == {(Kind.LOGIN, Outcome.REFUSED)}
    assert [event.request_id for event in world.events] == [one.headers["x-request-id"] for one in answers]
    assert len({event.request_id for event in world.events}) == len(answers)
    assert world.request_handler.context.counters.logins_refused == len(answers)
    assert world.request_handler.token_issuer.unsaved() == ()


async def test_a_wrong_secret_slows_down_its_address_and_no_other(started):
    world = await started(login_failures_per_minute=2)
    for _ in range(2):
        assert (await world.log_in("svc", "wrong")).status == 401
    answer = await world.log_in("svc")
    assert (answer.status, answer.json["error"], answer.headers["retry-after"]) == (429, "rate_limited", "60")
    assert world.pool.hashes == 2
    assert (await world.log_in("svc", source="127.0.0.2")).status == 200


async def test_the_throttle_is_that_of_the_gate(started):
    world = await started(login_failures_per_minute=1)
    await world.log_in("svc", "wrong", source="127.0.0.3")
    with pytest.raises(Exception, match="throttled"):
        await world.login.verify(Credentials(username=b"svc", password=b"wrong"), "127.0.0.3")


async def test_a_full_pool_is_said_to_be_busy(started):
    world = await started(Pool(threads=1, patience=0.01))
    world.pool._slots = 0
    answer = await world.log_in("svc")
    assert (answer.status, answer.json["error"], answer.headers["retry-after"]) == (503, "unavailable", "5")
    assert world.events[0].reason.startswith("busy")


async def test_without_the_store_nobody_gets_in(world):
    assert (await world.log_in("svc")).status == 200
    world.request_handler.devices.available = False
    answer = await world.log_in("svc")
    assert (answer.status, answer.json["error"]) == (503, "unavailable")
    assert world.events[-1].reason == "store unavailable"


async def test_a_login_that_takes_for_ever_is_given_up(world, monkeypatch):
    monkeypatch.setattr(token_api, "_LOGIN_DEADLINE", 0.05)

    world.pool._slots = 0
    answer = await world.log_in("svc")
    assert (answer.status, answer.json["error"]) == (503, "unavailable")
    assert world.events[0].reason == "no answer in time"


@pytest.mark.parametrize("name", ["ttl", "permissions"])
async def test_null_is_no_wish_for_everything(world, name):
    """A token of a day with all rights, for whoever's program had nothing to put there."""
    answer = await world.post({"device_id": "svc", "secret": SECRET, name: None})
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert answer.json["message"] == f'"{name}" is null: give it a value, or leave it out.'
    assert (world.pool.hashes, world.events) == (0, [])


MALFORMED = {
    "nothing": b"",
    "no JSON": b"device_id=svc&secret=x",
    "a list": b'["device_id", "secret"]',
    "text": b'"device_id secret"',
    "null": b"null",
    "no secret": b'{"device_id": "svc"}',
    "no device": b'{"secret": "x"}',
    "numbers": b'{"device_id": 1, "secret": 2}',
    "null inside": b'{"device_id": "svc", "secret": null}',
    "credentials that are none": b'{"device_id": "svc", "credentials": "x"}',
    "no secret in them": b'{"device_id": "svc", "credentials": {}}',
    "not a number": b'{"device_id": "svc", "secret": "x", "n": NaN}',
    "infinity": b'{"device_id": "svc", "secret": "x", "n": -Infinity}',
    "deep": b'{"a":' * 10_000,
    "deep lists": b"[" * 60_000,
    "many objects": b'{"device_id": "svc", "secret": "x", "n": [' + b"{}," * 20_000 + b"{}]}",
    "a long number": b'{"device_id": "svc", "secret": "x", "n": ' + b"9" * 60_000 + b"}",
    "no UTF-8": b'{"device_id": "svc", "secret": "\xff"}',
    "half a character": b'{"device_id": "svc", "secret": "\\ud800"}',
    "UTF-16": '{"device_id": "svc", "secret": "x"}'.encode("utf-16"),
    "a byte order mark": '\ufeff{"device_id": "svc", "secret": "x"}'.encode(),
    "two values": b'{"device_id": "svc", "secret": "x"} {}',
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_no_request_is_refused_before_anybody_is_asked(world, body):
    with structlog.testing.capture_logs() as lines:
        answer = await world.post(body)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert '"device_id"' in answer.json["message"]
    assert (world.pool.hashes, world.events, lines) == (0, [], [])


TWICE = {
    "device_id": b'{"device_id": "svc", "secret": "x", "device_id": "off"}',
    "secret": b'{"device_id": "svc", "credentials": {"secret": "x", "secret": "y"}}',
    "publish": b'{"device_id": "svc", "secret": "x", "permissions": {"publish": ["a"], "publish": ["b"]}}',
    "ttl": b'{"device_id": "svc", "secret": "x", "ttl": 60, "\\u0074tl": 61}',
    "?": b'{"device_id": "svc", "secret": "x", "\\ud800": 1, "\\ud800": 2}',
}


@pytest.mark.parametrize(("name", "body"), TWICE.items(), ids=TWICE)
async def test_a_member_that_stands_twice_is_named(world, name, body):
    answer = await world.post(body)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert answer.json["message"] == f'"{name}" stands there twice: give it once.'
    assert (world.pool.hashes, world.events) == (0, [])


async def test_too_long_a_body_is_refused_from_its_head_alone(world):
    answer = await world.ask(b"POST /api/v1/token HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n")
    assert (answer.status, answer.json["error"]) == (413, "too_large")


async def test_too_long_a_body_in_chunks_is_refused_when_it_shows(world):
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    head = b"POST /api/v1/token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    # It does not end, so only what is too long can be the reason.
    answer = await world.ask(head + 3 * chunk)
    assert (answer.status, answer.json["error"]) == (413, "too_large")


async def test_as_long_as_a_body_may_be(world):
    body = json.dumps({"device_id": "svc", "secret": SECRET}).encode()
    assert (await world.post(body.ljust(token_api.BODY_MAX))).status == 200
    assert (await world.post(body.ljust(token_api.BODY_MAX + 1))).status == 413


async def test_who_leaves_in_the_middle_is_no_fault(world):
    with structlog.testing.capture_logs() as lines:
        _, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(b"POST /api/v1/token HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await world.get("/.well-known/jwks.json")).status == 200
    assert lines == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/v1/token", {"POST"}),
        ("HEAD", "/api/v1/token", {"POST"}),
        ("PUT", "/api/v1/token", {"POST"}),
        ("OPTIONS", "/api/v1/token", {"POST"}),
        ("POST", "/.well-known/jwks.json", {"GET", "HEAD"}),
        ("BREW", "/.well-known/jwks.json", {"GET", "HEAD"}),
    ],
)
async def test_another_method(world, method, path, allow):
    answer = await world.get(path, method)
    assert (answer.status, set(answer.headers["allow"].split(", "))) == (405, allow)
    assert method == "HEAD" or answer.json["error"] == "method_not_allowed"


@pytest.mark.parametrize(
    "path",
    ["/", "/api/v1/token/", "/api/v1", "/health", "/docs", "/openapi.json", "/..%2f..%2fetc/passwd", "*"],
)
async def test_another_path(world, path):
    answer = await world.get(path)
    assert (answer.status, answer.json["error"], answer.json["success"]) == (404, "not_found", False)
    assert answer.headers["x-request-id"]
    assert answer.headers["content-security-policy"] == "default-src 'none'"


async def test_a_fault_of_ours_is_told_to_our_log_alone(world, caplog):
    world.api.token_issuer.issue = None  # the real one can't be made to fail like this
    with structlog.testing.capture_logs() as lines:
        answer = await world.log_in("svc")
    assert (answer.status, answer.json["error"]) == (500, "internal_error")
    assert b"NoneType" not in answer.body
    (line,) = lines
    assert (line["event"], line["request_id"]) == ("internal error", answer.headers["x-request-id"])
    assert "NoneType" in str(line["exc_info"])
    assert caplog.records == []


async def test_too_many_tokens_for_one_device(started):
    world = await started(tokens_per_minute=1)
    assert (await world.log_in("svc")).status == 200
    answer = await world.log_in("svc")
    assert (answer.status, answer.json["error"], answer.headers["retry-after"]) == (429, "rate_limited", "60")
    assert (world.events[-1].kind, world.events[-1].outcome) == (Kind.TOKEN, Outcome.REFUSED)
    assert (await world.log_in("other")).status == 200


async def test_rights_that_fit_into_no_token(world):
    rules = tuple(allow(f"topic/{number}/of/many", "publish") for number in range(2_000))
    context = world.request_handler.context
    context.policy = Policy(
        [Role("full", "", rules)], sensitive=[], limits=context.policy.limits, reserved="gateway"
    )
    answer = await world.log_in("svc")
    assert (answer.status, answer.json["error"]) == (403, "too_large")
    assert world.events[-1].outcome is Outcome.REFUSED


async def test_a_token_in_the_place_of_the_secret_gives_no_more_than_itself(world):
    narrow = world.request_handler.tokens.issue(
        world.request_handler.devices.get("svc"), {"publish": ["a/b"]}
    )
    answer = await world.log_in("svc", narrow.token)
    _, grant = world.request_handler.tokens.verify(answer.json["token"].encode())
    assert grant.permissions == {"publish": ("a/b",), "subscribe": (), "encrypt": (), "decrypt": ()}
    assert grant.root == narrow.grant.token_id
    assert world.pool.hashes == 0
    assert (await world.log_in("other", narrow.token)).status == 401
    world.request_handler.revoke_everything("svc")
    assert (await world.log_in("svc", narrow.token)).status == 401


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"ttl_seconds": 60}, '"ttl_seconds"'),
        ({"permisions": {}}, '"permisions"'),
        ({"credentials": {"secret": SECRET}}, '"secret"'),
        ({"ttl": 0}, '"ttl"'),
        ({"ttl": -1}, '"ttl"'),
        ({"ttl": 1.5}, '"ttl"'),
        ({"ttl": True}, '"ttl"'),
        ({"ttl": "soon"}, '"ttl"'),
        ({"permissions": ["a"]}, '"permissions"'),
        ({"permissions": {"publish": "a"}}, '"permissions"'),
        ({"permissions": {"publish": [1]}}, '"permissions"'),
        ({"permissions": {"write": ["a"]}}, '"permissions"'),
        ({"permissions": {"publish": ["a/#/b"]}}, '"permissions"'),
        ({"permissions": {"subscribe": ["$share/g/a"]}}, '"permissions"'),
        ({"permissions": {"publish": [f"a/{number}" for number in range(65)]}}, '"permissions"'),
        ({"x" * 5_000: 1}, "xxx"),
        ({"\ud800": 1}, "?"),
    ],
)
async def test_what_is_not_known_or_can_not_be_is_refused_and_never_ignored(world, more, named):
    answer = await world.post({"device_id": "svc", "secret": SECRET} | more)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert named in answer.json["message"]
    assert len(answer.json["message"]) < 300
    assert (world.pool.hashes, world.events) == (0, [])


async def test_credentials_have_a_secret_and_nothing_else(world):
    answer = await world.post({"device_id": "svc", "credentials": {"secret": SECRET, "scope": "a"}})
    assert (answer.status, '"credentials.scope"' in answer.json["message"]) == (400, True)


@pytest.mark.parametrize(("ttl", "seconds"), [(1, 1), (90, 90), ("15m", 900), ("1h", 3_600)])
async def test_a_shorter_life_is_granted_to_the_second(world, ttl, seconds):
    answer = await world.post({"device_id": "svc", "secret": SECRET, "ttl": ttl})
    assert (answer.status, answer.json["expires_at"]) == (200, NOW + seconds * 1_000)


@pytest.mark.parametrize("ttl", [3_601, "1d", 2**60])
async def test_a_longer_life_than_there_is_is_refused(world, ttl):
    answer = await world.post({"device_id": "svc", "secret": SECRET, "ttl": ttl})
    assert (answer.status, answer.json["error"], "token" in answer.json) == (403, "not_authorized", False)
    assert '"ttl"' in answer.json["message"]
    assert not world.request_handler.token_issuer.unsaved()


async def test_fewer_rights_are_granted_to_the_letter_and_open_sessions_of_their_own(world):
    wanted = {"publish": ["a/b", "a/b"], "subscribe": ["c/+"]}
    answer = await world.post({"device_id": "svc", "secret": SECRET, "permissions": wanted})
    _, grant = world.request_handler.tokens.verify(answer.json["token"].encode())
    granted = {"publish": ("a/b",), "subscribe": ("c/+",), "encrypt": (), "decrypt": ()}
    assert (grant.permissions, bool(grant.narrowed_digest)) == (granted, True)
    nothing = await world.post({"device_id": "svc", "secret": SECRET, "permissions": {}})
    assert set(map(tuple, nothing.json["permissions"].values())) == {()}, "to the letter"


async def test_more_rights_than_the_device_has_are_refused(world):
    narrow = world.request_handler.tokens.issue(
        world.request_handler.devices.get("svc"), {"publish": ["a/+"]}
    )
    for filters, status in ((["a/b"], 200), (["a/#"], 403), (["a/b", "z"], 403)):
        body = {"device_id": "svc", "secret": narrow.token, "permissions": {"publish": filters}}
        answer = await world.post(body)
        assert (answer.status, "token" in answer.json) == (status, status == 200)
    assert "publish z" in answer.json["message"]
    assert world.events[-1].outcome is Outcome.REFUSED


async def test_a_query_is_asked_for_in_vain_and_told_so(world):
    answer = await world.post({"device_id": "svc", "secret": SECRET}, query="?ttl=60")
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
