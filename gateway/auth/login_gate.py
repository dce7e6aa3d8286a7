"""The single entry point of every login: of devices, over HTTPS, and to the services on the bus.

It has `gateway.auth.login` check the credentials, which also refuses peers after too many wrong logins (the
throttle); it counts each login and reports it. The caller only has to answer yes or no in its own protocol.
Must not know which protocol that is, nor where reports go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.auth.claimed_name_redaction import ClaimedNames
from gateway.auth.credentials import Admission, Credentials, LoginRefused
from gateway.auth.login import Login
from gateway.connection.audit_vocabulary import Origin, Report, refused_login
from gateway.connection.process_counters import Counters
from gateway.mqtt.reason_codes import Reason

_ACCEPTED = "accepted"
"""How a login ended, as the metric `logins` has it beside the names of reason codes."""


@dataclass(slots=True, kw_only=True)
class Peer:
    """Where a login comes from."""

    host: str
    """The IP address, by which wrong logins are counted."""
    origin: Origin | None
    """Whom a report is about. If it has no device, the report of a refusal names the claimed one.

    None: nothing is reported here. The login is part of a request, whose refusal the caller reports.
    """
    through: str = ""
    """How the login arrived, for reports (see `refused_login`); empty for a CONNECT."""
    has_left: Callable[[], bool] = lambda: False
    """Whether the peer is gone; asked before anything is hashed."""
    patience: float | None = None
    """Seconds after which `LoginGate.verify` gives up. None: the caller has a deadline of its own."""


class LoginGate:
    """The entry point of logins, one per process. Each login and each refusal is counted and reported."""

    def __init__(
        self,
        login: Login,
        names: ClaimedNames,
        counters: Counters,
        report: Callable[[Report, Origin], None],
        admitted: Callable[[str, str, Origin], None],
    ) -> None:
        """`report` is called for each refusal, `admitted` with method and device id for each login.

        `names` redacts claimed device ids in reports.
        """
        self._login = login
        self._names = names
        self._counters = counters
        self._report = report
        self._admitted = admitted

    def recognise(self, shown: Credentials, peer: Peer) -> Admission | None:
        """Let the peer in if that takes no hash. None: `verify` has to decide. Raises LoginRefused."""
        try:
            admission = self._login.recognise(shown, peer.host)
        except LoginRefused as refused:
            self._refuse(refused, peer, shown)
            raise
        if admission is not None:
            self._counters.logins_remembered += 1
            self._admit(admission, peer)
        return admission

    async def verify(self, shown: Credentials, peer: Peer) -> Admission:
        """Let the peer in if its secret, hashed when its turn comes, is right. Raises LoginRefused."""
        try:
            admission = await self._verify_in_time(shown, peer)
        except LoginRefused as refused:
            self._refuse(refused, peer, shown)
            raise
        self._counters.logins_verified += 1
        self._admit(admission, peer)
        return admission

    async def _verify_in_time(self, shown: Credentials, peer: Peer) -> Admission:
        try:
            async with asyncio.timeout(peer.patience):
                return await self._login.verify(shown, peer.host, has_left=peer.has_left)
        except TimeoutError:
            raise LoginRefused(Reason.SERVER_UNAVAILABLE, "no answer in time", None) from None

    def renew(self, device_id: str, token: bytes, peer: Peer) -> Admission:
        """Check a new token of a device that is already connected. Raises LoginRefused.

        A success is not counted as a login; a refusal is counted and reported like any other.
        """
        # The user name is the device's id, so that a token of a different device is refused.
        shown = Credentials(username=device_id.encode(), password=None, token=token)
        try:
            admission = self._login.recognise(shown, peer.host)
        except LoginRefused as refused:
            self._refuse(refused, peer, shown)
            raise
        if admission is None:
            raise RuntimeError("a token is decided at once")
        return admission

    def _admit(self, admission: Admission, peer: Peer) -> None:
        self._counters.logins[admission.method, _ACCEPTED] += 1
        if peer.origin is not None:
            self._admitted(admission.method, admission.device.device_id, peer.origin)

    def _refuse(self, refused: LoginRefused, peer: Peer, shown: Credentials) -> None:
        if refused.device_id is not None and not refused.vouched:
            refused.device_id = self._names.shown(refused.device_id)
        self._counters.logins_refused += 1
        self._counters.logins[shown.method, refused.reason.name.lower()] += 1
        origin = peer.origin
        if origin is not None:
            if origin.device is None:
                origin = replace(origin, device=refused.device_id)
            self._report(refused_login(refused.why, peer.through), origin)
