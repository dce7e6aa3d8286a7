"""A request to a service topic as JSON, either plain or in the common message.

The common message is a JSON object round a request, as programs on such a bus often send it: `payload` is the
request; `message_type`, `message_id` and `source` are beside it. The answer to such a request has this shape,
too.

Owns which members a request may have. Must not know whether a request is granted. Every part of a request is
decoded when it is asked for: so a request can be answered in its own shape and with its own `request_id`,
whatever else is wrong with it. A member that the service would ignore is an error, since its author expects
it to have an effect; only the common message may have other members. A member that appears twice is an error,
too. `message` is passed on as it was sent: an envelope in it is decoded here only to find a member twice.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from itertools import compress

import msgspec
from msgspec import Raw

from gateway.keys.payload_envelope import REQUEST_ID_MAX, RequestId
from gateway.policy.engine.service_names import Service
from gateway.services.duplicate_json_members import (
    BESIDE_BYTES_MAX,
    TooMuchBeside,
    has_a_name_twice,
    has_one_of_them_twice,
)
from gateway.services.refusal import Code, Refusal

ECHOED_MAX = REQUEST_ID_MAX
"""Longest `request_id`, `message_id` or `source` that is echoed in the answer, in bytes of JSON."""
_NULL = b"null"
_RAW_NULL = Raw(_NULL)


class _Fields(msgspec.Struct, gc=False):
    """All members that requests, and the common message round one, may have. Empty: it is absent."""

    request_id: Raw = Raw()
    reply_to: Raw = Raw()
    token: Raw = Raw()
    message: Raw = Raw()
    data: Raw = Raw()
    topic: Raw = Raw()
    device_id: Raw = Raw()
    credentials: Raw = Raw()
    ttl: Raw = Raw()
    permissions: Raw = Raw()
    payload: Raw = Raw()
    message_type: Raw = Raw()
    message_id: Raw = Raw()
    source: Raw = Raw()


class _NoOtherFields(_Fields, forbid_unknown_fields=True, gc=False):
    """The same; its decoder refuses an object with any other member."""


class _Credentials(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    secret: Raw = Raw()


class _Sealed(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An envelope (gateway.keys.payload_envelope), decoded to find a member that appears twice."""

    encrypted: Raw = Raw()
    algorithm: Raw = Raw()
    key_id: Raw = Raw()
    data: Raw = Raw()
    timestamp: Raw = Raw()
    v: Raw = Raw()
    topic: Raw = Raw()
    sender: Raw = Raw()
    rewrapped: Raw = Raw()
    request_id: Raw = Raw()


