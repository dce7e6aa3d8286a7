"""Each failed handshake is counted by one word."""

import ssl

import pytest

from gateway.net import tls_handshake_errors
from gateway.net.tls_handshake_errors import HandshakeFault, fault_of, in_words, tls_session_failed


def of_openssl(reason):
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (of_openssl("WRONG_VERSION_NUMBER"), HandshakeFault.PLAIN_TEXT),
        (of_openssl("HTTP_REQUEST"), HandshakeFault.PLAIN_TEXT),
        (of_openssl("UNSUPPORTED_PROTOCOL"), HandshakeFault.OLD_VERSION),
        (of_openssl("NO_SHARED_CIPHER"), HandshakeFault.NOTHING_IN_COMMON),
        (of_openssl("NO_SUITABLE_SIGNATURE_ALGORITHM"), HandshakeFault.NOTHING_IN_COMMON),
        (of_openssl("TLSV1_ALERT_UNKNOWN_CA"), HandshakeFault.DISTRUST),
        (of_openssl("SSLV3_ALERT_CERTIFICATE_EXPIRED"), HandshakeFault.DISTRUST),
        (of_openssl("SOMETHING_NEW"), HandshakeFault.OTHER),
        (ssl.SSLCertVerificationError(1, "x"), HandshakeFault.CLIENT_CERTIFICATE),
        (ConnectionAbortedError(), HandshakeFault.DEADLINE),
        (ConnectionResetError(), HandshakeFault.LEFT),
    ],
)
def test_faults(error, fault):
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_code, error.verify_message = 18, "self-signed"
    assert fault_of(error) is fault


def test_whatever_is_said_in_words_is_counted_by_one():
    for reason in tls_handshake_errors._WORDS:
        assert fault_of(of_openssl(reason)) is not HandshakeFault.OTHER, reason


@pytest.mark.parametrize("words", [in_words, tls_session_failed])
@pytest.mark.parametrize("reason", ["UNEXPECTED_MESSAGE", "BAD_RECORD_TYPE", "SOMETHING_NEW"])
def test_a_fault_that_openssl_names_and_nobody_knows_is_words_too(words, reason):
    text = words(of_openssl(reason))
    assert text.startswith("TLS: what the client sent can't be read: its TLS library is at fault")
    assert text.endswith(f"({reason})")


def test_in_a_session_bytes_that_are_no_tls_are_no_plain_text_client():
    text = tls_session_failed(of_openssl("WRONG_VERSION_NUMBER"))
    assert "can't be read" in text
    assert "plain-text" not in text


def test_what_a_client_says_in_a_session_is_told_as_in_its_handshake():
    assert "does not trust the gateway's certificate" in tls_session_failed(
        of_openssl("TLSV1_ALERT_UNKNOWN_CA")
    )
