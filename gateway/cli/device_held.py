"""`gateway-admin device held`: what a device holds on the bus, as the gateway counts it, and a new count.

Works on the store; a running gateway, whose count may be newer by some seconds, follows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.output import Answer, Json, Nothing, answering, wrong_usage
from gateway.cli.settings_policy_store import Config, actor, policy_of, settings_of, store_of
from gateway.connection.bus_holdings import FOREVER, Kind, SavedHoldings
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.policy.engine.limits import Limits

_OF_A_KEY = 8
"""Bytes of a hash: `SavedHoldings.keys` has one for each topic or filter."""


def held(
    device_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", show_default=False, help="The device's id; all that hold something."),
    ] = None,
    *,
    forget: Annotated[
        bool, typer.Option("--forget", help="Count it from nothing, for the bus has it no more.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show what devices hold on the bus: retained topics, sessions that stay, and their filters.

    The gateway counts what passes through it, and doesn't see what the bus drops by itself or others clear.
    With --forget it counts the device anew, but for sessions that are connected. Nothing changes on the bus.

    For example:

        gateway-admin device held

        gateway-admin device held lamp-1 --forget
    """
    with answering(as_json=as_json) as answer:
        if forget and device_id is None:
            raise wrong_usage("give the ID of the device whose holdings are to be forgotten")
        settings = settings_of(config)
        if device_id is not None and forget:
            asyncio.run(_forget(answer, settings, device_id))
        else:
            asyncio.run(_show(answer, settings, device_id))


async def _forget(answer: Answer, settings: Settings, device_id: str) -> None:
    from gateway.admin import bus_holdings_count_reset

    async with store_of(settings) as store:
        forgotten = await bus_holdings_count_reset.forget(store, device_id, actor=actor())
    answer.give(
        {"device_id": device_id, "forgotten": forgotten},
        f"What {device_id} holds on the bus is counted from nothing.",
    )


async def _show(answer: Answer, settings: Settings, device_id: str | None) -> None:
    async with store_of(settings) as store:
        if device_id is not None:
            await store.devices.get(device_id)
        found = await store.holdings.read(device_id)
    if device_id is not None:
        _give_one(answer, device_id, found, policy_of(settings).limits)
        return
    ids = sorted({one.device_id for one in found})
    counts = {one: _counts([row for row in found if row.device_id == one]) for one in ids}
    answer.give(
        {"devices": [{"device_id": one, **counts[one]} for one in ids]},
        *([] if ids else [Nothing("No device holds anything on the bus.")]),
        *(f"{one}\t{_text(counts[one])}" for one in ids),
    )


def _give_one(answer: Answer, device_id: str, found: Sequence[SavedHoldings], limits: Limits) -> None:
    sessions = [one for one in found if one.kind is Kind.SESSION]
    counts = _counts(found)
    answer.give(
        {
            "device_id": device_id,
            **counts,
            "filters": [len(one.keys) // _OF_A_KEY for one in sessions],
            "limits": {"retained_topics": limits.retained_topics, "sessions": limits.sessions},
        },
        f"retained topics  {counts['retained_topics']} of {limits.retained_topics}",
        f"sessions         {counts['sessions']} of {limits.sessions}",
        *(
            f"  {_filters(one)} of {limits.subscriptions} subscriptions, {_state(one)}"
            for one in sorted(sessions, key=lambda one: one.since)
        ),
    )


def _counts(found: Sequence[SavedHoldings]) -> dict[str, int]:
    retained = sum(len(one.keys) // _OF_A_KEY for one in found if one.kind is Kind.RETAINED)
    return {"retained_topics": retained, "sessions": sum(one.kind is Kind.SESSION for one in found)}


def _text(counts: dict[str, int]) -> str:
    return f"{counts['retained_topics']} retained topics\t{counts['sessions']} sessions"


def _filters(one: SavedHoldings) -> int:
    return len(one.keys) // _OF_A_KEY


def _state(one: SavedHoldings) -> str:
    if not one.since:
        return "connected"
    left = f"away since {utc_text(one.since)}"
    if one.lifetime >= FOREVER:
        return f"{left}, stays until the bus drops it"
    end = datetime.fromtimestamp(one.since, UTC).timestamp() + one.lifetime
    return f"{left}, stays until {utc_text(int(end))}"
