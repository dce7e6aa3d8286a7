"""From when until when the certificates in use are valid, and what to say of those that are not.

Owns reading the dates. What a certificate may be used for, and whether its key fits, OpenSSL decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from gateway.pki.ecdsa_and_rsa_choice import rsa_twin
from gateway.system.utc_text import utc_text

_LAST_PART = 3
"""A warning is given in the last third of a certificate's life."""
_AUTHORITY, _RSA_AUTHORITY = "ca.crt", "ca-rsa.crt"
"""The files of the CA, beside the server's certificate."""
_SUBJECT_MAX = 120
"""Characters of a subject that are shown."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate in use."""

    name: str
    """`server`, `server_chain` (what follows it in its file), `ca`, `client_ca` or `bus_ca`.

    `server_rsa` and so on, if there is a second one with an RSA key.
    """
    path: Path
    start: int
    """Unix seconds, as `end`."""
    end: int
    of_many: bool = False
    """Whether it is in a bundle of CAs, of which others may serve in its place."""
    which: str = ""
    """Which one in its file it is, by what it is for and its subject; empty if it is the only one."""

    @property
    def location(self) -> str:
        """The file it is in, and which one there."""
        return f"{self.path}: {self.which}" if self.which else str(self.path)

    def fault(self, now: float) -> str:
        """Why it is not valid now; empty if it is."""
        if now >= self.end:
            return f"{self.location} has expired ({utc_text(self.end)}): put a new one in its place"
        if now < self.start:
            return (
                f"{self.location} is not valid before {utc_text(self.start)}: is this machine's clock right?"
            )
        return ""

    def warning(self, now: float) -> str:
        """What is to be done soon; empty for nothing."""
        if now < self.end - (self.end - self.start) // _LAST_PART:
            return ""
        days = int(self.end - now) // 86_400
        rest = f"{days} day{'' if days == 1 else 's'}"
        return f"{self.location} expires in {rest} ({utc_text(self.end)}): renew it"


def files_of(server: Path | None, client_ca: Path | None, bus_ca: Path | None) -> list[Path]:
    """All files that `in_use` reads for these."""
    found = [path for path in (client_ca, bus_ca) if path is not None]
    if server is not None:
        beside = [server.with_name(name) for name in (_AUTHORITY, _RSA_AUTHORITY)]
        found += [server, rsa_twin(server), *beside]
    return found


def in_use(server: Path | None, client_ca: Path | None, bus_ca: Path | None) -> list[Certificate]:
    """The certificates of these files. A file that is not there or can't be read is reported elsewhere."""
    found: list[Certificate] = []
    if server is not None:
        found += _pair(server, _AUTHORITY, "")
        found += _pair(rsa_twin(server), _RSA_AUTHORITY, "_rsa")
    for name, path in (("client_ca", client_ca), ("bus_ca", bus_ca)):
        if path is not None:
            found += _bundle(name, path, _read(path))
    return found


def faults_and_warnings(certificates: Sequence[Certificate], now: float) -> tuple[list[str], list[str]]:
    """What is wrong now, and what is to be warned of."""
    faults: list[str] = []
    warnings: list[str] = []
    good = {one.path for one in certificates if not one.fault(now)}
    for one in certificates:
        fault = one.fault(now)
        if fault and not (one.of_many and one.path in good):
            faults.append(fault)
        elif fault or (warning := one.warning(now)):
            warnings.append(f"{fault}; others in this file are good" if fault else warning)
    return list(dict.fromkeys(faults)), list(dict.fromkeys(warnings))


def _read(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return []


def _pair(server: Path, authority: str, suffix: str) -> Iterator[Certificate]:
    """A server certificate, what follows it in its file, and the CA beside it if that issued them."""
    chain = _read(server)
    for at, one in enumerate(chain):
        name = "server_chain" if at else "server"
        yield _described(f"{name}{suffix}", server, one, _which(_role(one, at), one, at, len(chain)))
    beside = server.with_name(authority)
    # If the CA there has issued none of them it does not matter.
    yield from _bundle(
        f"ca{suffix}", beside, [one for one in _read(beside) if chain and _issued(chain[-1], one)]
    )


def _bundle(name: str, path: Path, authorities: Sequence[x509.Certificate]) -> Iterator[Certificate]:
    """CAs, any of which may do."""
    many = len(authorities)
    for at, one in enumerate(authorities):
        yield _described(name, path, one, _which("CA", one, at, many), of_many=many > 1)


def _described(
    name: str, path: Path, one: x509.Certificate, which: str, *, of_many: bool = False
) -> Certificate:
    start, end = one.not_valid_before_utc.timestamp(), one.not_valid_after_utc.timestamp()
    return Certificate(name, path, int(start), int(end), of_many, which)


def _role(one: x509.Certificate, at: int) -> str:
    """What a certificate of a chain is for: the first is the server's own (RFC 8446, 4.4.2)."""
    if at == 0:
        return "server certificate"
    return "root CA" if one.subject == one.issuer else "intermediate CA"


def _which(role: str, one: x509.Certificate, at: int, many: int) -> str:
    """Which one of `many` in a file it is, in words; empty if it is the only one."""
    if many == 1:
        return ""
    subject = one.subject.rfc4514_string()[:_SUBJECT_MAX] or "without a name"
    return f'{role} "{subject}" (number {at + 1} of {many})'


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
