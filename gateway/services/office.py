"""Where tokens are issued: for the service topic `auth` and for the HTTPS API.

Owns how often, with which rights, and what has to be recorded of each. Must not know who asks, nor how
they have shown who they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.identity import Device, Grant, Identity
from gateway.core.shared import Shared
from gateway.security.tokens import ChainOver, Issued, PermissionsTooLong, TokenRefused, Tokens
from gateway.services import refusals
from gateway.services.rates import Rates
from gateway.services.shapes import Code, Refusal
from gateway.store import IssuedToken

_UNSAVED_MAX = 10_000
"""Records that wait for the store. Above it no token is issued: nobody could revoke it by its id."""
_MINUTE = 60_000


class TokenOffice:
    """One for a process, whoever asks."""

    def __init__(self, shared: Shared, tokens: Tokens) -> None:
        self._shared = shared
        self._tokens = tokens
        self._rates = Rates(shared.now)
        self._unsaved: list[IssuedToken] = []

    def issue(self, device: Device, *, source: str, parent: Grant | None = None) -> Issued:
        """A token for a device that has shown who it is, with all that the policy allows it now.

        `source` is `auth` or `api`, for the record. With a token (`parent`) one gets no more than that one
        grants, and it is revoked with it; renewing it in turn has an end (JWT_CHAIN_MAX). Raises Refusal.
        """
        policy = self._shared.policy
        if not self._rates.take(device.device_id, policy.limits.tokens_per_minute, _MINUTE):
            raise Refusal(
                Code.RATE_LIMITED,
                "Too many tokens were issued to this device within a minute: use the one it has.",
            )
        if len(self._unsaved) >= _UNSAVED_MAX:
            raise Refusal(
                Code.UNAVAILABLE,
                "No token can be issued at the moment: try again in a minute.",
                why="the store does not take the records of issued tokens",
            )
        identity = Identity(device.device_id, device.roles, device.labels, client_id="", grant=parent)
        permissions = policy.access(identity).permissions()
        try:
            issued = self._tokens.issue(device, permissions, parent=parent)
        except PermissionsTooLong as error:
            words = "This device's rights do not fit into a token: its roles need fewer rules."
            raise Refusal(Code.TOO_LARGE, words, why=str(error)) from None
        except ChainOver as error:
            raise Refusal(Code.TOKEN_EXPIRED, str(error)) from None
        except TokenRefused as error:
            raise refusals.of_token(error) from None
        self._shared.counters.tokens_issued += 1
        self._unsaved.append(IssuedToken.of(device.device_id, issued.grant, source))
        return issued

    def unsaved(self) -> Sequence[IssuedToken]:
        """The records that the store has not, the oldest first. They stay until they are `saved`."""
        return tuple(self._unsaved)

    def saved(self, count: int) -> None:
        """The store has that many of the oldest."""
        del self._unsaved[:count]
