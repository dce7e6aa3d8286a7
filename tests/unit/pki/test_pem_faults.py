"""Files of certificates and keys that OpenSSL refuses, as people put them there: what is said of each."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.pki.initial_certificates import ensure_server_certificate
from gateway.pki.pem_faults import why_no_authority, why_no_pair

_DER = "it is DER, and has to be PEM (openssl x509 or pkey, with -inform DER)"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("pair")
    ensure_server_certificate(folder / "s.crt", folder / "s.key")
    return (folder / "s.crt").read_bytes(), (folder / "s.key").read_bytes()


def _der(certificate: bytes) -> bytes:
    return x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)


def _locked(key: bytes) -> bytes:
    lock = BestAvailableEncryption(b"passphrase")
    return load_pem_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


Made = Callable[[bytes, bytes], bytes]
CERTIFICATES: dict[str, tuple[Made, str]] = {
    "a key": (lambda _, key: key, "it holds a private key, and no certificate"),
    "DER": (lambda certificate, _: _der(certificate), _DER),
    "cut off": (lambda certificate, _: certificate[:300], "its certificate is damaged"),
    "empty": (lambda *_: b"\n", "it is empty"),
    "a page": (lambda *_: b"<html>404</html>", "it holds no certificate in PEM"),
    "a request": (
        lambda *_: b"-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n",
        "it holds a request for a certificate (CSR), and no certificate",
    ),
}
KEYS: dict[str, tuple[Made, str]] = {
    "a certificate": (lambda certificate, _: certificate, "it holds a certificate, and no private key"),
    "a passphrase": (lambda _, key: _locked(key), "it has a passphrase: take that away"),
    "cut off": (lambda _, key: key[:80], "its private key is damaged"),
    "empty": (lambda *_: b"", "it is empty"),
}


@pytest.mark.parametrize(("made", "said"), CERTIFICATES.values(), ids=CERTIFICATES)
def test_what_stands_where_a_certificate_should(
    tmp_path: Path, pair: tuple[bytes, bytes], made: Made, said: str
) -> None:
    certificate, key = tmp_path / "s.crt", tmp_path / "s.key"
    certificate.write_bytes(made(*pair))
    key.write_bytes(pair[1])
    with pytest.raises(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    assert why_no_pair(certificate, key) == f"{certificate}: {said}"
    with pytest.raises(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    assert why_no_authority(certificate) == said


@pytest.mark.parametrize(("made", "said"), KEYS.values(), ids=KEYS)
def test_what_stands_where_a_key_should(
    tmp_path: Path, pair: tuple[bytes, bytes], made: Made, said: str
) -> None:
    certificate, key = tmp_path / "s.crt", tmp_path / "s.key"
    certificate.write_bytes(pair[0])
    key.write_bytes(made(*pair))
    with pytest.raises((ssl.SSLError, ValueError)):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    assert why_no_pair(certificate, key).startswith(f"{key}: {said}")


def test_a_key_of_another_certificate_and_what_is_good(tmp_path: Path, pair: tuple[bytes, bytes]) -> None:
    ensure_server_certificate(tmp_path / "s.crt", tmp_path / "s.key")
    assert why_no_pair(tmp_path / "s.crt", tmp_path / "s.key") == ""
    assert why_no_authority(tmp_path / "ca.crt") == ""
    (tmp_path / "s.key").write_bytes(pair[1])
    said = why_no_pair(tmp_path / "s.crt", tmp_path / "s.key")
    assert said == f"{tmp_path / 's.key'} is not the key of the first certificate in {tmp_path / 's.crt'}"
