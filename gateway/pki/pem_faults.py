"""Why a file of certificates or of a key can't be used, in words, which OpenSSL does not give.

Used only after OpenSSL has refused a file: this explains, and decides nothing.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

_OTHER_LABELS = (
    (b"PRIVATE KEY-----", "it holds a private key"),
    (b"CERTIFICATE REQUEST-----", "it holds a request for a certificate (CSR)"),
    (b"X509 CRL-----", "it holds a revocation list"),
    (b"CERTIFICATE-----", "it holds a certificate"),
)
_DER = b"\x30\x82"
"""How certificates and keys begin that are DER, not PEM."""


def why_no_pair(certificate: Path, key: Path) -> str:
    """What is wrong with a certificate and its key; empty if nothing is found. Raises OSError."""
    chain = certificate.read_bytes()
    first = _certificate(chain)
    if first is None:
        return f"{certificate}: {_instead(chain, 'certificate')}"
    written = key.read_bytes()
    private = _private_key(written)
    if isinstance(private, str):
        return f"{key}: {private}"
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        fits = first.public_key().public_bytes(*form) == private.public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm):
        return ""
    return "" if fits else f"{key} is not the key of the first certificate in {certificate}"


def why_no_authority(path: Path) -> str:
    """What is wrong with a file of CA certificates; empty if nothing is found. Raises OSError."""
    written = path.read_bytes()
    return "" if _certificate(written) else _instead(written, "certificate")


def _certificate(written: bytes) -> x509.Certificate | None:
    """The first certificate in a file's bytes; None if there is none."""
    try:
        return x509.load_pem_x509_certificates(written)[0]
    except (ValueError, IndexError):
        return None


def _private_key(written: bytes) -> PrivateKeyTypes | str:
    """The key, or why it is none."""
    try:
        return load_pem_private_key(written, None)
    except TypeError:
        return "it has a passphrase: take that away (openssl pkey -in FILE -out NEW)"
    except (ValueError, UnsupportedAlgorithm):
        return _instead(written, "private key")


def _instead(written: bytes, wanted: str) -> str:
    """What a file holds instead of what is `wanted`, in words."""
    if not written.strip():
        return "it is empty"
    if written.startswith(_DER):
        return "it is DER, and has to be PEM (openssl x509 or pkey, with -inform DER)"
    found = next((words for label, words in _OTHER_LABELS if label in written), "")
    if not found:
        return f"it holds no {wanted} in PEM"
    return f"its {wanted} is damaged" if found.endswith(wanted) else f"{found}, and no {wanted}"
