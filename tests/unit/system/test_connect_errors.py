"""Why a server can't be connected to, in words."""

import asyncio
import errno
import socket
import ssl

import pytest

from gateway.system.connect_errors import why_unreachable


def tls_error(reason):
    error = ssl.SSLError(1, "said by OpenSSL")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    "reason",
    [
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_SSL_VERSION",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    ],
)
def test_a_server_without_anything_in_common(reason):
    said = why_unreachable(tls_error(reason))
    assert said.startswith("it takes no TLS that the gateway speaks")
    assert reason in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (tls_error("WRONG_VERSION_NUMBER"), "TLS failed: WRONG_VERSION_NUMBER"),
        (ssl.SSLError("made by hand"), "TLS failed: SSLError"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "Connection refused"),
        (TimeoutError(errno.ETIMEDOUT, "x"), "Connection timed out"),
        (TimeoutError(), "no answer in time"),
        (ConnectionAbortedError(), "it closed the connection"),
        (ConnectionAbortedError("the handshake takes too long"), "the handshake takes too long"),
        (OSError("Multiple exceptions"), "Multiple exceptions"),
        (OSError(), "OSError"),
    ],
)
def test_what_the_system_says(error, said):
    assert why_unreachable(error) == said


async def test_a_name_that_nobody_knows():
    # The numbers of the resolver are its own: of the system's that would be "Unknown error -2".
    with pytest.raises(socket.gaierror) as unknown:
        await asyncio.get_running_loop().getaddrinfo("no-such-host.invalid", 1)
    assert why_unreachable(unknown.value) == unknown.value.strerror
    assert "nknown error" not in why_unreachable(unknown.value)
