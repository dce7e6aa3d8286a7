"""The HTTPS API on GATEWAY_HTTP_BIND: the public keys, and tokens for devices that show their secret.

Owns what a request may look like and which status says what. Who may log in is
`gateway.auth.login_gate`'s decision, the same one as for a CONNECT, and what stands in a token that of
`gateway.services.token_issuer`. Must not know how a connection is accepted, bounded or ended: that is
`gateway.http.server`.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import NamedTuple, NoReturn

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.auth.credentials import Admission, Credentials, LoginRefused
from gateway.auth.login_gate import LoginGate, Peer
from gateway.connection.audit_vocabulary import (
    Origin,
    Report,
    Source,
    issued_token,
    refused_token,
)
from gateway.http import server as http_server
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.logs import get_logger
from gateway.services import authentication_refusal_words
from gateway.services.answers import issued
from gateway.services.refusal import Code, Refusal
from gateway.services.request import null_words
from gateway.services.token_issuer import TokenIssuer
from gateway.services.token_request_parser import TokenRequest, read_token_request
from gateway.system.ip_address_blocks import Address, IPNetwork, plain, shown

BODY_MAX = 65_536
"""Bytes of a request's body."""

_OBJECTS_MAX = 1_000
"""JSON objects in a body. A real request has three; twenty thousand would fit, and parsing them would take
0.1 s, for a stranger."""
_KNOWN = ("device_id", "secret", "credentials", "ttl", "permissions")
_NAME_SHOWN = 64
"""Characters of an unknown name that an answer repeats."""
_CONNECTIONS = 256
_CONNECTIONS_PER_ADDRESS = 32
"""Connections at once: of all, and of one place."""
_LOGIN_DEADLINE = 20.0
"""Seconds for a login to be decided, as for a CONNECT."""
_ISSUED_AS = "api"
"""What the records of issued tokens call their source."""

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The parts of the gateway that the endpoints use."""

    login: LoginGate
    token_issuer: TokenIssuer
    jwks: Callable[[], Mapping[str, object]]
    """The public keys as they are now, RFC 7517."""
    audit: Audit
    now: Callable[[], int]
    """Unix milliseconds."""


async def serve_api(
    api: Api,
    addresses: Sequence[Address],
    *,
    start: http_server.Start,
    tls: ssl.SSLContext | None,
    proxies: Sequence[IPNetwork] = (),
) -> http_server.WebServer:
    """Listen on all of `addresses` (port 0: any). Raises OSError if that fails.

    Without `tls` secrets pass in the clear, so then only peers on this machine are served.
    """
    return await http_server.serve(
        _application(api),
        addresses,
        start=start,
        tls=tls,
        connections=_CONNECTIONS,
        connections_per_address=_CONNECTIONS_PER_ADDRESS,
        loopback_only=tls is None,
        proxies=proxies,
    )


class _Refused(Exception):
    """A request is refused: with an HTTP status, an error code of ours, and words that say what to do."""

    def __init__(
        self, status: int, error: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message
        self.headers = headers


class _Caller(NamedTuple):
    """Where a request came from, and the id that ties its answer to our log."""

    host: str
    port: int
    request_id: str

    @property
    def address(self) -> str:
        return shown(self.host, self.port)


_Endpoint = Callable[[Request, _Caller], Awaitable[Response]]


def _application(api: Api) -> Starlette:
    async def keys(_: Request, __: _Caller) -> Response:
        # Five minutes: a cached answer must be renewed within the overlap of two keys in a rotation.
        body = msgspec.json.encode(api.jwks())
        return _json(200, body, {"cache-control": "public, max-age=300"})

    async def token(request: Request, caller: _Caller) -> Response:
        if request.url.query:
            raise _Refused(400, Code.INVALID_REQUEST, "Everything that is asked for stands in the body.")
        device_id, secret, requested = _asked(await _body(request))
        admission = await _admit(api, device_id, secret, caller)
        return _json(200, _issue(api, admission, caller, requested))

    async def not_served(request: Request, error: Exception) -> Response:
        async def refuse(_: Request, __: _Caller) -> Response:
            if isinstance(error, HTTPException) and error.status_code == 405:
                raise _Refused(405, "method_not_allowed", "Use the method that Allow names.", error.headers)
            raise _Refused(404, "not_found", "There is nothing here.")

        return await _answering(api, refuse)(request)

    application = Starlette(
        routes=[
            Route("/.well-known/jwks.json", _answering(api, keys)),
            Route("/api/v1/token", _answering(api, token), methods=["POST"]),
        ],
        exception_handlers={HTTPException: not_served},
    )
    application.router.redirect_slashes = False
    return application


def _answering(api: Api, endpoint: _Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Give each answer an id and the time. Of a fault of ours the peer learns only the id."""

    async def answer(request: Request) -> Response:
        host, port = request.client or ("", 0)
        caller = _Caller(plain(host), port, os.urandom(6).hex())
        try:
            response = await endpoint(request, caller)
        except _Refused as refused:
            response = _failure(api, refused)
        except Exception as error:  # noqa: BLE001 - one request fails and no other
            _log.error("internal error", address=caller.address, request_id=caller.request_id, exc_info=error)
            words = "A fault of the gateway: its log says more under this X-Request-Id."
            response = _failure(api, _Refused(500, "internal_error", words))
        response.headers["x-request-id"] = caller.request_id
        response.headers["date"] = formatdate(api.now() / 1000, usegmt=True)
        return response

    return answer


