"""The answers of the service topics as JSON, plain or in the common message, as their request was.

Must not know why an answer is what it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.auth.tokens import Issued
from gateway.keys.payload_envelope import Envelope
from gateway.policy.engine.identity import Grant
from gateway.policy.engine.service_names import Service
from gateway.services.refusal import Code, Refusal
from gateway.services.request_fast_path import Request

_any = msgspec.json.Decoder(Raw)
_encoder = msgspec.json.Encoder()


class _Refused(msgspec.Struct):
    success: bool
    error: Code
    message: str
    timestamp: int


class _NotValid(msgspec.Struct):
    valid: bool
    error: Code
    message: str
    timestamp: int


class _Valid(msgspec.Struct):
    valid: bool
    device_id: str
    permissions: Mapping[str, tuple[str, ...]]
    expires_at: int
    timestamp: int


class _Token(msgspec.Struct):
    success: bool
    token: str
    permissions: Mapping[str, tuple[str, ...]]
    expires_at: int
    timestamp: int


class _Opened(msgspec.Struct):
    success: bool
    message: Raw | UnsetType
    data: bytes | UnsetType
    topic: str
    sender: str
    timestamp: int


class _CommonMessage(msgspec.Struct):
    message_id: str
    source: str
    destination: Raw
    message_type: str
    payload: Raw


def refused(service: Service, refusal: Refusal, now: int) -> bytes:
    """The answer to a refused request. `now` is in Unix milliseconds, here and below."""
    shape = _NotValid if service is Service.VALIDATE else _Refused
    return _encoder.encode(shape(False, refusal.code, str(refusal), now))  # noqa: FBT003 - its field


def issued(token: Issued, now: int) -> bytes:
    """The answer of `auth`."""
    grant = token.grant
    return _encoder.encode(
        _Token(
            success=True,
            token=token.token,
            permissions=grant.permissions,
            expires_at=grant.expires_at * 1_000,
            timestamp=now,
        )
    )


def valid(device_id: str, grant: Grant, now: int) -> bytes:
    """The answer of `validate` for a token that is valid now."""
    return _encoder.encode(
        _Valid(
            valid=True,
            device_id=device_id,
            permissions=grant.permissions,
            expires_at=grant.expires_at * 1_000,
            timestamp=now,
        )
    )


def opened(envelope: Envelope, payload: bytes) -> bytes:
    """The answer of `decrypt`: with `message` if the payload is JSON, else with `data` (base64)."""
    text = _is_json(payload)
    return _encoder.encode(
        _Opened(
            success=True,
            message=Raw(payload) if text else UNSET,
            data=UNSET if text else payload,
            topic=envelope.topic,
            sender=envelope.sender,
            timestamp=envelope.timestamp,
        )
    )


def _is_json(payload: bytes) -> bool:
    try:
        if not payload.isascii():
            payload.decode()
        _any.decode(payload)
    except (ValueError, RecursionError):
        return False
    return True


def in_shape(body: bytes, service: Service, request: Request, *, prefix: str) -> bytes:
    """The answer with the request's `request_id`, and in the common message if the request was.

    `body` is a JSON object with at least one member; `prefix` is that of the service topics.
    """
    if request.request_id:
        body = b'%s,"request_id":%s}' % (body[:-1], request.request_id)
    if not request.in_common_message:
        return body
    return _encoder.encode(
        _CommonMessage(
            message_id=str(uuid.uuid4()),
            source=prefix,
            destination=Raw(request.source),
            message_type=f"{service}_response",
            payload=Raw(body),
        )
    )
