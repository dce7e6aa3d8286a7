"""`gateway-admin token`: what devices log in with instead of their secret, and services ask with.

A token is printed once, by `issue`, and read from stdin wherever that is possible: any user of the machine
sees the command line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.durations import seconds_of
from gateway.cli.offline_tokens import refusal, tokens_of
from gateway.cli.output import Answer, Json, answering, json_time, wrong_usage
from gateway.cli.settings_policy_store import Config, actor, policy_of, settings_of, store_of
from gateway.cli.stdin import read_token
from gateway.cli.tables import table
from gateway.mqtt.topics import filter_fault, unshared
from gateway.policy.engine.identity import Device, Grant
from gateway.policy.engine.rules import Action
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from rich.table import Table

    from gateway.config import Settings
    from gateway.store import IssuedToken

Filters = Mapping[str, tuple[str, ...]]


def _filter_option(action: Action, what: str) -> typer.models.OptionInfo:
    text = f"Let it {what} topics of this filter; may be repeated."
    option: typer.models.OptionInfo = typer.Option(f"--{action}", metavar="FILTER", help=text)
    return option


def issue(
    device_id: Annotated[str, typer.Argument(metavar="DEVICE", show_default=False, help="A device's id.")],
    *,
    ttl: Annotated[
        str | None,
        typer.Option(
            "--ttl", metavar="TIME", help="How long it is good, such as 90s, 15m, 8h; else JWT_TTL."
        ),
    ] = None,
    publish: Annotated[list[str] | None, _filter_option(Action.PUBLISH, "publish to")] = None,
    subscribe: Annotated[list[str] | None, _filter_option(Action.SUBSCRIBE, "subscribe to")] = None,
    encrypt: Annotated[list[str] | None, _filter_option(Action.ENCRYPT, "encrypt for")] = None,
    decrypt: Annotated[list[str] | None, _filter_option(Action.DECRYPT, "decrypt")] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Issue a token for a device and print it, once.

    It allows what the policy allows the device; with any of the four filter options only what they name,
    which can't be more, and it opens no session of the device on the bus but sessions of its own. The
    device connects with it as its password; the connection ends when the token does. Exit code 1: the
    device is unknown or disabled, or more was asked for than it may have.

    For example:

        gateway-admin token issue lamp-1

        gateway-admin token issue lamp-1 --ttl 15m --publish devices/lamp-1/state

        gateway-admin token issue billing --decrypt 'devices/+/private/#' --json
    """
    with answering(as_json=as_json) as answer:
        wanted = {
            Action.PUBLISH: publish,
            Action.SUBSCRIBE: subscribe,
            Action.ENCRYPT: encrypt,
            Action.DECRYPT: decrypt,
        }
        asked = {action.value: tuple(dict.fromkeys(filters or ())) for action, filters in wanted.items()}
        for filters in asked.values():
            for one in filters:
                if fault := filter_fault(one):
                    raise wrong_usage(f"{one!r} {fault}")
                if unshared(one) != one:
                    raise wrong_usage(f"{one!r}: name the filter alone; it may be shared then too")
        seconds = None if ttl is None else seconds_of("--ttl", ttl, such_as="15m", least=0)
        settings = settings_of(config)
        asyncio.run(_issue(answer, settings, device_id, seconds, asked if any(asked.values()) else None))


async def _issue(
    answer: Answer, settings: Settings, device_id: str, seconds: int | None, asked: Filters | None
) -> None:
    from gateway.admin import tokens as admin

    policy = policy_of(settings)
    async with store_of(settings) as store:
        device = await store.devices.get(device_id)
        issued = await admin.issue(
            store,
            await tokens_of(settings, store),
            policy,
            device,
            ttl=seconds,
            ttl_most=settings.jwt_ttl,
            asked=asked,
            actor=actor(),
        )
    grant = issued.grant
    answer.give(
        {
            "token": issued.token,
            "device_id": device_id,
            "token_id": grant.token_id,
            "permissions": _permissions(grant),
            "expires_at": json_time(grant.expires_at),
        },
        f"Token for {device_id}.",
        *(f"  {line}" for line in _lines(grant)),
        f"  token      {issued.token}",
        "The token is shown only now; the store keeps its id, by which it can be revoked.",
    )


