"""`gateway-admin device`: who may connect. A running gateway follows within a second, through the store.

Secrets are printed once or read from stdin, never taken from the command line, where any user of the
machine sees them.
"""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from gateway.cli.durations import seconds_of
from gateway.cli.output import Answer, Failure, Json, answering, json_time, wrong_usage
from gateway.cli.sources import (
    Config,
    device_of,
    no_such_role,
    note,
    observed,
    policy_of,
    settings_of,
    store_of,
)
from gateway.observe.printable import printable
from gateway.policy.engine.identity import Device, is_device_id, is_label
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from gateway.config import Settings

app = typer.Typer(no_args_is_help=True, help="Devices: who may connect, and in which roles.")

_SHORTEST_SECRET = 12  # characters
_LONGEST_SECRET = 65_535  # bytes: an MQTT password's length has two bytes

DeviceId = Annotated[str, typer.Argument(metavar="ID", show_default=False, help="The device's id.")]
SecretStdin = Annotated[
    bool,
    typer.Option("--secret-stdin", help="Read the secret from stdin, 12 characters at least."),
]


@app.command()
def add(
    device_id: DeviceId,
    *,
    role: Annotated[
        list[str], typer.Option("--role", metavar="ROLE", help="A role of acl/roles; may be repeated.")
    ],
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="A label for {label.NAME}; may be repeated."),
    ] = None,
    secret_stdin: SecretStdin = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Add a device and print its secret, once.

    Exit code 1: the device is there already, or a role is unknown. 2: the id or a label is not valid.

    For example:

        gateway-admin device add lamp-1 --role actuator --label room=kitchen

        pass show lamp-1 | gateway-admin device add lamp-1 --role actuator --secret-stdin
    """
    with answering(as_json=as_json) as answer:
        _check_id(device_id)
        labels = _labels(label or [])
        settings = settings_of(config)
        roles = _known_roles(settings, role)
        given = _read_secret() if secret_stdin else None
        asyncio.run(_add(answer, settings, device_id, roles, labels, given=given))


async def _add(
    answer: Answer,
    settings: Settings,
    device_id: str,
    roles: Sequence[str],
    labels: dict[str, str],
    *,
    given: bytes | None,
) -> None:
    async with store_of(settings) as store:
        secret, credential = _new_secret(given)
        device = await store.devices.add(device_id, credential=credential, roles=roles, labels=labels)
        await note(store, "device", f"added with the roles {', '.join(roles)}", device=device_id)
    _give_secret(answer, device, secret, "added", show=given is None)


@app.command("list")
def list_devices(
    role: Annotated[
        str | None, typer.Option("--role", metavar="ROLE", help="Only devices that have this role.")
    ] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Only disabled devices.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List the devices: a table on a terminal, else a line each with tabs between the columns.

    Exit code 1: no device has this role, and there is none of this name in the policy.

    For example:

        gateway-admin device list --role sensor

        gateway-admin device list --disabled --json
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        there = asyncio.run(_all(settings))
        if role is not None and not any(role in device.roles for device in there):
            _known_roles(settings, [role])
        devices = [
            device
            for device in there
            if (role is None or role in device.roles) and not (disabled and device.enabled)
        ]
        answer.give({"devices": [_shown(device) for device in devices]}, *_rows(devices))


async def _all(settings: Settings) -> list[Device]:
    async with store_of(settings) as store:
        return await store.devices.read()


@app.command()
def show(device_id: DeviceId, as_json: Json = False, config: Config = None) -> None:
    """Show one device; never its secret, which only its owner has.

    Exit code 1: there is no such device.
    """
    with answering(as_json=as_json) as answer:
        device = asyncio.run(device_of(settings_of(config), device_id))
        answer.give(_shown(device), *_lines(device))


@app.command()
def disable(device_id: DeviceId, as_json: Json = False, config: Config = None) -> None:
    """Keep a device out: its sessions end within a second and its logins are refused.

    Exit code 1: there is no such device.
    """
    with answering(as_json=as_json) as answer:
        asyncio.run(_set_enabled(answer, settings_of(config), device_id, enabled=False))


@app.command()
def enable(device_id: DeviceId, as_json: Json = False, config: Config = None) -> None:
    """Let a disabled device in again, with the secret it had.

    Exit code 1: there is no such device.
    """
    with answering(as_json=as_json) as answer:
        asyncio.run(_set_enabled(answer, settings_of(config), device_id, enabled=True))


async def _set_enabled(answer: Answer, settings: Settings, device_id: str, *, enabled: bool) -> None:
    async with store_of(settings) as store:
        device = await store.devices.set_enabled(device_id, enabled=enabled)
        await note(store, "device", _state(device), device=device_id)
    answer.give(_shown(device), f"Device {device_id} is {_state(device)}.")


@app.command()
def remove(
    device_id: DeviceId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Remove a device: its sessions end within a second, and its tokens. There is no way back.

    Asks first on a terminal; a script has to say --yes. Exit code 1: there is no such device, or the answer
    was no.
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        if not yes:
            asyncio.run(device_of(settings, device_id))
            if not sys.stdin.isatty():
                raise wrong_usage("there is no terminal to ask on: say --yes")
            # Not in the loop: Ctrl-C would only be seen after the answer.
            question = f"Remove device {printable(device_id)}? Its secret and labels are lost."
            if not typer.confirm(question, err=True):
                raise Failure(f"device {device_id} was not removed")
        asyncio.run(_remove(answer, settings, device_id))


async def _remove(answer: Answer, settings: Settings, device_id: str) -> None:
    async with store_of(settings) as store:
        await store.devices.remove(device_id)
        await note(store, "device", "removed", device=device_id)
    answer.give({"device_id": device_id, "removed": True}, f"Device {device_id} removed.")


@app.command()
def rotate(
    device_id: DeviceId,
    secret_stdin: SecretStdin = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Give a device a new secret and print it, once. Sessions opened with the old one end.

    All its tokens are revoked: whoever had the secret may have asked for some. Exit code 1: there is no
    such device.
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        given = _read_secret() if secret_stdin else None
        asyncio.run(_rotate(answer, settings, device_id, given))


async def _rotate(answer: Answer, settings: Settings, device_id: str, given: bytes | None) -> None:
    async with store_of(settings) as store:
        secret, credential = _new_secret(given)
        device = await store.devices.set_credential(device_id, credential)
        await note(store, "device", "given a new secret", device=device_id)
    _give_secret(answer, device, secret, "has a new secret", show=given is None)


@app.command()
def observe(
    device_id: DeviceId,
    *,
    time: Annotated[
        str | None, typer.Option("--for", metavar="TIME", show_default=False, help="30m, 2h; 7d at the most.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="End it now.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Let pass and report, for a time, what the rules refuse a device: to learn what it needs.

    It may publish and subscribe to all topics meanwhile, denies or not, but for the gateway's own and those
    that begin with $. Never more than that: no right to encrypt or decrypt, no will, no limit lifted, nothing
    beyond the token it came with. Each topic is an audit event "observe", and `acl learn` lists it as
    refused. Exit code 1: there is no such device.

    For example:

        gateway-admin device observe lamp-1 --for 2h
    """
    with answering(as_json=as_json) as answer:
        if (time is None) is not off:
            raise wrong_usage("say for how long, --for TIME, or --off")
        seconds = 0 if time is None else seconds_of("--for", time)
        asyncio.run(_observe(answer, settings_of(config), device_id, seconds))