# These errors are made where they are raised, and have no local name there: with one, frame and traceback
# would be a cycle, and the connection that the frame knows would stay until the garbage collector runs.


def _too_long() -> _Refused:
    return _Refused(413, Code.TOO_LARGE, f"A request may have {BODY_MAX} bytes.")


def _malformed() -> _Refused:
    words = 'Send one JSON object in UTF-8: {"device_id": "…", "secret": "…"}.'
    return _Refused(400, Code.INVALID_REQUEST, words)


async def _body(request: Request) -> bytes:
    """The whole body. Raises _Refused as soon as it is too long."""
    declared = request.headers.get("content-length", "0")
    # h11 has seen to it that these are digits, and twenty of them at most.
    if int(declared) > BODY_MAX:
        raise _too_long()
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_MAX:
                raise _too_long()
    except ClientDisconnect:
        raise _Refused(400, Code.INVALID_REQUEST, "The request ended early.") from None
    return bytes(body)


def _asked(body: bytes) -> tuple[bytes, bytes, TokenRequest]:
    """Device id, secret and what token is wanted. Raises _Refused if it is no JSON object with the first two.

    Unknown members are refused: whoever wrote one wants something by it, and would think to have got it.
    """
    if body.count(b"{") > _OBJECTS_MAX:
        raise _malformed()
    try:
        # RFC 8259, 8.1: UTF-8. Python alone would take a guess at UTF-16.
        said = json.loads(body.decode(), object_pairs_hook=_members, parse_constant=_refuse_constant)
        inner = said.get("credentials", said)
        device_id, secret = said["device_id"].encode(), inner["secret"].encode()
        others = [name for name in said if name not in _KNOWN]
        if inner is not said:
            others += [name for name in ("secret",) if name in said]
            others += [f"credentials.{name}" for name in inner if name != "secret"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _malformed() from None
    if others:
        raise _wrong_member(others[0], f"is not known here: leave it out. Known are {', '.join(_KNOWN)}.")
    if nulls := [name for name, value in said.items() if value is None]:
        raise _Refused(400, Code.INVALID_REQUEST, null_words(nulls[0]))
    try:
        return device_id, secret, read_token_request(said.get("ttl"), said.get("permissions"))
    except Refusal as refusal:
        raise _Refused(400, refusal.code, str(refusal)) from None


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Of two members with one name, different readers may take different ones (RFC 8259, 4).
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            raise _wrong_member(name, "stands there twice: give it once.")
        members[name] = value
    return members


def _wrong_member(name: str, words: str) -> _Refused:
    # Half a surrogate pair can't be answered.
    said = f'"{name[:_NAME_SHOWN]}" {words}'.encode("utf-8", "replace").decode()
    return _Refused(400, Code.INVALID_REQUEST, said)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


async def _admit(api: Api, device_id: bytes, secret: bytes, caller: _Caller) -> Admission:
    """Log the device in, by the same gate as for a CONNECT. Raises _Refused."""
    shown = Credentials(username=device_id, password=secret)
    origin = _origin(caller, None, Source.STRANGER)
    peer = Peer(host=caller.host, origin=origin, through=_ISSUED_AS, patience=_LOGIN_DEADLINE)
    try:
        return api.login.recognise(shown, peer) or await api.login.verify(shown, peer)
    except LoginRefused as refused:
        raise _refused(authentication_refusal_words.of_login(refused)) from None


def _issue(api: Api, admission: Admission, caller: _Caller, requested: TokenRequest) -> bytes:
    """The answer with the token. Raises _Refused."""
    device_id = admission.device.device_id
    try:
        token = api.token_issuer.issue(
            admission.device, source=_ISSUED_AS, parent=admission.grant, requested=requested
        )
    except Refusal as refusal:
        _report(api, caller, refused_token(refusal.why, through=_ISSUED_AS), device_id)
        raise _refused(refusal) from None
    _report(api, caller, issued_token(token.grant.token_id, through=_ISSUED_AS), device_id)
    return issued(token, api.now())


def _refused(refusal: Refusal) -> _Refused:
    return _Refused(_STATUS.get(refusal.code, 403), refusal.code, str(refusal))


_STATUS = {Code.NOT_ACCEPTED: 401, Code.TOKEN_EXPIRED: 401, Code.RATE_LIMITED: 429, Code.UNAVAILABLE: 503}
_HEADERS = {
    # RFC 9110, 15.5.2 demands a challenge. No scheme of the registry fits a secret in the body.
    401: {"www-authenticate": "Device-Secret"},
    429: {"retry-after": "60"},
    503: {"retry-after": "5"},
}


def _report(api: Api, caller: _Caller, report: Report, device_id: str) -> None:
    api.audit.emit(AuditEvent.of(report, _origin(caller, device_id, Source.DEVICE), api.now()))


def _origin(caller: _Caller, device_id: str | None, source: Source) -> Origin:
    return Origin(source=source, device=device_id, address=caller.address, request_id=caller.request_id)


def _failure(api: Api, refused: _Refused) -> Response:
    body = {
        "success": False,
        "error": refused.error,
        "message": refused.message,
        "timestamp": api.now(),
    }
    headers = _HEADERS.get(refused.status, {}) | dict(refused.headers or {})
    return _json(refused.status, msgspec.json.encode(body), headers)


def _json(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    # RFC 6749, 5.1: nobody may cache an answer that holds a token.
    return Response(
        body,
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store"} | dict(headers or {}),
    )
