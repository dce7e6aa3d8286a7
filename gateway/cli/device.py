"""`gateway-admin device`: who may connect. A running gateway follows within a second, through the store.

Secrets are printed once or read from stdin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.admin.devices import check_names, check_roles, state
from gateway.cli import who_is_here
from gateway.cli.device_text import as_json_object, label_text, lines, rows
from gateway.cli.durations import seconds_of
from gateway.cli.output import Answer, Json, answering, remark, wrong_usage
from gateway.cli.settings_policy_store import (
    Config,
    DeviceId,
    actor,
    all_devices,
    device_of,
    policy_of,
    settings_of,
    store_of,
)
from gateway.cli.stdin import Yes, demand_yes, read_secret
from gateway.observe.printable import printable
from gateway.policy.engine.identity import OBSERVE_MOST, Device

if TYPE_CHECKING:
    from gateway.config import Settings

SecretStdin = Annotated[
    bool,
    typer.Option("--secret-stdin", help="Read the secret from stdin, 12 characters at least."),
]


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
        labels = _labels(label or [])
        check_names(device_id, labels)
        settings = settings_of(config)
        roles = _known_roles(settings, role)
        given = read_secret() if secret_stdin else None
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
    from gateway.admin import device_secrets, devices

    async with store_of(settings) as store:
        secret, credential = device_secrets.hashed(given)
        device = await devices.add(
            store, device_id, credential=credential, roles=roles, labels=labels, actor=actor()
        )
    _give_secret(answer, device, secret, "added", show=given is None)


def list_devices(
    role: Annotated[
        str | None, typer.Option("--role", metavar="ROLE", help="Only devices that have this role.")
    ] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Only disabled devices.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List the devices: a table on a terminal, else a line each with tabs between the columns.

    The running gateway says which are connected, and since when; without one nobody is.

    Exit code 1: no device has this role, and there is none of this name in the policy.

    For example:

        gateway-admin device list --role sensor

        gateway-admin device list --disabled --json
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        there = asyncio.run(all_devices(settings))
        if role is not None and not any(role in device.roles for device in there):
            _known_roles(settings, [role])
        devices = [
            device
            for device in there
            if (role is None or role in device.roles) and not (disabled and device.enabled)
        ]
        here = _here(settings)
        answer.give({"devices": [as_json_object(device, here) for device in devices]}, *rows(devices, here))


def _here(settings: Settings) -> who_is_here.Here:
    here = who_is_here.who_is_here(settings.gateway_data_dir)
    if here.running and here.unknown:
        remark(f"who is connected is not known: {here.unknown}")
    return here


def show(device_id: DeviceId, as_json: Json = False, config: Config = None) -> None:
    """Show one device, and its connections; never its secret, which only its owner has.

    Of each connection: since when, from where, the version of MQTT, what it logged in with, and when the
    device last published a message. Exit code 1: there is no such device.
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        device = asyncio.run(device_of(settings, device_id))
        here = who_is_here.who_is_here(settings.gateway_data_dir, device_id)
        answer.give(as_json_object(device, here), *lines(device), *who_is_here.lines(here, device_id))


def disable(device_id: DeviceId, as_json: Json = False, config: Config = None) -> None:
    """Keep a device out: its connections end within a second and its logins are refused.

    Exit code 1: there is no such device.
    """
    with answering(as_json=as_json) as answer:
        asyncio.run(_set_enabled(answer, settings_of(config), device_id, enabled=False))


def enable(device_id: DeviceId, as_json: Json = False, config: Config = None) -> None:
    """Let a disabled device in again, with the secret it had.

    Exit code 1: there is no such device.
    """
    with answering(as_json=as_json) as answer:
        asyncio.run(_set_enabled(answer, settings_of(config), device_id, enabled=True))


async def _set_enabled(answer: Answer, settings: Settings, device_id: str, *, enabled: bool) -> None:
    from gateway.admin import devices

    act = devices.enable if enabled else devices.disable
    async with store_of(settings) as store:
        device = await act(store, device_id, actor=actor())
    answer.give(as_json_object(device), f"Device {device_id} is {state(device)}.")


def remove(
    device_id: DeviceId,
    yes: Yes = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Remove a device: its connections end within a second, and its tokens. There is no way back.

    Asks first on a terminal; a script has to say --yes. Exit code 1: there is no such device, or the answer
    was no.
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        if not yes:
            asyncio.run(device_of(settings, device_id))
            # Not in the loop: Ctrl-C would only be seen after the answer.
            question = f"Remove device {printable(device_id)}? Its secret and labels are lost."
            demand_yes(question, f"device {device_id} was not removed")
        asyncio.run(_remove(answer, settings, device_id))


async def _remove(answer: Answer, settings: Settings, device_id: str) -> None:
    from gateway.admin import devices

    async with store_of(settings) as store:
        await devices.remove(store, device_id, actor=actor())
    answer.give({"device_id": device_id, "removed": True}, f"Device {device_id} removed.")


def rotate(
    device_id: DeviceId,
    secret_stdin: SecretStdin = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Give a device a new secret and print it, once. Connections opened with the old one end.

    All its tokens are revoked: whoever had the secret may have asked for some. Exit code 1: there is no
    such device.
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        given = read_secret() if secret_stdin else None
        asyncio.run(_rotate(answer, settings, device_id, given))


async def _rotate(answer: Answer, settings: Settings, device_id: str, given: bytes | None) -> None:
    from gateway.admin import device_secrets, devices

    async with store_of(settings) as store:
        secret, credential = device_secrets.hashed(given)
        device = await devices.set_credential(store, device_id, credential, actor=actor())
    _give_secret(answer, device, secret, "has a new secret", show=given is None)


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
    from gateway.admin import devices

    if seconds > OBSERVE_MOST:
        raise wrong_usage(
            f"--for is {OBSERVE_MOST // 86_400}d at the most: observed, a device is nearly unbound"
        )
    async with store_of(settings) as store:
        device = await devices.observe(store, device_id, seconds, actor=actor())
    until = devices.observed(device) or "no longer observed"
    answer.give(as_json_object(device), f"Device {device_id} is {until}.")


def _known_roles(settings: Settings, wanted: Sequence[str]) -> list[str]:
    check_roles(policy_of(settings), wanted, settings.acl_path)
    return list(dict.fromkeys(wanted))


def _labels(given: Sequence[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise wrong_usage(f"--label {text!r} has no value: write --label name=value")
        if name in labels:
            raise wrong_usage(f"--label {name} is given twice")
        labels[name] = value
    return labels


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
        lines.append(f"  labels  {label_text(device)}")
    if show:
        lines += [
            f"  secret  {text}",
            "The secret is shown only now; the store keeps an Argon2id hash of it.",
        ]
    answer.give(value, *lines)
