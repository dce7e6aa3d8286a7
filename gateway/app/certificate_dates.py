"""Looks at the dates of the certificates for as long as the gateway runs: for health, log and metrics.

Which certificates are in force is decided in `gateway.app.followers`; what their dates mean, in
`gateway.pki.certificate_validity`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gateway.app.followers.follower import Follower
from gateway.config import Settings
from gateway.observe.logs import get_logger
from gateway.pki.certificate_validity import Certificate, faults_and_warnings, files_of, in_use
from gateway.system.file_change_marks import Mark, marks
from gateway.system.file_notices import FileNotices

_LOOK_SECONDS = 2.0
"""Between two looks at the files, where the system sends no notice of a change."""

_log = get_logger()


def certificates_of(settings: Settings) -> list[Certificate]:
    """The certificates that a gateway with these settings uses."""
    server = settings.tls_cert_path if settings.tls_enabled else None
    return in_use(server, settings.tls_client_ca_path, settings.mqtt_ca_path)


def _files(settings: Settings) -> list[Path]:
    server = settings.tls_cert_path if settings.tls_enabled else None
    return files_of(server, settings.tls_client_ca_path, settings.mqtt_ca_path)


class CertificateDates:
    """Knows which certificates are expired, not valid yet, or in the last third of their lives."""

    def __init__(self, settings: Settings, now: Callable[[], float]) -> None:
        """`now` gives Unix seconds."""
        self._settings = settings
        self._now = now
        self._certificates: Sequence[Certificate] = ()
        self._seen: dict[str, Mark] = {}
        """The files as they were when they were read last."""
        self._changed = False
        """Whether they had changed at the last look. Then they are read once more at the next: a second
        write within one tick of the file system's clock does not change a mark."""
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
        """When the first certificate of each name expires, in Unix seconds. A name is what it is used for."""
        names = {one.name for one in self._certificates}
        return {name: min(one.end for one in self._certificates if one.name == name) for name in names}

    def starts(self) -> Mapping[str, float]:
        """When the last certificate of each name becomes valid, in Unix seconds."""
        names = {one.name for one in self._certificates}
        return {name: max(one.start for one in self._certificates if one.name == name) for name in names}

    def days_left(self) -> Mapping[str, float]:
        """In how many days the first certificate of each name expires."""
        now = self._now()
        return {name: (end - now) / 86_400 for name, end in self.expiries().items()}

    def life_left(self) -> Mapping[str, float]:
        """The share of its life that is left of a certificate, from 1 to 0; by name, the least."""
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
        """Look when files may have changed, and now and then in any case, for dates come nearer. For ever."""
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
        """Called in a thread.

        Parsing certificates costs much more than a look at the marks of their files.
        """
        seen = marks(_files(self._settings))
        changed = seen != self._seen
        if not changed and not self._changed:
            return self._certificates
        self._seen, self._changed = seen, changed
        return certificates_of(self._settings)

    def _take(self, certificates: Sequence[Certificate]) -> None:
        self._certificates = certificates
        faults, warnings = faults_and_warnings(certificates, self._now())
        # A warning counts the days that are left: without them, each certificate is logged once, not daily.
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


class CertificateCheck:
    """What health says of the certificates: whether changed files are in force, and how long they are good.

    What is to be renewed soon is no warning here, for `CertificateDates.check` gives it.
    """

    def __init__(self, files: Follower, dates: CertificateDates) -> None:
        self._files = files
        self._dates = dates

    def check(self) -> tuple[bool, str]:
        """Whether they can be used, and the days that are left of each, or what is wrong."""
        both = self._files.check(), self._dates.check()
        if faults := [words for well, words in both if not well]:
            return False, "; ".join(faults)
        left = sorted(self._dates.days_left().items())
        days = ", ".join(f"{name} {max(0, int(count))}" for name, count in left)
        return True, f"{both[0][1]}; days left: {days}" if days else both[0][1]


def _about(warning: str) -> str:
    """The certificate that it is about, without the days that are left."""
    return warning.partition(" expires in ")[0]
