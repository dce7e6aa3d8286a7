"""Why a server can't be connected to, in words for people, without its name."""

from __future__ import annotations

import os
import socket
import ssl

_NOTHING_IN_COMMON = (
    "HANDSHAKE_FAILURE",
    "PROTOCOL_VERSION",
    "UNSUPPORTED_PROTOCOL",
    "WRONG_SSL_VERSION",
    "CERTIFICATE_REQUIRED",
)
"""In OpenSSL's reason: no version, suite, group or signature in common; until TLS 1.3 also anything else."""


def why_unreachable(error: OSError) -> str:
    """What the system or OpenSSL says."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", "") or type(error).__name__
        if any(sign in reason for sign in _NOTHING_IN_COMMON):
            return (
                "it takes no TLS that the gateway speaks (1.3, or 1.2 with forward secrecy), or wants a "
                f"certificate of the gateway ({reason})"
            )
        return f"TLS failed: {reason}"
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)  # its numbers are not the system's
    if error.errno:
        return os.strerror(error.errno)
    if isinstance(error, ConnectionError):
        return str(error) or "it closed the connection"  # the loops' own error, mostly without a word
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
