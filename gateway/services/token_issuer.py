"""Issues tokens, for the service topic `auth` and for the HTTPS API.

Owns how many are issued, with which rights, and what is recorded of each. Must not know who asks, nor how
they were authenticated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from gateway.auth.tokens import ChainOver, Issued, PermissionsTooLong, TokenRefused, Tokens
from gateway.connection.gcra_rate_limit import Rates
from gateway.connection.process_context import Context
from gateway.policy.engine.identity import Device, Grant, Identity
from gateway.policy.engine.policy import Policy
from gateway.services import authentication_refusal_words
from gateway.services.refusal import Code, Refusal
from gateway.services.token_request_parser import ALL_RIGHTS, TokenRequest, excess
from gateway.store import IssuedToken

_UNSAVED_MAX = 10_000
"""Records that wait for the store. With more, no token is issued, for it could not be revoked by its id."""
_MINUTE = 60_000
"""A minute in milliseconds."""
_RIGHTS_REMEMBERED_MAX = 64
"""Devices whose rights are cached. Working out those of a device with a thousand filters takes a twentieth of
a second, and it may ask for sixty tokens at once."""

_Permissions: TypeAlias = Mapping[str, Sequence[str]]


class TokenIssuer:
    """Issues all tokens of a process, and keeps their records until these are saved."""

    def __init__(self, context: Context, tokens: Tokens) -> None:
        self._context = context
        self._tokens = tokens
        self._rates = Rates(context.now)
        self._unsaved: list[IssuedToken] = []
        self._rights: dict[object, _Permissions] = {}
        self._policy_of_rights: Policy | None = None
        """The policy that `_rights` were worked out with."""

    def issue(
        self,
        device: Device,
        *,
        source: str,
        parent: Grant | None = None,
        requested: TokenRequest = ALL_RIGHTS,
    ) -> Issued:
        """A token for an authenticated device, with all that the policy allows it now, or less.

        `source` is `auth` or `api`, for the record. A device that logged in with a token (`parent`) gets no
        more than that one grants, and the new token is revoked with it; such a chain of tokens ends after
        JWT_CHAIN_MAX. `requested` is granted exactly or not at all. Raises Refusal.
        """
        policy = self._context.policy
        self._demand_one_more(policy, device)
        permissions = self._permissions(policy, device, parent)
        if requested.permissions is not None:
            if more := excess(requested.permissions, permissions):
                words = f'"permissions" asks for more than the device may have: {more}.'
                raise Refusal(
                    Code.NOT_AUTHORIZED, words, why="a token was to allow more than its device may do"
                )
            permissions = requested.permissions
        try:
            issued = self._tokens.issue(
                device,
                permissions,
                ttl=requested.ttl,
                parent=parent,
                narrowed=requested.permissions is not None,
            )
        except PermissionsTooLong as error:
            words = "This device's rights do not fit into a token: its roles need fewer rules."
            raise Refusal(Code.TOO_LARGE, words, why=str(error)) from None
        except ChainOver as error:
            raise Refusal(Code.TOKEN_EXPIRED, str(error)) from None
        except TokenRefused as error:
            raise authentication_refusal_words.of_token(error) from None
        life = issued.grant.expires_at - issued.grant.issued_at
        if requested.ttl is not None and life < requested.ttl:
            words = f'"ttl" is longer than a token may live for this device now: {life} seconds at most.'
            raise Refusal(Code.NOT_AUTHORIZED, words)
        self._context.counters.tokens_issued += 1
        self._unsaved.append(IssuedToken.of(device.device_id, issued.grant, source))
        return issued

    def _demand_one_more(self, policy: Policy, device: Device) -> None:
        """Raise Refusal unless this device may log in by token, and may get one more now."""
        if "token" not in device.methods:
            raise Refusal(
                Code.NOT_AUTHORIZED,
                "This device may not log in by a token.",
                why="a token for a device that has none among its methods",
            )
        if not self._rates.take(device.device_id, policy.limits_of(device.roles).tokens_per_minute, _MINUTE):
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

    def _permissions(self, policy: Policy, device: Device, parent: Grant | None) -> _Permissions:
        if policy is not self._policy_of_rights:
            self._rights, self._policy_of_rights = {}, policy
        granted = None if parent is None else tuple(parent.permissions.items())
        key = (device.device_id, device.roles, tuple(device.labels.items()), granted)
        found = self._rights.get(key)
        if found is None:
            if len(self._rights) >= _RIGHTS_REMEMBERED_MAX:
                del self._rights[next(iter(self._rights))]
            identity = Identity(device.device_id, device.roles, device.labels, client_id="", grant=parent)
            found = self._rights[key] = policy.rights(identity).permissions()
        return found

    def unsaved(self) -> Sequence[IssuedToken]:
        """The records that are not in the store yet, oldest first. They stay here until `saved` is called."""
        return tuple(self._unsaved)

    def saved(self, count: int) -> None:
        """Drop this many of the oldest records, which are in the store now."""
        del self._unsaved[:count]
