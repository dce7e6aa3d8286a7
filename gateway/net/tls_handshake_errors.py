"""What went wrong in TLS, in words that say what to do. Must not know sockets."""

from __future__ import annotations

import ssl
from enum import StrEnum, auto

from gateway.net.tls_record_counter import TooLittleData

_PLAIN_TEXT = (
    "a plain-text client on the TLS port: it has to use TLS (mqtts://, port 8883); or a proxy that sends a "
    "PROXY header, and GATEWAY_PROXY_FROM does not name it"
)
_DISTRUST = (
    "the client does not trust the gateway's certificate ({}): give it the CA (certs/ca.crt), and have it "
    "connect to a name that stands in the certificate"
)
_OLD = "the client speaks no TLS that the gateway does: it needs TLS 1.2 or 1.3"
_BROKEN = (
    "what the client sent can't be read: its TLS library is at fault, or something between changes the bytes"
)
_ALERT = "ALERT"
"""In OpenSSL's reason: the client sent an alert, which says what it found wrong."""
_WORDS = {
    "HTTP_REQUEST": "a plain-text HTTP client on the TLS port for MQTT",
    "HTTPS_PROXY_REQUEST": "a plain-text HTTP client on the TLS port for MQTT",
    "WRONG_VERSION_NUMBER": _PLAIN_TEXT,
    "UNKNOWN_PROTOCOL": _PLAIN_TEXT,
    "RECORD_LAYER_FAILURE": _PLAIN_TEXT,
    "PACKET_LENGTH_TOO_LONG": _PLAIN_TEXT,
    "UNSUPPORTED_PROTOCOL": _OLD,
    "VERSION_TOO_LOW": _OLD,
    "TLSV1_ALERT_PROTOCOL_VERSION": _OLD,
    "NO_SHARED_CIPHER": "the client has no cipher suite in common with the gateway",
    "NO_SHARED_GROUPS": "the client has no key exchange in common with the gateway",
    "NO_SUITABLE_KEY_SHARE": "the client has no key exchange in common with the gateway",
    "NO_SHARED_SIGNATURE_ALGORITHMS": "the client has no signature algorithm in common with the gateway",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "the client can't verify the kind of key of the gateway's certificate",
    "TLSV1_ALERT_UNKNOWN_CA": _DISTRUST.format("unknown CA"),
    "SSLV3_ALERT_BAD_CERTIFICATE": _DISTRUST.format("bad certificate"),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _DISTRUST.format("certificate unknown"),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _DISTRUST.format("unsupported certificate"),
    "SSLV3_ALERT_CERTIFICATE_REVOKED": _DISTRUST.format("revoked"),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": (
        "for the client the gateway's certificate has expired: look at its dates, and at the client's clock"
    ),
    "TLSV1_ALERT_DECRYPT_ERROR": _DISTRUST.format("its signature is wrong"),
    "TLSV1_UNRECOGNIZED_NAME": "the client asks for a name that the gateway does not have",
}
# By OpenSSL's codes (X509_V_ERR).
_CERTIFICATES = {
    7: "it is of a CA that is not that of TLS_CLIENT_CA_PATH, only called like it",
    9: "it is not valid yet (look at the clocks)",
    10: "it has expired: give the device a new one",
    18: "it is signed by itself, not by the CA of TLS_CLIENT_CA_PATH",
    19: "its chain ends in a CA that is not that of TLS_CLIENT_CA_PATH",
    20: "it is of a CA that is not that of TLS_CLIENT_CA_PATH",
    21: "it is of a CA that is not that of TLS_CLIENT_CA_PATH",
    23: "it was revoked",
    26: "it may not be used for clients",
}


class HandshakeFault(StrEnum):
    """What went wrong, in one word: a label of the metric."""

    PLAIN_TEXT = auto()
    OLD_VERSION = auto()
    NOTHING_IN_COMMON = auto()
    DISTRUST = auto()
    """The client refuses the gateway's certificate."""
    CLIENT_CERTIFICATE = auto()
    """The gateway refuses the client's certificate."""
    DEADLINE = auto()
    CROWDED_OUT = auto()
    LEFT = auto()
    """The peer left, or the gateway cancelled the handshake to make room or to stop."""
    OTHER = auto()


def fault_of(error: BaseException) -> HandshakeFault:
    """The fault that an error of a handshake means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return HandshakeFault.CLIENT_CERTIFICATE
    if isinstance(error, ssl.SSLError):
        words = in_words(error) or ""
        return next((fault for sign, fault in _SIGNS.items() if sign in words), HandshakeFault.OTHER)
    if isinstance(error, ConnectionAbortedError):
        return HandshakeFault.DEADLINE
    return HandshakeFault.LEFT


_SIGNS = {
    "plain-text": HandshakeFault.PLAIN_TEXT,
    "speaks no TLS": HandshakeFault.OLD_VERSION,
    "in common": HandshakeFault.NOTHING_IN_COMMON,
    "can't verify the kind of key": HandshakeFault.NOTHING_IN_COMMON,
    "does not trust": HandshakeFault.DISTRUST,
    "has expired": HandshakeFault.DISTRUST,
    "does not have": HandshakeFault.NOTHING_IN_COMMON,
}


def in_words(error: OSError) -> str | None:
    """Why a handshake was refused; None when the peer just left."""
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = _CERTIFICATES.get(error.verify_code) or error.verify_message
        return f"TLS: the client certificate is refused: {cause}"
    if isinstance(error, TooLittleData):
        return f"TLS: {error}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        # OpenSSL 3.2 and later put SSL/TLS before what they called an alert of SSL 3 or TLS 1.
        known = _WORDS.get(reason) or _WORDS.get(reason.replace("SSL/TLS_ALERT", "SSLV3_ALERT"))
        return f"TLS: {known or _BROKEN}" + f" ({reason or error})"
    if isinstance(error, ConnectionAbortedError):
        return "TLS: no handshake within the deadline"
    return None


def tls_session_failed(error: ssl.SSLError) -> str:
    """Why TLS broke after its handshake, in words for the log."""
    if isinstance(error, TooLittleData):
        return str(error)
    said = in_words(error) if _ALERT in (error.reason or "") else None
    return said or f"TLS: {_BROKEN} ({error.reason or error})"
