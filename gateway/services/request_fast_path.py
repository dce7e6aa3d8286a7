"""Requests to `encrypt` and `decrypt` as nearly all of them are, read by one decoder in one go.

Owns which those are: an object with the members of its service, each of the right type, once, and not null.
Whether that is so shows in how many bytes of the request the members that were found don't explain. Anything
else is left to `gateway.services.request`, which says what is wrong, and reads requests in the common
message. What both accept they read alike. Must not know whether a request is granted.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
from msgspec import Raw

from gateway.keys.payload_envelope import Envelope, RequestId, is_known
from gateway.policy.engine.service_names import Service
from gateway.services.request import GeneralRequest, can_be_echoed, decoded_echo

_HEAD = len('{"topic":""}')
_MESSAGE, _DATA = len(',"message":'), len(',"data":""')
_TOKEN, _REPLY_TO, _REQUEST_ID = len(',"token":""'), len(',"reply_to":""'), len(',"request_id":')
"""Bytes of each member beside its text, or its value."""
_MEMBER_BYTES_MIN = _DATA
"""Bytes of the shortest member that may stand in a request to `encrypt`, null and empty ones included."""
_SEALED_QUOTES = 26
"""Quotes in a sealed object with only what it must have: two for each of eight names and of five texts."""
_TEXT_QUOTES = 4
"""Quotes of a member that is text, its name's included, if none is inside."""
_NAME_QUOTES = 2
"""Quotes of a member's name."""


class _FastRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False, rename={"raw_id": "request_id"}):
    """The members that both services' requests may have, and the properties of `GeneralRequest` for them."""

    fault: ClassVar[None] = None
    in_common_message: ClassVar[bool] = False
    source: ClassVar[bytes] = b'""'

    token: str | None = None
    reply_to: str | None = None
    raw_id: Raw = Raw()

    def __repr__(self) -> str:
        # It holds a token and plaintext.
        return f"<{type(self).__name__}>"

    @property
    def request_id(self) -> bytes:
        """To be given back, as JSON; empty for none."""
        return bytes(self.raw_id)

    @property
    def decoded_request_id(self) -> RequestId | None:
        """`request_id` as a value."""
        return decoded_echo(self.request_id)


class EncryptRequest(_FastRequest, kw_only=True):
    """A request to `encrypt`."""

    topic: str
    message: Raw = Raw()
    """A JSON value, to the byte as it was sent; empty when there is none."""
    data: bytes | None = None

    def is_all_of(self, payload: bytes) -> bool:
        """Whether nothing stands in `payload` but what was found, once, and a few blanks.

        Example: of `{"topic":"a","topic":"b","message":1}` the last topic is found. Taken from it, 12 bytes
        are left, which no member that stands there once explains.
        """
        unexplained = len(payload) - _HEAD - len(self.topic)
        if self.message:
            unexplained -= _MESSAGE + len(self.message)
        if self.data is not None:
            unexplained -= _DATA + (len(self.data) + 2) // 3 * 4
        if self.token is not None:
            unexplained -= _TOKEN + len(self.token)
        if self.reply_to is not None:
            unexplained -= _REPLY_TO + len(self.reply_to)
        if self.raw_id:
            if not can_be_echoed(self.request_id):
                return False
            unexplained -= _REQUEST_ID + len(self.raw_id)
        # A text is never longer than what it is written as.
        return unexplained < _MEMBER_BYTES_MIN


class DecryptRequest(_FastRequest, kw_only=True):
    """A request to `decrypt`."""

    message: Envelope

    def is_all_of(self, payload: bytes) -> bool:
        """Whether nothing stands in `payload` but what was found, once: any member has two quotes or more."""
        sealed = self.message
        unexplained = payload.count(b'"') - _NAME_QUOTES - _SEALED_QUOTES
        if sealed.rewrapped:
            unexplained -= _NAME_QUOTES
        if sealed.request_id is not None:
            unexplained -= _TEXT_QUOTES if isinstance(sealed.request_id, str) else _NAME_QUOTES
        if self.token is not None:
            unexplained -= _TEXT_QUOTES
        if self.reply_to is not None:
            unexplained -= _TEXT_QUOTES
        if self.raw_id:
            if not can_be_echoed(self.request_id):
                return False
            unexplained -= _NAME_QUOTES + self.request_id.count(b'"')
        return not unexplained and is_known(sealed)


Request = GeneralRequest | EncryptRequest | DecryptRequest
"""A request as it was read: by the general reader or by a fast one."""

_encrypt = msgspec.json.Decoder(EncryptRequest)
_decrypt = msgspec.json.Decoder(DecryptRequest)


def read_request(service: Service, payload: bytes) -> Request:
    """The request that any bytes are; what is wrong with it, it says itself."""
    try:
        # The decoder doesn't look at the text it passes over, and `message` is sealed as it is.
        if not payload.isascii():
            payload.decode()
        found: EncryptRequest | DecryptRequest
        if service is Service.ENCRYPT:
            found = _encrypt.decode(payload)
        elif service is Service.DECRYPT:
            found = _decrypt.decode(payload)
        else:
            return GeneralRequest(payload)
        if found.is_all_of(payload):
            return found
    except (ValueError, RecursionError):
        pass  # as below
    return GeneralRequest(payload)
