"""Reads requests to `encrypt` and `decrypt` with one decoder in one go, if they are as nearly all are.

Owns which those are: objects with the members of their service, each of the right type, not null, and only
once. To check that, the bytes (or quotes) that the decoded members account for are subtracted from those of
the request; too many left mean that there is more. Any other request is left to `gateway.services.request`,
which says what is wrong, and reads the common message. What both accept they read alike. Must not know
whether a request is granted.
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
"""Bytes of each member without its value; those of a string's quotes are included."""
_MEMBER_BYTES_MIN = _DATA
"""Bytes of the shortest member of a request to `encrypt`, null and empty ones included."""
_SEALED_QUOTES = 26
"""Quotes in an envelope with required members only: two for each of eight names and of five strings."""
_TEXT_QUOTES = 4
"""Quotes of a member whose value is a string, including those of its name, if the string contains none."""
_NAME_QUOTES = 2
"""Quotes of a member's name."""


class _FastRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False, rename={"raw_id": "request_id"}):
    """The members that requests to both services may have, with the same properties as `GeneralRequest`."""

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
        """To be echoed in the answer, as JSON; empty for none."""
        return bytes(self.raw_id)

    @property
    def decoded_request_id(self) -> RequestId | None:
        """`request_id` as a value."""
        return decoded_echo(self.request_id)


class EncryptRequest(_FastRequest, kw_only=True):
    """A request to `encrypt`."""

    topic: str
    message: Raw = Raw()
    """A JSON value, byte for byte as it was sent; empty if there is none."""
    data: bytes | None = None

    def is_all_of(self, payload: bytes) -> bool:
        """Whether `payload` contains nothing but the decoded members, each once, and a few blanks.

        Example: of `{"topic":"a","topic":"b","message":1}` the second topic is decoded. Without the bytes of
        the decoded members 12 bytes are left, which is too much for blanks.
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
        # A decoded string is never longer than it is in JSON, so what is left is never too little.
        return unexplained < _MEMBER_BYTES_MIN


class DecryptRequest(_FastRequest, kw_only=True):
    """A request to `decrypt`."""

    message: Envelope

    def is_all_of(self, payload: bytes) -> bool:
        """Whether `payload` has only the decoded members, each once: any other adds at least two quotes."""
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
"""A request, as decoded in the general or in a fast way."""

_encrypt = msgspec.json.Decoder(EncryptRequest)
_decrypt = msgspec.json.Decoder(DecryptRequest)


def read_request(service: Service, payload: bytes) -> Request:
    """Decode any payload. Never raises: a `GeneralRequest` says what is wrong with it."""
    try:
        # The decoder doesn't validate the text that it skips, and `message` is sealed as it is.
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
