"""Follows the files of certificates: what devices and callers of the API are shown, and the CA of the bus.

New connections see what has changed. What can't be used leaves in force what was there before, and is told.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from gateway.config import Settings
from gateway.net.acceptor import Acceptor
from gateway.net.connection_registry import Bus
from gateway.net.tls_contexts import bus_context, server_context
from gateway.observe.logs import get_logger
from gateway.pki.key_types import rsa_twin

_LOOK_SECONDS = 2.0

_Marks: TypeAlias = list[tuple[int, int, int]]
_log = get_logger()


def _marks(paths: Iterable[Path]) -> _Marks:
    """By which it is seen that a file has changed, appeared or gone."""
    found = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((stat.st_mtime_ns, stat.st_ino, stat.st_size))
    return found


class CertificateFollower:
    """Lets new connections see changed certificates, and a changed or emptied CA, without a restart."""

    def __init__(self, settings: Settings) -> None:
        """Before the files are read for the first time: what changes afterwards is a change."""
        authority = settings.tls_client_ca_path
        self._certificate, self._key, self._authority = (
            settings.tls_cert_path,
            settings.tls_key_path,
            authority,
        )
        self._seen = self._marks()
        self._problem = ""
        self._ports: tuple[Acceptor, Acceptor] | None = None

    def check(self) -> tuple[bool, str]:
        """Whether the files are what new connections see."""
        return not self._problem, self._problem or "as in the files"

    async def run(self, devices: Acceptor, api: Acceptor) -> None:
        """Look every two seconds, for ever."""
        self._ports = devices, api
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            # After a problem the files may become again what they were, to the second.
            if self._marks() != self._seen or self._problem:
                self._read()

    async def reload(self) -> str:
        """Read the files now, whether they look the same or not; the answer is what is in force then."""
        if self._ports is None:
            return "TLS is off"
        self._read()
        return self.check()[1]

    def _read(self) -> None:
        if self._ports is None:
            return
        devices, api = self._ports
        marks = self._marks()
        try:
            tls = server_context(self._certificate, self._key, self._authority)
            api.tls = server_context(self._certificate, self._key, None)
            devices.tls = tls
        except (OSError, ssl.SSLError) as error:
            # Perhaps the key is only just being written: look again until they fit.
            if not self._problem:
                _log.error("certificates refused", reason=f"{error}; those before are in force")
            self._problem = "the changed files can't be used; the certificates before them are in force"
            return
        self._seen, self._problem = marks, ""
        _log.info("certificates in force", certificate=str(self._certificate))

    def _marks(self) -> _Marks:
        twins = [rsa_twin(self._certificate), rsa_twin(self._key)]
        return _marks([self._certificate, self._key, *twins, *([self._authority] if self._authority else [])])


class BusAuthority:
    """Lets new connections to the bus believe a changed CA, without a restart."""

    def __init__(self, path: Path) -> None:
        """Before the file is read for the first time."""
        self._path = path
        self._seen = _marks([path])
        self._problem = ""
        self._bus: Bus | None = None

    def check(self) -> tuple[bool, str]:
        """Whether the file is what new connections to the bus believe."""
        return not self._problem, self._problem or "as in the file"

    async def run(self, bus: Bus) -> None:
        """Look every two seconds, for ever."""
        self._bus = bus
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if _marks([self._path]) != self._seen or self._problem:
                self._read()

    async def reload(self) -> str:
        """Read the file now; the answer is what is in force then."""
        self._read()
        return self.check()[1]

    def _read(self) -> None:
        if self._bus is None:
            return
        marks = _marks([self._path])
        try:
            self._bus.tls = bus_context(self._path)
        except (OSError, ssl.SSLError) as error:
            if not self._problem:
                _log.error(
                    "CA of the bus refused", reason=f"{self._path}: {error}; the one before is in force"
                )
            self._problem = "the changed CA of the bus can't be used; the one before it is in force"
            return
        self._seen, self._problem = marks, ""
        _log.info("CA of the bus in force", certificate=str(self._path))
