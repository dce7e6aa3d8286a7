"""`gateway-admin keys`: what payloads are sealed and tokens are signed with.

Works on the key files, which a running gateway follows. No key is ever shown.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from gateway.cli.key_sources import Kind, keys_of, path_of, remark, tell, uses_of
from gateway.cli.output import Failure, Json, answering, json_time, wrong_usage
from gateway.cli.sources import Config, settings_of
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.keys.key_ring import Key

app = typer.Typer(no_args_is_help=True, help="Keys: list, rotate, re-seal, destroy, back up.")


@dataclass(frozen=True, slots=True)
class _Row:
    kind: Kind
    key: Key
    uses: int | None


@app.command("list")
def list_keys(as_json: Json = False, config: Config = None) -> None:
    """List the keys: a table on a terminal, else a line each with tabs between the columns.

    Of a sealing key it says how many messages it has sealed, of a retired signing key until when the
    tokens it signed are good. Keys themselves are never shown.
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        uses = asyncio.run(uses_of(settings))
        rows = [_Row(Kind.SEALING, key, uses.get(key.key_id, 0)) for key in keys_of(settings, Kind.SEALING)]
        if settings.jwt_secret is None:
            rows += [_Row(Kind.SIGNING, key, None) for key in keys_of(settings, Kind.SIGNING)]
        else:
            remark("tokens are signed with JWT_SECRET, and not with keys of a file")
        answer.give({"keys": [_shown(row) for row in rows]}, *_table(rows))


@app.command()
def rotate(
    kind: Annotated[Kind, typer.Argument(metavar="sealing|signing", help="Which keys.")] = Kind.SEALING,
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
        from gateway.keys.key_files import rotate_sealing, rotate_signing

        settings = settings_of(config)
        lost = (
            kind is Kind.SIGNING and settings.database_path.exists() and not path_of(settings, kind).exists()
        )
        before = None if lost else _active(keys_of(settings, kind))
        if kind is Kind.SEALING:
            key = rotate_sealing(settings.encryption_key_path, settings.encryption_key)
            then = f"{before} only opens what it has sealed"
        else:
            key = rotate_signing(settings.signing_key_path, settings.encryption_key, settings.jwt_ttl)
            then = f"{before} signs nothing more, and what it has signed is good until it expires"
        if before is None:
            then = "there was none, and tokens that were signed before are refused"
        tell(settings, f"{kind} key {key.key_id} made, {before or 'none'} retired")
        answer.give(
            {"kind": kind.value, "key_id": key.key_id, "retired": before},
            f"New {kind} key {key.key_id}: {then}.",
        )


@app.command()
def destroy(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", show_default=False, help="As in `keys list`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
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
        from gateway.keys.key_files import destroy as destroy_key
        from gateway.keys.key_ring import KeyState

        settings = settings_of(config)
        kind = Kind.SIGNING if key_id.startswith("s") else Kind.SEALING
        keys = keys_of(settings, kind)
        state = next((key.state for key in keys if key.key_id == key_id), None)
        if state is None:
            there = ", ".join(key.key_id for key in keys)
            raise Failure(f"there is no key {key_id!r}; the {kind} keys are: {there}")
        if state is KeyState.ACTIVE:
            raise Failure(f"{key_id} is in use: first `gateway-admin keys rotate {kind}`")
        if state is not KeyState.DESTROYED:
            if not yes:
                _ask(_question(settings, kind, key_id), f"{key_id} was not destroyed")
            destroy_key(path_of(settings, kind), settings.encryption_key, key_id)
            tell(settings, f"{kind} key {key_id} destroyed")
        answer.give(
            {"key_id": key_id, "kind": kind.value, "destroyed": True},
            f"{kind.capitalize()} key {key_id} is destroyed. Backups may hold it still: destroy those too.",
        )


def _question(settings: Settings, kind: Kind, key_id: str) -> str:
    if kind is Kind.SIGNING:
        return f"Destroy signing key {key_id}? The tokens that it signed are refused at once."
    uses = asyncio.run(uses_of(settings)).get(key_id, 0)
    return f"Destroy sealing key {key_id}? The {uses:,} messages that it sealed never open again."


def _ask(question: str, otherwise: str) -> None:
    if not sys.stdin.isatty():
        raise wrong_usage("there is no terminal to ask on: say --yes")
    if not typer.confirm(question, err=True):
        raise Failure(otherwise)


def _active(keys: Sequence[Key]) -> str:
    from gateway.keys.key_ring import KeyState

    return next(key.key_id for key in keys if key.state is KeyState.ACTIVE)


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


def _table(rows: Sequence[_Row]) -> list[Table | str]:
    columns = [
        (
            row.key.key_id,
            row.kind.value,
            row.key.state.value,
            utc_text(row.key.created_at),
            "-" if row.uses is None else str(row.uses),
            "-" if row.key.until is None else utc_text(row.key.until),
        )
        for row in rows
    ]
    if not sys.stdout.isatty():
        return ["\t".join(row) for row in columns]
    table = Table("key", "kind", "state", "created", "uses", "until", box=None, pad_edge=False)
    for key_id, kind, state, *rest in columns:
        colour = {"active": "green", "destroyed": "red"}.get(state, "yellow")
        table.add_row(key_id, kind, Text(state, colour), *rest)
    return [table]
