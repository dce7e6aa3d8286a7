"""Follows certificates: the gateway's own, and the CAs by which it verifies devices and the bus.

New connections get what has changed.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from gateway.app.followers.follower import WholeFilesFollower
from gateway.config import Settings
from gateway.net.acceptor import Acceptor
from gateway.net.bus_endpoint import Bus
from gateway.net.tls_contexts import bus_context, server_context
from gateway.pki.ecdsa_and_rsa_choice import rsa_twin
from gateway.pki.pem_faults import why_no_authority, why_no_pair


class CertificateFollower(WholeFilesFollower[tuple[ssl.SSLContext, ssl.SSLContext]]):
    """Has new connections use changed certificates, and a changed or emptied CA, without a restart."""

    subject = "certificates"
    good = "as in the files"

    def __init__(self, settings: Settings) -> None:
        self._certificate, self._key = settings.tls_cert_path, settings.tls_key_path
        self._authority = settings.tls_client_ca_path
        own = [self._certificate, self._key]
        super().__init__([*own, *map(rsa_twin, own), *([self._authority] if self._authority else [])])
        self._ports: tuple[Acceptor, Acceptor] | None = None

    def serve(self, devices: Acceptor, api: Acceptor) -> None:
        """Use the certificates on these ports. Until this is called TLS is off."""
        self._ports = devices, api

    def read(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """The contexts for devices and for the API, where a client certificate logs nobody in."""
        return (
            server_context(self._certificate, self._key, self._authority),
            server_context(self._certificate, self._key, None),
        )

    def put_in_force(self, read: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
        """Use them on both ports."""
        if self._ports is not None:
            devices, api = self._ports
            devices.tls, api.tls = read

    def in_words(self, error: Exception) -> str:
        """Which file it is, and what is wrong with it."""
        pairs = [(self._certificate, self._key)]
        if rsa_twin(self._certificate).exists() or rsa_twin(self._key).exists():
            pairs.append((rsa_twin(self._certificate), rsa_twin(self._key)))
        found = [words for pair in pairs if (words := _said(why_no_pair, *pair))]
        if self._authority and (words := _said(why_no_authority, self._authority)):
            found.append(f"{self._authority}: {words}")
        return f"{'; '.join(found) or error}; those before are in force"

    async def look(self) -> None:
        """As for all files, if there is TLS."""
        if self._ports is not None:
            await super().look()

    async def reload(self) -> str:
        """As for all files, if there is TLS."""
        return "TLS is off" if self._ports is None else await super().reload()


class BusAuthority(WholeFilesFollower[ssl.SSLContext]):
    """Has new connections to the bus verified with a changed CA, without a restart."""

    subject = "CA of the bus"
    good = "as in the file"

    def __init__(self, path: Path) -> None:
        super().__init__([path])
        self._path = path
        self._bus: Bus | None = None

    def serve(self, bus: Bus) -> None:
        """Verify connections to this bus with it."""
        self._bus = bus

    def read(self) -> ssl.SSLContext:
        """The CA, as connections to the bus need it."""
        return bus_context(self._path)

    def put_in_force(self, read: ssl.SSLContext) -> None:
        """Use it for the connections to come."""
        if self._bus is not None:
            self._bus.tls = read

    def in_words(self, error: Exception) -> str:
        """The error, with the file, which it does not name."""
        return f"{self._path}: {_said(why_no_authority, self._path) or error}; the one before is in force"


def _said(why: Callable[..., str], *paths: Path) -> str:
    """What `why` says is wrong with these files, or which of several can't be read; empty if all is well."""
    try:
        return why(*paths)
    except OSError as error:  # OpenSSL's own error does not name the file
        which = f"{error.filename} " if len(paths) > 1 else ""
        return f"{which}can't be read: {error.strerror}"
