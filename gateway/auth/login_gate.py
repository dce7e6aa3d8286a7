"""The one entry point of every login: of devices, over HTTPS, and with the services on the bus.

Judges by `gateway.auth.login`, which also refuses whoever sent too many wrong logins (the throttle); counts
each login, and reports it. Whoever asks has only to say yes or no in its own protocol. Must not know which
that is, nor where reports go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.auth.claimed_name_redaction import ClaimedNames
from gateway.auth.login import Admission, Credentials, Login, LoginRefused
from gateway.connection.audit_vocabulary import Origin, Report, refused_login
from gateway.connection.process_counters import Counters
from gateway.mqtt.reason_codes import Reason

_ACCEPTED = "accepted"


@dataclass(slots=True, kw_only=True)
class Peer:
    """Where a login comes from."""

    host: str
    """The IP address, by which wrong logins are counted."""
    origin: Origin | None
    """Of whom a report speaks; without a device a refusal speaks of the one that is claimed.

    None: the login is part of a request, and what is reported is that this was refused.
    """
    through: str = ""
    """The way it comes, as a report names it."""
    has_left: Callable[[], bool] = lambda: False
    """Whether the peer is gone; asked before anything is hashed."""
    patience: float | None = None
    """Seconds it waits for `LoginGate.verify`. None: somebody else looks at the clock."""


class LoginGate:
    """The entry point of logins, one for a process. Each login and refusal is counted and reported."""

    def __init__(
        self,
        login: Login,
        names: ClaimedNames,
        counters: Counters,
        report: Callable[[Report, Origin], None],
        admitted: Callable[[str, str, Origin], None],
    ) -> None:
        """`report` is told who was refused, `admitted` by what method which device was let in, and whence."""
        self._login = login
        self._names = names
        self._counters = counters
        self._report = report
        self._admitted = admitted

    def recognise(self, shown: Credentials, peer: Peer) -> Admission | None:
        """Who it is, if that shows at once. None: `verify` decides. Raises LoginRefused."""
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
        """Who it is, when its turn to be hashed has come. Raises LoginRefused."""
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
        """A new token of a device that is there. Raises LoginRefused.

        It is no login, and is not counted as one; in vain it is, like any other.
        """
        # With the device as the user name: the token of a different one is refused.
        shown = Credentials(username=device_id.encode(), password=None, token=token)
        try:
            admission = self._login.recognise(shown, peer.host)
        except LoginRefused as refused:
            self._refuse(refused, peer, shown)
            raise
        if admission is None:
            raise RuntimeError("a token is judged at once")
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
