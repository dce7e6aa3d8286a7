"""Certificates of any life and order, as other people's CAs and certbot lay them down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID


class Authority:
    """A name with a key, that signs for others."""

    def __init__(self, name: str) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())

    def certificate(
        self, issuer: Authority | None = None, *, life: tuple[int, int] = (-30, 300)
    ) -> x509.Certificate:
        """Its certificate, good between these days from now."""
        issuer, now = issuer or self, datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=life[0]))
            .not_valid_after(now + timedelta(days=life[1]))
            .sign(issuer.key, SHA256())
        )


def pem(path: Path, *certificates: x509.Certificate) -> Path:
    """They in one file, in this order."""
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates))
    return path