async def _observe(answer: Answer, settings: Settings, device_id: str, seconds: int) -> None:
    from gateway.store import OBSERVE_MOST

    if seconds > OBSERVE_MOST:
        raise wrong_usage(
            f"--for is {OBSERVE_MOST // 86_400}d at the most: observed, a device is nearly unbound"
        )
    async with store_of(settings) as store:
        device = await store.devices.observe(device_id, seconds)
        until = f"observed until {utc_text(device.observe_until)}" if seconds else "no longer observed"
        await note(store, "device", until, device=device_id)
    answer.give(_shown(device), f"Device {device_id} is {until}.")


def _check_id(device_id: str) -> None:
    if not is_device_id(device_id):
        raise wrong_usage(
            f"{device_id!r} can't be a device id: letters, digits and . _ -, beginning with a letter or "
            "digit, 64 characters at most"
        )


def _known_roles(settings: Settings, wanted: Sequence[str]) -> list[str]:
    policy = policy_of(settings)
    if unknown := policy.missing(wanted):
        raise no_such_role(settings, policy, unknown)
    return list(dict.fromkeys(wanted))


def _labels(given: Sequence[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise wrong_usage(f"--label {text!r} has no value: write --label name=value")
        if name in labels:
            raise wrong_usage(f"--label {name} is given twice")
        if not is_label(name, value):
            raise wrong_usage(
                f"--label {text!r} can't be a label: the name has small letters, digits and _, 32 at most; "
                "the value is one topic level of 64 characters at most, without / + # $"
            )
        labels[name] = value
    return labels


def _new_secret(given: bytes | None) -> tuple[bytes, str]:
    """The secret, a new one if none was given, and its hash."""
    from gateway.auth.passwords import hash_secret
    from gateway.keys.secrets import generate_device_secret

    secret = generate_device_secret().reveal() if given is None else given
    return secret, hash_secret(secret)


def _read_secret() -> bytes:
    from gateway.auth.tokens import looks_like_token

    if sys.stdin.isatty():
        secret = getpass.getpass("Secret: ").encode()
    else:
        secret = sys.stdin.buffer.read(_LONGEST_SECRET + 3)
        secret = secret.removesuffix(b"\n").removesuffix(b"\r")
    if not secret:
        raise wrong_usage("the secret on stdin is empty")
    if len(secret.decode("utf-8", "replace")) < _SHORTEST_SECRET:
        raise wrong_usage(
            f"the secret on stdin has fewer than {_SHORTEST_SECRET} characters, which can be guessed: give a "
            "longer one, or none to have one made"
        )
    if len(secret) > _LONGEST_SECRET:
        raise wrong_usage(f"the secret on stdin is longer than the {_LONGEST_SECRET} bytes MQTT can carry")
    if looks_like_token(secret):
        raise wrong_usage(
            "the secret on stdin has the form of a token (eyJ….….…), and would be taken for one at login: "
            "give another secret"
        )
    return secret


def _give_secret(answer: Answer, device: Device, secret: bytes, what: str, *, show: bool) -> None:
    try:
        text: str | None = secret.decode()
    except UnicodeDecodeError:
        text = None  # JSON has no bytes; whoever gave it by --secret-stdin has it
    value = {
        "device_id": device.device_id,
        "secret": text,
        "roles": list(device.roles),
        "labels": dict(device.labels),
    }
    lines = [f"Device {device.device_id} {what}.", f"  roles   {', '.join(device.roles)}"]
    if device.labels:
        lines.append(f"  labels  {_label_text(device)}")
    if show:
        lines += [
            f"  secret  {text}",
            "The secret is shown only now; the store keeps an Argon2id hash of it.",
        ]
    answer.give(value, *lines)


def _shown(device: Device) -> dict[str, object]:
    from gateway.auth.passwords import is_imported

    return {
        "device_id": device.device_id,
        "enabled": device.enabled,
        "roles": list(device.roles),
        "labels": dict(device.labels),
        "imported_secret": is_imported(device.credential),
        "created_at": json_time(device.created_at),
        "updated_at": json_time(device.updated_at),
        "observed_until": json_time(device.observe_until) if observed(device) else None,
    }


def _lines(device: Device) -> list[str]:
    from gateway.auth.passwords import is_imported

    imported = "secret   Mosquitto's hash, as imported; its next login replaces it by Argon2id"
    return [
        f"device   {device.device_id}",
        f"state    {_state(device)}",
        f"roles    {', '.join(device.roles)}",
        f"labels   {_label_text(device)}",
        *([imported] if is_imported(device.credential) else []),
        f"created  {utc_text(device.created_at)}",
        f"changed  {utc_text(device.updated_at)}",
    ]


def _rows(devices: Sequence[Device]) -> list[Table | str]:
    rows = [
        (
            device.device_id,
            f"{_state(device)}",
            ", ".join(device.roles),
            _label_text(device),
        )
        for device in devices
    ]
    if not sys.stdout.isatty():
        return ["\t".join(row) for row in rows]
    if not rows:
        return ["No devices."]
    table = Table("device", "state", "roles", "labels", box=None, pad_edge=False)
    for device_id, state, roles, labels in rows:
        colour = {"enabled": "green", "disabled": "red"}.get(state, "yellow")
        # Text, not markup: a label may have brackets in it.
        table.add_row(device_id, Text(state, colour), printable(roles), Text(printable(labels)))
    return [table]


def _state(device: Device) -> str:
    state = "enabled" if device.enabled else "disabled"
    return f"{state}, {told}" if (told := observed(device)) else state


def _label_text(device: Device) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(device.labels.items()))
