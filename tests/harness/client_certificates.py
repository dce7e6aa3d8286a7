"""A CA for devices, and the certificates that it makes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = 86_400
_CA_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "devices")])


class ClientCa:
    """All of them have the same name."""

    def __init__(self, folder: Path) -> None:
        self._key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        self.path = folder / "clients.crt"
        """Its certificate, good for nine days."""
        own = (
            x509.CertificateBuilder()
            .subject_name(_CA_NAME)
            .issuer_name(_CA_NAME)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=9))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, SHA256())
        )
        self.path.write_bytes(own.public_bytes(Encoding.PEM))

    def certificate(
        self, folder: Path, name: str, *, begins: float = -DAY, ends: float = 8 * DAY, own: bool = False
    ) -> Path:
        """A file with a client certificate and its key, good between these times, in seconds from now.

        `own`: signed by itself.
        """
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if own else _CA_NAME)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(seconds=begins))
            .not_valid_after(now + timedelta(seconds=ends))
            .sign(key if own else self._key, SHA256())
        )
        file = folder / f"{name}.pem"
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(made.public_bytes(Encoding.PEM) + pem)
        return file
