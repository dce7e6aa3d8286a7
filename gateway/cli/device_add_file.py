"""`gateway-admin device add --file`: many devices of a file, and where their secrets go."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.output import Answer, Failure, wrong_usage
from gateway.cli.progress_bars import progress_bars
from gateway.cli.settings_policy_store import actor, policy_of, store_of
from gateway.system.file_errors import why

if TYPE_CHECKING:
    from gateway.admin.bulk_devices import Wanted
    from gateway.config import Settings

DevicesFile = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="FILE", show_default=False, help="Many devices: .csv or .json.", readable=False
    ),
]
SecretsFile = Annotated[
    Path | None,
    typer.Option(
        "--secrets",
        metavar="FILE",
        show_default=False,
        help="With --file: a new file, .csv or .json, that only you may read, for the secrets that are made.",
        readable=False,
    ),
]
_KINDS = {".csv", ".json"}


def add_file(answer: Answer, settings: Settings, file: Path, secrets: Path | None) -> None:
    """Add the devices of a file, all of them or none, and hand out their secrets, once.

    The secrets are on the disk before any device is in the store: if this is killed at any moment, it leaves
    no device whose secret nobody has.
    """
    from gateway.admin.bulk_devices import read_devices
    from gateway.system.atomic_files import locked, write_new

    for one, option in ((file, "--file"), (secrets, "--secrets")):
        if one is not None and one.suffix not in _KINDS:
            raise wrong_usage(f"{option} {one} ends in neither .csv nor .json, which says what it is")
    if secrets is not None and secrets.exists():
        raise Failure(f"{secrets} exists already: name a new file")
    wanted = read_devices(_content(file), str(file), policy_of(settings).roles.keys())

    def keep(made: Mapping[str, str]) -> None:
        if secrets is not None:
            with locked(secrets.absolute().parent):
                write_new(secrets.absolute(), _written(secrets, made).encode(), mode=0o600)

    try:
        made = asyncio.run(_add(settings, wanted, keep))
    except BaseException:
        if secrets is not None:
            secrets.unlink(missing_ok=True)  # no device has them
        raise
    shown = {} if secrets is not None else made
    value = {
        "added": [one.device_id for one in wanted],
        "secrets": shown,
        "secrets_file": None if secrets is None else str(secrets),
    }
    count = len(wanted)
    head = "one device added." if count == 1 else f"{count} devices added."
    lines = [f"{device_id}\t{secret}" for device_id, secret in shown.items()]
    if secrets is not None:
        lines.append(
            f"Their secrets are in {secrets}, which only you may read: hand them out, then remove it."
        )
    elif made:
        lines.append("The secrets are shown only now; the store keeps Argon2id hashes of them.")
    answer.give(value, head, *lines)


async def _add(
    settings: Settings, wanted: list[Wanted], keep: Callable[[Mapping[str, str]], None]
) -> dict[str, str]:
    from gateway.admin import devices
    from gateway.admin.bulk_devices import hash_all
    from gateway.admin.errors import Refused

    async with store_of(settings) as store:
        there = {one.device_id for one in await store.devices.read()}
        if problems := [
            f"{one.location}: device {one.device_id} exists already"
            for one in wanted
            if one.device_id in there
        ]:
            raise Refused("nothing was added", problems)
        with progress_bars() as bars:
            bar = bars.add_task("hashing secrets", total=len(wanted))
            made, secrets = hash_all(wanted, lambda done: bars.update(bar, completed=done))
        keep(secrets)
        await devices.add_all(store, made, actor=actor())
    return secrets


def _content(file: Path) -> bytes:
    from gateway.admin.bulk_devices import BYTES_MAX

    try:
        with file.open("rb") as source:
            raw = source.read(BYTES_MAX + 1)
    except OSError as error:
        raise Failure(f"{file} can't be read: {why(file, error)}") from None
    if len(raw) > BYTES_MAX:
        raise Failure(f"{file} is longer than {BYTES_MAX:,} bytes: add fewer devices at once")
    return raw


def _written(file: Path, made: Mapping[str, str]) -> str:
    if file.suffix == ".json":
        rows = [{"device_id": device_id, "secret": secret} for device_id, secret in made.items()]
        return json.dumps({"secrets": rows}, indent=2) + "\n"
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([("device_id", "secret"), *made.items()])
    return out.getvalue()
