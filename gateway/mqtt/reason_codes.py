"""Reason codes of MQTT 5 (section 2.4) and return codes of MQTT 3.1.1 (section 3.2.2.3).

Only the codes the gateway itself sends or reads; a code that merely passes stays a byte.
"""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """An MQTT 5 reason code (MQTT 5, 2.4). Below 0x80 is success."""

    SUCCESS = 0x00
    NO_SUBSCRIPTION_EXISTED = 0x11
    REAUTHENTICATE = 0x19
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    SESSION_TAKEN_OVER = 0x8E
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    CONNECTION_RATE_EXCEEDED = 0x9F


class ReturnCode(IntEnum):
    """A CONNACK return code of MQTT 3.1.1 (3.2.2.3)."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL_VERSION = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_USER_NAME_OR_PASSWORD = 4
    NOT_AUTHORIZED = 5


_RETURN_CODE_OF = {
    Reason.SUCCESS: ReturnCode.ACCEPTED,
    Reason.UNSUPPORTED_PROTOCOL_VERSION: ReturnCode.UNACCEPTABLE_PROTOCOL_VERSION,
    Reason.CLIENT_IDENTIFIER_NOT_VALID: ReturnCode.IDENTIFIER_REJECTED,
    Reason.SERVER_UNAVAILABLE: ReturnCode.SERVER_UNAVAILABLE,
    Reason.SERVER_BUSY: ReturnCode.SERVER_UNAVAILABLE,
    Reason.SERVER_SHUTTING_DOWN: ReturnCode.SERVER_UNAVAILABLE,
    Reason.QUOTA_EXCEEDED: ReturnCode.SERVER_UNAVAILABLE,
    Reason.IMPLEMENTATION_SPECIFIC_ERROR: ReturnCode.SERVER_UNAVAILABLE,
    Reason.CONNECTION_RATE_EXCEEDED: ReturnCode.SERVER_UNAVAILABLE,
    Reason.BAD_USER_NAME_OR_PASSWORD: ReturnCode.NOT_AUTHORIZED,
    Reason.NOT_AUTHORIZED: ReturnCode.NOT_AUTHORIZED,
}


def return_code(reason: Reason) -> ReturnCode:
    """The 3.1.1 return code that says most nearly the same; 5 (not authorized) for the rest."""
    return _RETURN_CODE_OF.get(reason, ReturnCode.NOT_AUTHORIZED)


_WHY_ENDED = {
    0x00: "no fault of the client's",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x87: "not authorized",
    0x89: "server busy",
    0x8B: "server shutting down",
    0x8D: "keep alive timeout",
    0x8E: "session taken over",
    0x93: "receive maximum exceeded",
    0x94: "topic alias invalid",
    0x95: "packet too large",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x9C: "use another server",
    0x9D: "server moved",
    0x9F: "connection rate exceeded",
    0xA0: "maximum connect time",
}


def why_ended(code: int) -> str:
    """The name of a reason code in a server's DISCONNECT (MQTT 5, table 3-13), and the code."""
    return f"{_WHY_ENDED.get(code, 'reason code')} (0x{code:02x})"
