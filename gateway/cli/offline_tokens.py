"""Tokens without a running gateway: issued and verified as it would, with its keys and store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.cli.output import Failure

if TYPE_CHECKING:
    from gateway.auth.device_lookup_protocol import Lookup
    from gateway.auth.tokens import TokenRefused, Tokens
    from gateway.config import Settings
    from gateway.store import Store
    from gateway.store.device_directory import Directory


async def tokens_of(
    settings: Settings, store: Store, seen: Callable[[Directory], Lookup] | None = None
) -> Tokens:
    """What issues and verifies tokens as the gateway does; `seen` makes of the devices what it is to see.

    Raises Failure, StoreError, KeyFileError.
    """
    from gateway.app.startup_preparation import signing_keys
    from gateway.auth.tokens import Tokens
    from gateway.store.device_directory import Directory

    path = settings.signing_key_path
    if settings.jwt_secret is None and not path.exists():
        raise Failure(f"there are no signing keys at {path}: `gateway-admin init` makes what is missing")
    directory = Directory(store)
    await directory.load()
    return Tokens(
        signing_keys(settings),
        directory if seen is None else seen(directory),
        now=lambda: int(datetime.now(UTC).timestamp() * 1_000),
        ttl=settings.jwt_ttl,
        chain_max=settings.jwt_chain_max,
    )


def refusal(error: TokenRefused) -> str:
    """Why a token is not valid, in words for the administrator."""
    from gateway.auth.tokens import TokenFault

    of = "" if error.device_id is None else f" of {error.device_id}"
    return {
        TokenFault.INVALID: f"It is no token of this gateway, or it was changed ({error.why}).",
        TokenFault.EXPIRED: f"The token{of} has expired: ask for a new one.",
        TokenFault.REVOKED: f"The token{of} was revoked: ask for a new one.",
        TokenFault.NOT_ACCEPTED: f"The token{of} is genuine, but not accepted ({error.why}).",
    }[error.fault]
