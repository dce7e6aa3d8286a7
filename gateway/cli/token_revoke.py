"""`gateway-admin token revoke`: a token and what was renewed from it, or all tokens of a device.

The store keeps revocations, and a running gateway follows the store.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.offline_tokens import refusal, tokens_of
from gateway.cli.output import Answer, Failure, Json, answering, wrong_usage
from gateway.cli.settings_policy_store import Config, actor, settings_of, store_of
from gateway.cli.stdin import read_token

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.store import IssuedToken, Store


def revoke(
    token_id: Annotated[
        str | None,
        typer.Argument(
            metavar="TOKEN_ID",
            show_default=False,
            help="As `token list` shows it, or as much of it as no other id begins with.",
        ),
    ] = None,
    *,
    device_id: Annotated[
        str | None, typer.Option("--device", metavar="ID", help="All tokens of this device until now.")
    ] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="This token: it is read from stdin.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Revoke a token and all that were renewed from it, or all tokens of a device.

    Connections that came with one end within a second. A device can go on with its secret: to keep it
    out, disable it. Exit code 1: there is no such token or device.

    For example:

        gateway-admin token revoke 0b6c2d9e-1f0a-4f53-9f0e-6d3f6a3d8a11

        gateway-admin token revoke --device lamp-1

        gateway-admin token revoke --token-stdin < found-on-a-forum.txt
    """
    with answering(as_json=as_json) as answer:
        if (token_id is not None) + (device_id is not None) + token_stdin != 1:
            raise wrong_usage("give one of TOKEN_ID, --device ID and --token-stdin")
        given = read_token() if token_stdin else None
        asyncio.run(_revoke(answer, settings_of(config), device_id, token_id, given))


async def _revoke(
    answer: Answer, settings: Settings, device_id: str | None, token_id: str | None, given: bytes | None
) -> None:
    from gateway.admin import tokens as admin

    async with store_of(settings) as store:
        if device_id is not None:
            hit = (await admin.revoke_all(store, device_id, actor=actor())).recorded
            answer.give(
                {"device_id": device_id, "token_id": None, "revoked": hit},
                f"All tokens of {device_id} are revoked; {_count(hit)} recorded and still good.",
            )
            return
        found = await (
            _recorded(store, token_id) if given is None else _shown(answer, settings, store, given)
        )
        revoked = await admin.revoke(store, found, ttl_most=settings.jwt_ttl, actor=actor())
    hit = revoked.recorded
    if revoked.whole_device:
        from gateway.store.tokens import REVOCATIONS_MAX

        answer.give(
            {"device_id": found.device_id, "token_id": None, "revoked": hit},
            f"All tokens of {found.device_id} are revoked, {found.token_id} among them: "
            f"{REVOCATIONS_MAX} revocations of single tokens are kept for a device. "
            f"{_count(hit)} recorded and still good. The device gets new ones with its secret.",
        )
        return
    answer.give(
        {"device_id": found.device_id, "token_id": found.token_id, "revoked": hit},
        f"Token {found.token_id} of {found.device_id} is revoked, and what was renewed from it; "
        f"{_count(hit)} recorded and still good.",
    )


async def _recorded(store: Store, token_id: str | None) -> IssuedToken:
    given = token_id or ""
    found = [one for one in await store.tokens.read() if given and one.token_id.startswith(given)]
    exact = [one for one in found if one.token_id == given]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        raise Failure(f"{len(found)} tokens have an id that begins with {token_id!r}: give more of it")
    raise Failure(
        f"no token of the id {token_id!r} is recorded that has not expired: `gateway-admin token list` shows "
        "those there are; --token-stdin and --device revoke others too"
    )


async def _shown(answer: Answer, settings: Settings, store: Store, given: bytes) -> IssuedToken:
    """A record made from a token that was given on stdin. Raises Failure; Exit if it is revoked already."""
    from gateway.admin.tokens import AsIfNoneRevoked
    from gateway.auth.tokens import TokenFault, TokenRefused
    from gateway.store import IssuedToken

    try:
        device, grant = (await tokens_of(settings, store, AsIfNoneRevoked)).verify(given)
    except TokenRefused as error:
        if error.fault is TokenFault.EXPIRED:
            raise Failure(
                f"the token has expired. What was renewed from it may still be good: `gateway-admin token "
                f"revoke --device {error.device_id}` revokes all tokens of the device"
            ) from None
        if error.fault is TokenFault.REVOKED:
            answer.give(
                {"device_id": error.device_id, "token_id": None, "revoked": 0},
                f"The token is revoked already, with all others of {error.device_id}.",
            )
            raise typer.Exit from None
        raise Failure(refusal(error)) from None
    return IssuedToken.of(device.device_id, grant, "admin")


def _count(hit: int) -> str:
    return f"{hit} {'was' if hit == 1 else 'were'}"
