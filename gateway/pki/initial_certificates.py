"""The small CA of a gateway that was given no certificate: `ca.crt`, `ca.key`, and a server certificate.

It makes what is missing and never touches what is there. Devices trust the CA, so whoever has its key
can make a server certificate of any name: it may be moved off the machine once the server has its own.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.pki.ecdsa_and_rsa_choice import KeyType, rsa_twin
from gateway.system.atomic_files import locked, write_new
from gateway.system.file_errors import not_written

_CA_DAYS = 3_650
_SERVER_DAYS = 825  # what Apple's and others' TLS accept at most of a private CA
_SERVERS = "the server's certificate"
_RSA_BITS = 2_048  # what old devices have memory for; what RSA is there for
_SKEW = timedelta(days=1)  # devices without a clock of their own are often a little early
_Signer = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_DNS_NAME_LONGEST = 253  # characters
_DNS_NAME = re.compile(
    r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
)


class PkiError(Exception):
    """Certificates cannot be made. The message says what to do."""


def ensure_server_certificate(
    certificate: Path, key: Path, *, names: Sequence[str] = (), key_type: KeyType = KeyType.ECDSA
) -> list[Path]:
    """Make the server's certificate and key if neither is there; return the paths of the files made.

    One pair for each kind of key in `key_type`, each signed by a CA that is made too: see `_ensure_pair`.
    """
    if key_type is not KeyType.BOTH:
        return _ensure_pair(certificate, key, "ca", names, key_type)
    made = _ensure_pair(certificate, key, "ca", names, KeyType.ECDSA)
    if _is_rsa(certificate):
        raise PkiError(
            f"{certificate} has an RSA key, which all clients can verify that know no other: for ECDSA "
            "beside it take it, its key and its CA away first"
        )
    return made + _ensure_pair(rsa_twin(certificate), rsa_twin(key), "ca-rsa", names, KeyType.RSA)


def _is_rsa(certificate: Path) -> bool:
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        return isinstance(loaded.public_key(), rsa.RSAPublicKey)
    except (OSError, ValueError, UnsupportedAlgorithm):
        return False  # listed with the files


def _ensure_pair(
    certificate: Path, key: Path, authority: str, names: Sequence[str], key_type: KeyType
) -> list[Path]:
    """Make the server's certificate and key if neither is there; return which files were made.

    It is signed by the CA `authority` (.crt, .key) in the folder of `certificate`, made too if neither is
    there, and valid for `localhost`, `127.0.0.1`, `::1`, this host's name and `names` (DNS names or IP
    addresses). Raises PkiError if only one of a pair is there, if a CA does not fit, or if the disk fails.
    """
    try:
        for folder in {certificate.parent, key.parent}:
            # Readable for all, for devices on this machine need the CA; writable for us alone.
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if certificate.exists() and key.exists():
            return []  # nothing is to be made, and the folder may be mounted read-only
        with locked(certificate.parent):
            if _pair_is_there(certificate, key, _SERVERS):
                return []
            return _make_server(certificate, key, authority, _subject_names(names), key_type)
    except OSError as error:
        _pair_is_there(certificate, key, _SERVERS)  # which says more if a half of them is
        said = not_written(certificate, error)
        raise PkiError(f"the certificates in {certificate.parent} cannot be made: {said}") from error


def _pair_is_there(certificate: Path, key: Path, what: str) -> bool:
    here = certificate.exists(), key.exists()
    if here[0] != here[1]:
        present, missing = (certificate, key) if here[0] else (key, certificate)
        raise PkiError(
            f"{what} is half there: {present} without {missing}; put the other one back, or take both away "
            "and a new pair is made"
        )
    return here[0]


def _make_server(
    certificate: Path, key: Path, authority: str, names: list[x509.GeneralName], key_type: KeyType
) -> list[Path]:
    ca_certificate = certificate.with_name(f"{authority}.crt")
    ca_key = ca_certificate.with_suffix(".key")
    made = [certificate, key]
    issuer: x509.Certificate
    signer: _Signer
    if _pair_is_there(ca_certificate, ca_key, "the CA"):
        issuer, signer = _load_ca(ca_certificate, ca_key)
    else:
        issuer, new = _new_ca(key_type)
        _write_pair(ca_certificate, issuer, ca_key, new)
        signer = new
        made = [ca_certificate, ca_key, *made]
    own = _new_key(key_type)
    _write_pair(certificate, _new_server(own, names, issuer, signer), key, own)
    return made


def _load_ca(certificate: Path, key: Path) -> tuple[x509.Certificate, _Signer]:
    try:
        issuer = x509.load_pem_x509_certificate(certificate.read_bytes())
        signer = load_pem_private_key(key.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError(
            f"the CA in {certificate} and {key} cannot be read ({type(error).__name__}); both must be "
            "PEM, the key without a passphrase; put them back, or give a server certificate made elsewhere"
        ) from None
    if not isinstance(signer, _Signer) or issuer.public_key() != signer.public_key():
        raise PkiError(f"{key} is not the key (EC or RSA) of {certificate}; put the right one back")
    if issuer.not_valid_after_utc < datetime.now(UTC) + _SKEW:
        raise PkiError(
            f"the CA {certificate} has expired; take it and {key} away, so that a new one is made, and give "
            "the new one to all devices"
        )
    return issuer, signer


def _new_key(key_type: KeyType) -> _Signer:
    if key_type is KeyType.RSA:
        return rsa.generate_private_key(public_exponent=65_537, key_size=_RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def _new_ca(key_type: KeyType) -> tuple[x509.Certificate, _Signer]:
    key = _new_key(key_type)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MQTT security gateway CA")])
    certificate = (
        _builder(name, key, issuer=name, end=datetime.now(UTC) + timedelta(days=_CA_DAYS))
        # pathlen 0: what it signs can never sign in turn.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(of_ca=True), critical=True)
        .sign(key, SHA256())
    )
    return certificate, key


def _new_server(
    key: _Signer, names: list[x509.GeneralName], issuer: x509.Certificate, signer: _Signer
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MQTT security gateway")])
    end = min(datetime.now(UTC) - _SKEW + timedelta(days=_SERVER_DAYS), issuer.not_valid_after_utc)
    return (
        _builder(subject, key, issuer=issuer.subject, end=end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(of_ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # Without it OpenSSL 3 in strict mode, which is Python 3.13's default, refuses the chain.
        .add_extension(_authority_of(issuer), critical=False)
        .sign(signer, SHA256())
    )


def _builder(
    subject: x509.Name, key: _Signer, *, issuer: x509.Name, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, of_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not of_ca,
        key_cert_sign=of_ca,
        crl_sign=of_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        known = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        known = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)


def _subject_names(extra: Sequence[str]) -> list[x509.GeneralName]:
    host = socket.gethostname().lower()
    # A host's name that is no DNS name cannot be asked for by a client, so it is no loss.
    names = ["localhost", "127.0.0.1", "::1", *([host] if _DNS_NAME.fullmatch(host) else []), *extra]
    return list(dict.fromkeys(_general_name(name) for name in names))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if len(name) > _DNS_NAME_LONGEST or not _DNS_NAME.fullmatch(name.lower()):
            raise PkiError(f"{name!r} is neither a DNS name nor an IP address") from None
        return x509.DNSName(name.lower())


def _write_pair(certificate: Path, content: x509.Certificate, key: Path, secret: _Signer) -> None:
    pem = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_new(key, pem, mode=0o600)
    write_new(certificate, content.public_bytes(Encoding.PEM), mode=0o644)
