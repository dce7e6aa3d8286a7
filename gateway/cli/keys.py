"""`gateway-admin keys`: what payloads are sealed and tokens are signed with.

Works on the key files, which a running gateway follows. No key is ever shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.output import Json, answering, json_time, remark
from gateway.cli.settings_policy_store import Config, actor, settings_of, store_if_any, store_of
from gateway.cli.stdin import Yes, demand_yes
from gateway.cli.tables import table
from gateway.keys.key_kinds import KeyKind
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from rich.table import Table

    from gateway.config import Settings
    from gateway.keys.key_ring import Key


@dataclass(frozen=True, slots=True)
class _Row:
    kind: KeyKind
    key: Key
    uses: int | None


def list_keys(as_json: Json = False, config: Config = None) -> None:
    """List the keys: a table on a terminal, else a line each with tabs between the columns.

    Of a sealing key it says how many messages it has sealed, of a retired signing key until when the
    tokens it signed are good. Keys themselves are never shown.
    """
    with answering(as_json=as_json) as answer:
        from gateway.admin.keys import keys_of

        settings = settings_of(config)
        uses = asyncio.run(_uses(settings))
        rows = [
            _Row(KeyKind.SEALING, key, uses.get(key.key_id, 0)) for key in keys_of(settings, KeyKind.SEALING)
        ]
        if settings.jwt_secret is None:
            rows += [_Row(KeyKind.SIGNING, key, None) for key in keys_of(settings, KeyKind.SIGNING)]
        else:
            remark("tokens are signed with JWT_SECRET, and not with keys of a file")
        answer.give({"keys": [_shown(row) for row in rows]}, *_rows(rows))


def rotate(
    kind: Annotated[KeyKind, typer.Argument(metavar="sealing|signing", help="Which keys.")] = KeyKind.SEALING,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Make a new key and use it from now on; a running gateway follows within a second.

    What the sealing key before it has sealed still opens; `keys rewrap` re-seals what the bus retains.
    What the signing key before it has signed is good until it expires. The gateway rotates both by itself
    every 90 days. A key that may have become known is rotated, and then destroyed.

    For example:

        gateway-admin keys rotate

        gateway-admin keys rotate signing
    """
    with answering(as_json=as_json) as answer:
        from gateway.admin import keys

        settings = settings_of(config)
        key, before = asyncio.run(keys.rotate(store_of(settings), settings, kind, actor=actor()))
        if before is None:
            then = "there was none, and tokens that were signed before are refused"
        elif kind is KeyKind.SEALING:
            then = f"{before} only opens what it has sealed"
        else:
            then = f"{before} signs nothing more, and what it has signed is good until it expires"
        answer.give(
            {"kind": kind.value, "key_id": key.key_id, "retired": before},
            f"New {kind} key {key.key_id}: {then}.",
        )


def destroy(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", show_default=False, help="As in `keys list`.")],
    yes: Yes = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Destroy a retired key. There is no way back.

    Nothing that it sealed opens again, by whomever: that is how recorded messages are made unreadable. So
    re-seal first what the bus retains (`keys rewrap`), and destroy the backups that hold the key too. Of a
    signing key: the tokens that it signed are refused at once, and so is what was renewed from them; what
    they opened ends. Asks first on a terminal; a script has to say --yes. Exit code 1: there is no such
    key, it is the active one, or the answer was no.

    For example:

        gateway-admin keys rotate && gateway-admin keys rewrap && gateway-admin keys destroy k1
    """
    with answering(as_json=as_json) as answer:
        from gateway.admin import keys
        from gateway.keys.key_ring import KeyState

        settings = settings_of(config)
        kind, state = keys.to_destroy(settings, key_id)
        if state is not KeyState.DESTROYED and not yes:
            demand_yes(_question(settings, kind, key_id), f"{key_id} was not destroyed")
        asyncio.run(keys.destroy(store_of(settings), settings, key_id, actor=actor()))
        answer.give(
            {"key_id": key_id, "kind": kind.value, "destroyed": True},
            f"{kind.capitalize()} key {key_id} is destroyed. Backups may hold it still: destroy those too.",
        )


def _question(settings: Settings, kind: KeyKind, key_id: str) -> str:
    if kind is KeyKind.SIGNING:
        return f"Destroy signing key {key_id}? The tokens that it signed are refused at once."
    uses = asyncio.run(_uses(settings)).get(key_id, 0)
    return f"Destroy sealing key {key_id}? The {uses:,} messages that it sealed never open again."


async def _uses(settings: Settings) -> Mapping[str, int]:
    """How many messages each sealing key has sealed; empty if there is no store."""
    async with store_if_any(settings) as store:
        return {} if store is None else await store.key_uses.read()


def _shown(row: _Row) -> dict[str, object]:
    key = row.key
    return {
        "key_id": key.key_id,
        "kind": row.kind.value,
        "state": key.state.value,
        "created_at": json_time(key.created_at),
        "uses": row.uses,
        "until": None if key.until is None else json_time(key.until),
    }


def _rows(rows: Sequence[_Row]) -> list[Table | str]:
    return table(
        ("key", "kind", "state", "created", "uses", "until"),
        [
            (
                row.key.key_id,
                row.kind.value,
                row.key.state.value,
                utc_text(row.key.created_at),
                "-" if row.uses is None else str(row.uses),
                "-" if row.key.until is None else utc_text(row.key.until),
            )
            for row in rows
        ],
        state=2,
        colour=lambda state: {"active": "green", "destroyed": "red"}.get(state, "yellow"),
    )
