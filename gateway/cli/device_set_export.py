"""`gateway-admin device set` and `device export`: one that exists is changed, all are written out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.device_text import as_json_object, lines
from gateway.cli.device_values import (
    LabelsOf,
    MethodsOf,
    RolesOf,
    known_roles,
    labels_given,
    methods_given,
)
from gateway.cli.output import Answer, Failure, Json, answering, wrong_usage
from gateway.cli.settings_policy_store import Config, actor, all_devices, settings_of, store_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.config import Settings
    from gateway.policy.engine.identity import Labels


def set_(
    device_id: Annotated[str, typer.Argument(metavar="ID", show_default=False, help="The device's id.")],
    *,
    role: RolesOf = None,
    label: LabelsOf = None,
    no_label: Annotated[
        list[str] | None,
        typer.Option("--no-label", metavar="NAME", help="Take this label away; may be repeated."),
    ] = None,
    methods: MethodsOf = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Give a device other roles, labels or methods; what is not named stays as it is.

    --role names all roles that it has from now on, --methods all methods. --label sets this label and leaves
    the others. Its secret, its tokens and its sessions stay: live connections have the device's new
    rights within a second, and those that logged in by a method that it has no more end. Exit code 1: there
    is no such device, role or label.

    For example, after `device observe` and `acl learn`:

        gateway-admin device set lamp-9 --role lamp

        gateway-admin device set satellite-1 --label room=kitchen --label room=hall

        gateway-admin device set lamp-9 --methods certificate
    """
    with answering(as_json=as_json) as answer:
        if not (role or label or no_label or methods):
            raise wrong_usage("say what to set: --role, --label, --no-label or --methods")
        labels = labels_given(label or [])
        without = list(dict.fromkeys(no_label or []))
        if both := [name for name in without if name in labels]:
            raise wrong_usage(f"--label {both[0]} and --no-label {both[0]} say opposite things")
        settings = settings_of(config)
        roles = known_roles(settings, role) if role else None
        ways = None if methods is None else methods_given(methods)
        said = _set(answer, settings, device_id, roles=roles, labels=labels, without=without, methods=ways)
        asyncio.run(said)


async def _set(
    answer: Answer,
    settings: Settings,
    device_id: str,
    *,
    roles: Sequence[str] | None,
    labels: Labels,
    without: Sequence[str],
    methods: Sequence[str] | None,
) -> None:
    from gateway.admin import devices

    async with store_of(settings) as store:
        device = await devices.change(
            store,
            device_id,
            roles=roles,
            labels=labels,
            without=without,
            methods=methods,
            actor=actor(),
        )
    answer.give(as_json_object(device), *lines(device))


def export(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="A new file, .csv or .json; else to stdout.",
            readable=False,
        ),
    ] = None,
    *,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV to stdout; without FILE it is JSON.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Write all devices with roles, labels, methods and whether they are enabled, for `device add --file`.

    No secret and no hash of one is in it: devices that are added by it get new secrets, unless you put theirs
    into the column or member "secret". Exit code 1: the file exists already.

    For example:

        gateway-admin device export devices.csv
    """
    with answering(as_json=as_json) as answer:
        from gateway.admin import bulk_devices
        from gateway.system.atomic_files import locked, write_new

        if file is not None and (as_csv or file.suffix not in {".csv", ".json"}):
            raise wrong_usage("FILE ends in .csv or .json, and that says what it is")
        devices = asyncio.run(all_devices(settings_of(config)))
        wants_csv = as_csv or (file is not None and file.suffix == ".csv")
        text = bulk_devices.as_csv(devices) if wants_csv else bulk_devices.as_json(devices)
        if file is None:
            typer.echo(text, nl=False)
            return
        if file.exists():
            raise Failure(f"{file} exists already: name a new file")
        with locked(file.absolute().parent):
            write_new(file.absolute(), text.encode(), mode=0o600)
        count = len(devices)
        answer.give(
            {"file": str(file), "devices": count}, f"{count} devices are in {file}, without their secrets."
        )