def verify(
    token: Annotated[
        str | None, typer.Argument(metavar="TOKEN", show_default=False, help="Better on stdin.")
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Say whether a token is good now, whose it is, and what it allows.

    Without TOKEN it is read from stdin, which is the better way: arguments are seen by every user of the
    machine and kept in the shell's history. Exit code 1: it is not good, and why.

    For example:

        gateway-admin token verify < token.txt

        pass show lamp-1-token | gateway-admin token verify --json
    """
    with answering(as_json=as_json) as answer:
        given = read_token() if token is None else token.encode("utf-8", "surrogateescape")
        asyncio.run(_verify(answer, settings_of(config), given))


async def _verify(answer: Answer, settings: Settings, given: bytes) -> None:
    from gateway.auth.tokens import TokenRefused

    async with store_of(settings) as store:
        tokens = await tokens_of(settings, store)
        try:
            device, grant = tokens.verify(given)
        except TokenRefused as error:
            value = {"valid": False, "error": error.fault.value, "message": refusal(error)}
            answer.give(value, f"not valid: {error.fault}", refusal(error))
            raise typer.Exit(1) from None
    key_id = _key_id(given, grant)
    answer.give(
        {
            "valid": True,
            "device_id": device.device_id,
            "permissions": _permissions(grant),
            "expires_at": json_time(grant.expires_at),
            "token_id": grant.token_id,
            "kid": key_id,
        },
        "valid",
        f"device     {device.device_id}",
        *_lines(grant),
        f"signed by  {key_id or 'JWT_SECRET, by another program'}",
    )


def list_tokens(
    device_id: Annotated[
        str | None, typer.Option("--device", metavar="ID", help="Only those of this device.")
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List the tokens that have not expired: a table on a terminal, else a line each with tabs.

    Of a device that asks for very many only the newest thousand are kept. Times are UTC, with --json in
    Unix milliseconds. Exit code 1: there is no such device.

    For example:

        gateway-admin token list --device lamp-1
    """
    with answering(as_json=as_json) as answer:
        rows = asyncio.run(_all(settings_of(config), device_id))
        answer.give({"tokens": [_shown_as_json(one, state) for one, state in rows]}, *_rows(rows))


async def _all(settings: Settings, device_id: str | None) -> list[tuple[IssuedToken, str]]:
    async with store_of(settings) as store:
        if device_id is not None:
            await store.devices.get(device_id)
        devices = {device.device_id: device for device in await store.devices.read()}
        return [(one, _state(one, devices.get(one.device_id))) for one in await store.tokens.read(device_id)]


def _state(one: IssuedToken, device: Device | None) -> str:
    if device is None or one.is_revoked_by(device):
        return "revoked"
    return "active" if device.enabled else "device disabled"


def _shown_as_json(one: IssuedToken, state: str) -> dict[str, object]:
    return {
        "token_id": one.token_id,
        "device_id": one.device_id,
        "state": state,
        "issued_at": json_time(one.issued_at),
        "expires_at": json_time(one.expires_at),
        "source": one.source,
    }


def _rows(rows: Sequence[tuple[IssuedToken, str]]) -> list[Table | str]:
    return table(
        ("token id", "device", "state", "issued", "expires", "asked by"),
        [
            (
                one.token_id,
                one.device_id,
                state,
                utc_text(one.issued_at),
                utc_text(one.expires_at),
                one.source,
            )
            for one, state in rows
        ],
        state=2,
        colour=lambda state: "green" if state == "active" else "red",
        empty="No tokens.",
    )


def _key_id(token: bytes, grant: Grant) -> str | None:
    """The `kid` of a verified token; None if a different program with JWT_SECRET signed it under its own."""
    import jwt

    return grant.key_id if jwt.get_unverified_header(token).get("kid") == grant.key_id else None


def _permissions(grant: Grant) -> dict[str, list[str]]:
    return {action: list(filters) for action, filters in grant.permissions.items()}


def _lines(grant: Grant) -> list[str]:
    return [
        f"token id   {grant.token_id}",
        f"issued     {utc_text(grant.issued_at)}",
        f"expires    {utc_text(grant.expires_at)}",
        *(f"{action:<10} {', '.join(filters) or '-'}" for action, filters in grant.permissions.items()),
    ]
