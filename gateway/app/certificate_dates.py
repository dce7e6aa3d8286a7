"""Looks at the dates of the certificates for as long as the gateway runs: for health, log and metrics.

What is in force is `gateway.app.followers`'s to say, what the dates mean
`gateway.pki.certificate_validity`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gateway.config import Settings
from gateway.observe.logs import get_logger
from gateway.pki.certificate_validity import Certificate, faults_and_warnings, files_of, in_use
from gateway.system.file_change_marks import Mark, marks
from gateway.system.file_notices import FileNotices

_LOOK_SECONDS = 2.0
"""Where no notice of a change comes."""

_log = get_logger()


def certificates_of(settings: Settings) -> list[Certificate]:
    """Those that a gateway with these settings uses."""
    server = settings.tls_cert_path if settings.tls_enabled else None
    return in_use(server, settings.tls_client_ca_path, settings.mqtt_ca_path)


def _files(settings: Settings) -> list[Path]:
    server = settings.tls_cert_path if settings.tls_enabled else None
    return files_of(server, settings.tls_client_ca_path, settings.mqtt_ca_path)


class CertificateDates:
    """Tells when a certificate is expired, not valid yet, or in the last third of its life."""

    def __init__(self, settings: Settings, now: Callable[[], float]) -> None:
        """`now` gives Unix seconds."""
        self._settings = settings
        self._now = now
        self._certificates: Sequence[Certificate] = ()
        self._seen: dict[str, Mark] = {}
        """The files as they were when they were read last."""
        self._changed = False
        """Whether they had changed then: what is written in the same tick of the file clock leaves the mark
        as it was, and is found by reading once more."""
        self._faults: list[str] = []
        self._warnings: list[str] = []
        self._notices = FileNotices(lambda: _files(settings))
        self.look()

    def check(self) -> tuple[bool, str]:
        """Whether all are good now; else which are not. What is to be renewed soon is a warning."""
        faults, warnings = faults_and_warnings(self._certificates, self._now())
        if faults:
            return False, "; ".join(faults)
        if warnings:
            return True, f"warning: {'; '.join(warnings)}"
        return True, "good, and not in the last third of their lives"

    def expiries(self) -> Mapping[str, float]:
        """Until when those of each name are good, the first of them: Unix seconds."""
        names = {one.name for one in self._certificates}
        return {name: min(one.end for one in self._certificates if one.name == name) for name in names}

    def starts(self) -> Mapping[str, float]:
        """Since when those of each name are good, the last of them: Unix seconds."""
        names = {one.name for one in self._certificates}
        return {name: max(one.start for one in self._certificates if one.name == name) for name in names}

    def life_left(self) -> Mapping[str, float]:
        """What is left of the lives of those of each name, of the first to end: from 1 to 0."""
        found: dict[str, float] = {}
        for one in self._certificates:
            left = (one.end - self._now()) / max(1, one.end - one.start)
            found[one.name] = min(found.get(one.name, 1.0), max(0.0, left))
        return found

    def states(self) -> Mapping[str, float]:
        """How many are good, in the last third of their lives, expired, or not valid yet."""
        now = self._now()
        found = dict.fromkeys(("good", "expiring", "expired", "not_yet_valid"), 0)
        for one in self._certificates:
            if one.fault(now):
                found["expired" if now >= one.end else "not_yet_valid"] += 1
            else:
                found["expiring" if one.warning(now) else "good"] += 1
        return found

    async def run(self) -> None:
        """Look when files may have changed, and now and then, for time goes by. For ever."""
        try:
            while True:
                await self._notices.wait(_LOOK_SECONDS)
                self._take(await asyncio.to_thread(self._read))
        finally:
            self._notices.close()

    def look(self) -> None:
        """Look now."""
        self._take(self._read())

    def _read(self) -> Sequence[Certificate]:
        """In a thread. To take certificates apart costs much more than a look at their files."""
        seen = marks(_files(self._settings))
        changed = seen != self._seen
        if not changed and not self._changed:
            return self._certificates
        self._seen, self._changed = seen, changed
        return certificates_of(self._settings)

    def _take(self, certificates: Sequence[Certificate]) -> None:
        self._certificates = certificates
        faults, warnings = faults_and_warnings(certificates, self._now())
        # Days pass in the words: a warning is logged when its certificate is a new one to be warned of.
        for fault in faults:
            if fault not in self._faults:
                _log.error("certificate not valid", reason=fault)
        known = {_about(warning) for warning in self._warnings}
        for warning in warnings:
            if _about(warning) not in known:
                _log.warning("certificate to be renewed", reason=warning)
        if (self._faults or self._warnings) and not faults and not warnings:
            _log.info("certificates good", reason="none is expired or in the last third of its life")
        self._faults, self._warnings = faults, warnings


def _about(warning: str) -> str:
    """The certificate that it is about, without the days that are left."""
    return warning.partition(" expires in ")[0]