class _Permissions(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    publish: Raw = Raw()
    subscribe: Raw = Raw()
    encrypt: Raw = Raw()
    decrypt: Raw = Raw()


_ANYWHERE = ("request_id", "reply_to")
_OF_SERVICE = {
    Service.AUTH: ("device_id", "credentials", "ttl", "permissions", *_ANYWHERE),
    Service.VALIDATE: ("token", *_ANYWHERE),
    Service.ENCRYPT: ("token", "topic", "message", "data", *_ANYWHERE),
    Service.DECRYPT: ("token", "message", *_ANYWHERE),
}
"""The members that a request to each service may have."""
_KNOWN_CONNECTED = {
    service: tuple(name for name in known if name != "credentials") for service, known in _OF_SERVICE.items()
}
"""The same for requests on a connection, which is authenticated and needs no credentials."""
_NOT_OF_SERVICE = {
    service: tuple(name not in known for name in _Fields.__struct_fields__)
    for service, known in _OF_SERVICE.items()
}
"""For each field of `_Fields`, whether a request to this service may not have it."""
_SEALED_QUOTES = 26
"""Quotes in an envelope that has each required member once, and no others: two for each of its eight names,
two for each of five strings. With a further member, or one that appears twice, there are at least two
more."""
_UNKNOWN = re.compile("unknown field `(.*)`", re.DOTALL)
_NAME_SHOWN = 64
"""Characters of a member's name that an answer quotes."""

_fields = msgspec.json.Decoder(_Fields)
_only = msgspec.json.Decoder(_NoOtherFields)
_credentials = msgspec.json.Decoder(_Credentials)
_permissions = msgspec.json.Decoder(_Permissions)
_sealed = msgspec.json.Decoder(_Sealed)
_text = msgspec.json.Decoder(str)
_echoed: msgspec.json.Decoder[RequestId] = msgspec.json.Decoder(RequestId)
_base64 = msgspec.json.Decoder(bytes)


class GeneralRequest:
    """Any request, plain or in the common message, whatever is wrong with it.

    Its properties raise Refusal for an invalid value. Nearly all requests to `encrypt` and `decrypt` are read
    in a faster way (`gateway.services.request_fast_path`).
    """

    __slots__ = ("_inner", "_outer", "_unread_member", "fault", "in_common_message", "request_id", "source")

    def __init__(self, payload: bytes) -> None:
        """Any bytes."""
        self.fault: Refusal | None = None
        """What is wrong with the request as a whole, to be answered with; None for nothing."""
        self._unread_member: str | None = None
        """Name of the first member that no service reads; None for none."""
        outer = self._outer = self._inner = self._read(payload, "A request")
        self.in_common_message = bool(outer.payload or outer.message_type)
        """Whether it came in the common message."""
        if self.in_common_message:
            self._unread_member = None
            self._inner = self._read(_given(outer.payload), '"payload"')
        self.request_id = self._echo(self._inner.request_id or outer.request_id, "request_id")
        """To be echoed in the answer, as JSON; empty for none."""
        self.source = b'""'
        """Of a common message: the recipient of the answer, as JSON."""
        if self.in_common_message:
            self.request_id = self.request_id or self._echo(outer.message_id, "message_id")
            self.source = self._echo(outer.source, "source") or self.source

    def _read(self, given: bytes, name: str) -> _Fields:
        if not given:
            return _Fields()
        try:
            # The decoder doesn't validate the text that it skips, and `message` is sealed as it is.
            if not given.isascii():
                given.decode()
            try:
                found: _Fields = _only.decode(given)
                twice = has_a_name_twice(found, given)
            except msgspec.ValidationError as error:
                found = _fields.decode(given)
                unread = _UNKNOWN.search(str(error))
                self._unread_member = unread[1] if unread else ""
                # Except in the common message, the unread member is refused anyway.
                twice = bool(found.payload or found.message_type) and _has_one_twice(found, given)
        except TooMuchBeside:
            words = f"{name} may have {BESIDE_BYTES_MAX:,} bytes of other members beside those that are read."
            self.fault = Refusal(Code.INVALID_REQUEST, words)
            return _Fields()
        except (ValueError, RecursionError):
            words = f"{name} has to be a JSON object in UTF-8."
            self.fault = Refusal(Code.INVALID_REQUEST, words)
            return _Fields()
        if twice:
            self.fault = _twice(name)
        return found

    def demand_no_unread(self, service: Service, *, over_bus: bool) -> None:
        """Raise Refusal for a member that this service would not read, or that is null.

        Without `over_bus` the request came on a connection, which is authenticated: no credentials are read.

        Null is ambiguous: a token for null permissions might be one for everything. But `message` may be any
        JSON, and the members of the common message beside the payload are not ours.
        """
        known = _OF_SERVICE[service] if over_bus else _KNOWN_CONNECTED[service]
        if self._unread_member is not None:
            raise _not_read(self._unread_member, known)
        if not over_bus and self._inner.credentials:
            words = '"credentials" are read on the bus alone: leave them out, the connection says who asks.'
            raise Refusal(Code.INVALID_REQUEST, words)
        # All members at once, since they are nearly always right; which one is wrong is found out below.
        values = msgspec.structs.astuple(self._inner)
        if any(compress(values, _NOT_OF_SERVICE[service])):
            there = compress(_Fields.__struct_fields__, values)
            raise _not_read(next(name for name in there if name not in _OF_SERVICE[service]), known)
        if self.in_common_message:
            _demand_value("payload", self._outer.payload)
        if _RAW_NULL in values:
            for name in _OF_SERVICE[service]:
                if name != "message":
                    _demand_value(name, getattr(self._inner, name))

    def _echo(self, raw: Raw, name: str) -> bytes:
        value = _given(raw)
        if not value:
            return b""
        if can_be_echoed(value):
            return value
        words = f'"{name}" has to be text or a number of at most {ECHOED_MAX:,} bytes.'
        self.fault = Refusal(Code.INVALID_REQUEST, words)
        return b""

    @property
    def decoded_request_id(self) -> RequestId | None:
        """`request_id` as a value, however it is written: 1.0 equals 1."""
        return decoded_echo(self.request_id)

    @property
    def reply_to(self) -> str | None:
        """The topic to which the answer is to be sent."""
        return _string(self._inner.reply_to or self._outer.reply_to, "reply_to")

    @property
    def token(self) -> str | None:
        """The token it carries."""
        return _string(self._inner.token or self._outer.token, "token")

    @property
    def topic(self) -> str | None:
        """The topic that something is sealed for."""
        return _string(self._inner.topic, "topic")

    @property
    def device_id(self) -> str | None:
        """The device that a token is requested for."""
        return _string(self._inner.device_id, "device_id")

    @property
    def secret(self) -> str | None:
        """The device secret in `credentials`."""
        given = _given(self._inner.credentials)
        try:
            credentials = _credentials.decode(given) if given else _Credentials()
        except ValueError:
            raise Refusal(Code.INVALID_REQUEST, '"credentials" has to be {"secret": "…"}.') from None
        if has_a_name_twice(credentials, given):
            raise _twice('"credentials"')
        return _string(credentials.secret, "secret")

    @property
    def ttl(self) -> object:
        """How long the token is to be valid, as decoded JSON."""
        return _decoded(self._inner.ttl)

    @property
    def permissions(self) -> object:
        """What the token is to allow, as decoded JSON."""
        given = _given(self._inner.permissions)
        # Invalid permissions are refused by the caller.
        with contextlib.suppress(ValueError, RecursionError):
            if given and has_a_name_twice(_permissions.decode(given), given):
                raise _twice('"permissions"')
        return _decoded(self._inner.permissions)

    @property
    def message(self) -> bytes:
        """A JSON value, byte for byte as it was sent; empty if there is none."""
        return bytes(self._inner.message)

    def demand_no_member_twice(self) -> None:
        """Raise Refusal if `message`, which has to be an envelope, has a member twice."""
        message = self.message
        if message.count(b'"') > _SEALED_QUOTES and has_a_name_twice(_sealed.decode(message), message):
            raise _twice('"message"')

    @property
    def data(self) -> bytes | None:
        """The bytes that were sent as base64."""
        given = _given(self._inner.data)
        try:
            return _base64.decode(given) if given else None
        except ValueError:
            raise Refusal(Code.INVALID_REQUEST, '"data" has to be base64 (RFC 4648, 4).') from None


def can_be_echoed(value: bytes) -> bool:
    """Whether this JSON is a string or a number, and short enough to be echoed."""
    try:
        if len(value) <= ECHOED_MAX:
            _echoed.decode(value)
            return True
    except ValueError:
        pass
    return False


def decoded_echo(echoed: bytes) -> RequestId | None:
    """The value of a `request_id` that can be echoed, however it is written: 1.0 equals 1. None for none."""
    return _echoed.decode(echoed) if echoed else None


def _not_read(name: str, known: Sequence[str]) -> Refusal:
    listed = ", ".join(f'"{one}"' for one in known)
    words = f'"{name[:_NAME_SHOWN]}" is not known here: leave it out. Known are {listed}.'
    return Refusal(Code.INVALID_REQUEST, words, why="a member that this service does not read")


def _demand_value(name: str, raw: Raw) -> None:
    if raw and not _given(raw):
        raise Refusal(Code.INVALID_REQUEST, null_words(name), why=f'"{name}" is null')


def null_words(name: str) -> str:
    """What the caller is told about a member that is null."""
    return f'"{name}" is null: give it a value, or leave it out.'


def _twice(name: str) -> Refusal:
    return Refusal(Code.INVALID_REQUEST, f"{name} has a member twice: give it once.")


def _has_one_twice(found: _Fields, given: bytes) -> bool:
    values = msgspec.structs.astuple(found)
    return has_one_of_them_twice(_Fields.__struct_fields__, given, bytes(max(values, key=len)))


def _decoded(raw: Raw) -> object:
    given = _given(raw)
    try:
        return msgspec.json.decode(given) if given else None
    except (ValueError, RecursionError):
        # What the decoder skipped may not be JSON after all.
        raise Refusal(Code.INVALID_REQUEST, "A request has to be a JSON object in UTF-8.") from None


def _given(raw: Raw) -> bytes:
    if not raw:
        return b""
    value = bytes(raw)
    return b"" if value == _NULL else value


def _string(raw: Raw, name: str) -> str | None:
    given = _given(raw)
    try:
        return _text.decode(given) if given else None
    except ValueError:
        raise Refusal(Code.INVALID_REQUEST, f'"{name}" has to be text.') from None
