"""`gateway-admin status --refused`: who was refused in the last three days, and what to do about it.

Asks the running gateway; without one it shows what the store has.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING

from gateway.cli.output import Answer, Nothing, json_time, remark
from gateway.cli.settings_policy_store import store_of
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.store import RefusedClient

_SHOWN = 100
"""Rows that are shown to people; scripts get all."""
_TOPIC_SHOWN = 60
"""Characters of a topic that people are shown: that of the latest refusal of a row."""


def give_refused(answer: Answer, settings: Settings) -> None:
    """Show who was refused, the newest first. Raises Failure, StoreError."""
    from gateway.admin.refusal_remedies import remedy

    found = _refused(settings)
    if not answer.as_json and len(found) > _SHOWN:
        remark(f"these are the newest {_SHOWN} of {len(found)}; --json has all")
    remedies = [remedy(one) for one in found]
    objects = [_json_object(one, words) for one, words in zip(found, remedies, strict=True)]
    rows = [_row(one, words) for one, words in list(zip(found, remedies, strict=True))[:_SHOWN]]
    shown = chain.from_iterable(map(_lines, rows)) if sys.stdout.isatty() else map("\t".join, rows)
    nothing = [] if rows else [Nothing("Nobody was refused in the last three days.")]
    answer.give({"refused": objects}, *shown, *nothing)


def _row(one: RefusedClient, remedy: str) -> tuple[str, ...]:
    return (
        utc_text(one.last_at),
        str(one.count),
        one.device_id if one.proven or not one.device_id else f"{one.device_id} (claimed)",
        one.host,
        f"{one.kind} {_short(one.topic)}".rstrip(),
        one.reason,
        remedy,
    )


def _lines(row: tuple[str, ...]) -> tuple[str, ...]:
    # Not a table: its columns would break topics, and the command that is to be copied.
    last, times, device, host, what, why, remedy = row
    often = "once" if times == "1" else f"{times} times"
    return f"{last}  {device or 'somebody'} from {host}, {often}: {what}", f"    {why}", f"    {remedy}"


def _short(topic: str) -> str:
    return topic if len(topic) <= _TOPIC_SHOWN else f"{topic[:_TOPIC_SHOWN]}…"


def _refused(settings: Settings) -> Sequence[RefusedClient]:
    from gateway.control.client import NotAnswered, NotRunning, ask
    from gateway.store import RefusedClient

    try:
        return [RefusedClient(**item) for item in ask(settings.gateway_data_dir, "refused")]  # type: ignore[arg-type]
    except NotRunning as error:
        remark(f"{error}: this is what was saved")
    except (NotAnswered, TypeError) as error:
        remark(f"{error}; this is what was saved, some seconds ago")
    return asyncio.run(_saved(settings))


async def _saved(settings: Settings) -> Sequence[RefusedClient]:
    async with store_of(settings) as store:
        return await store.refused_clients.read()


def _json_object(one: RefusedClient, remedy: str) -> dict[str, object]:
    return {
        **asdict(one),
        "first_at": json_time(one.first_at),
        "last_at": json_time(one.last_at),
        "remedy": remedy or None,
    }
