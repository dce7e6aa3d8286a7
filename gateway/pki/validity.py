"""From when until when the certificates in use are good, and what to say of those that are not.

Owns the reading of the dates. What a certificate is for, and whether it fits, is OpenSSL's to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from gateway.pki.key_types import rsa_twin
from gateway.system.utc_text import utc_text

_LAST_PART = 3
"""Warned from the last third of a life on, as for what the gateway renews."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate in use."""

    name: str
    """`server`, `ca`, `client_ca` or `bus_ca`."""
    path: Path
    start: int
    """Unix seconds."""
    end: int
    of_many: bool = False
    """Whether others in the same file may stand in for it: in a bundle of CAs."""

    def fault(self, now: float) -> str:
        """Why it is not good now; empty if it is."""
        if now >= self.end:
            return f"{self.path} has expired ({utc_text(self.end)}): put a new one in its place"
        if now < self.start:
            return f"{self.path} is not valid before {utc_text(self.start)}: is this machine's clock right?"
        return ""

    def warning(self, now: float) -> str:
        """What is to be done soon; empty for nothing."""
        if now < self.end - (self.end - self.start) // _LAST_PART:
            return ""
        days = int(self.end - now) // 86_400
        return f"{self.path} expires in {days} day{'' if days == 1 else 's'} ({utc_text(self.end)}): renew it"


def in_use(server: Path | None, client_ca: Path | None, bus_ca: Path | None) -> list[Certificate]:
    """The certificates of these files. A file that is not there or can't be read is told elsewhere."""
    found: list[Certificate] = []
    if server is not None:
        for certificate, authority in ((server, "ca.crt"), (rsa_twin(server), "ca-rsa.crt")):
            chain = _read(certificate)
            found += _described("server", certificate, chain)
            issuers = _read(certificate.with_name(authority))
            if chain and any(_issued(chain[-1], issuer) for issuer in issuers):
                found += _described("ca", certificate.with_name(authority), issuers)
    for name, path in (("client_ca", client_ca), ("bus_ca", bus_ca)):
        if path is not None:
            found += _described(name, path, _read(path), of_many=True)
    return found


def judged(certificates: Sequence[Certificate], now: float) -> tuple[list[str], list[str]]:
    """What is wrong now, and what is to be warned of."""
    faults: list[str] = []
    warnings: list[str] = []
    good = {one.path for one in certificates if not one.fault(now)}
    for one in certificates:
        fault = one.fault(now)
        if fault and not (one.of_many and one.path in good):
            faults.append(fault)
        elif fault or (warning := one.warning(now)):
            warnings.append(f"one of {fault}" if fault else warning)
    return list(dict.fromkeys(faults)), list(dict.fromkeys(warnings))


def _read(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return []


def _described(
    name: str, path: Path, certificates: Sequence[x509.Certificate], *, of_many: bool = False
) -> Iterator[Certificate]:
    for one in certificates:
        start, end = one.not_valid_before_utc.timestamp(), one.not_valid_after_utc.timestamp()
        yield Certificate(name, path, int(start), int(end), of_many and len(certificates) > 1)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
