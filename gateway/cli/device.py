"""`gateway-admin device`: who may connect. A running gateway follows within a second, through the store.

Secrets are printed once or read from stdin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.admin.devices import check_names, label_text, state
from gateway.cli import device_connections
from gateway.cli.device_add_file import DevicesFile, SecretsFile, add_file
from gateway.cli.device_text import as_json_object, lines, rows
from gateway.cli.device_values import (
    LabelsOf,
    MethodsOf,
    RolesOf,
    known_roles,
    labels_given,
    methods_given,
)
from gateway.cli.durations import seconds_of
from gateway.cli.output import Answer, Json, answering, json_time, remark, wrong_usage
from gateway.cli.settings_policy_store import (
    Config,
    DeviceId,
    actor,
    all_devices,
    device_of,
    settings_of,
    store_of,
)
from gateway.cli.stdin import Yes, demand_yes, read_secret
from gateway.observe.terminal_escaping import printable
from gateway.policy.engine.identity import OBSERVE_MAX, Device, Labels, written_labels
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from gateway.config import Settings

SecretStdin = Annotated[
    bool,
    typer.Option("--secret-stdin", help="Read the secret from stdin, 12 characters at least."),
]


def add(
    device_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", show_default=False, help="The device's id; none with --file."),
    ] = None,
    *,
    role: RolesOf = None,
    label: LabelsOf = None,
    methods: MethodsOf = None,
    secret_stdin: SecretStdin = False,
    file: DevicesFile = None,
    secrets: SecretsFile = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Add a device and print its secret, once; or with --file many devices, all of them or none.

    A file is CSV, its first line device_id,roles,labels,methods,secret (the last three may miss; several
    values have a semicolon between them), or JSON as `device export` writes it. Every problem in it is listed
    with its line, before anything is done. Secrets that are not in it are made, and written to --secrets or
    printed. Exit code 1: a device is there already, a role is unknown, or the file has problems. 2: the id or
    a label is not valid.

    For example:

        gateway-admin device add lamp-1 --role actuator --label room=kitchen

        pass show lamp-1 | gateway-admin device add lamp-1 --role actuator --secret-stdin

        gateway-admin device add --file devices.csv --secrets secrets.csv
    """
    with answering(as_json=as_json) as answer:
        if file is not None:
            if device_id is not None or role or label or methods or secret_stdin:
                raise wrong_usage(
                    "--file says all of each device: no ID, --role, --label, --methods or secret"
                )
            add_file(answer, settings_of(config), file, secrets)
            return
        if device_id is None or not role or secrets is not None:
            raise wrong_usage("give an ID and --role, or a --file (and with it --secrets, if you want)")
        labels = labels_given(label or [])
        check_names(device_id, labels)
        settings = settings_of(config)
        roles = known_roles(settings, role)
        given = read_secret() if secret_stdin else None
        ways = methods_given(methods)
        said = _add(answer, settings, device_id, roles=roles, labels=labels, methods=ways, given=given)
        asyncio.run(said)


async def _add(
    answer: Answer,
    settings: Settings,
    device_id: str,
    *,
    roles: Sequence[str],
    labels: Labels,
    methods: Sequence[str],
    given: bytes | None,
) -> None:
    from gateway.admin import devices, secret_rules

    async with store_of(settings) as store:
        secret, credential = secret_rules.hashed(given)
        device = await devices.add(
            store,
            device_id,
            credential=credential,
            roles=roles,
            labels=labels,
            methods=methods,
            actor=actor(),
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
            known_roles(settings, [role])
        devices = [
            device
            for device in there
            if (role is None or role in device.roles) and not (disabled and device.enabled)
        ]
        here = _here(settings)
        answer.give({"devices": [as_json_object(device, here) for device in devices]}, *rows(devices, here))


def _here(settings: Settings) -> device_connections.Here:
    here = device_connections.who_is_here(settings.gateway_data_dir)
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
        here = device_connections.who_is_here(settings.gateway_data_dir, device_id)
        answer.give(as_json_object(device, here), *lines(device), *device_connections.lines(here, device_id))


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
    *,
    overlap: Annotated[
        str | None,
        typer.Option(
            "--overlap",
            metavar="TIME",
            show_default=False,
            help="Until the new one was used, or so long, the old one is good too: 24h; 30d at the most.",
        ),
    ] = None,
    secret_stdin: SecretStdin = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Give a device a new secret and print it, once. Connections opened with the old one end.

    All its tokens are revoked: whoever had the secret may have asked for some. With --overlap both happens
    when the old secret ends: at the first login with the new one, or when the time is over. Exit code 1:
    there is no such device, or its secret is kept so that it can't have two.

    For example:

        gateway-admin device rotate lamp-1 --overlap 24h
    """
    with answering(as_json=as_json) as answer:
        seconds = 0 if overlap is None else seconds_of("--overlap", overlap)
        settings = settings_of(config)
        given = read_secret() if secret_stdin else None
        asyncio.run(_rotate(answer, settings, device_id, given, seconds))


async def _rotate(
    answer: Answer, settings: Settings, device_id: str, given: bytes | None, seconds: int
) -> None:
    from gateway.admin import devices, secret_rules
    from gateway.auth.dual_secrets import OVERLAP_SECONDS_MAX

    if seconds > OVERLAP_SECONDS_MAX:
        raise wrong_usage(
            f"--overlap is {OVERLAP_SECONDS_MAX // 86_400}d at the most: the old secret is to end"
        )
    async with store_of(settings) as store:
        what = "has a new secret"
        if seconds:
            secret = secret_rules.generated() if given is None else given
            device = await devices.set_next_secret(store, device_id, secret, seconds, actor=actor())
            what += f"; the old one is good until it was used, or {utc_text(device.overlap_until)}"
        else:
            secret, credential = secret_rules.hashed(given)
            device = await devices.set_credential(store, device_id, credential, actor=actor())
    _give_secret(answer, device, secret, what, show=given is None)


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
    that begin with $. Never more than that: no right to encrypt or decrypt, no limit lifted, nothing beyond
    the token it came with; with a will that is refused it connects, but without the will. Each topic is an
    audit event "observe", and `acl learn` proposes a marked rule for it, unless a deny refuses it. Exit code
    1: there is no such device.

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

    if seconds > OBSERVE_MAX:
        raise wrong_usage(
            f"--for is {OBSERVE_MAX // 86_400}d at the most: observed, a device is nearly unbound"
        )
    async with store_of(settings) as store:
        device = await devices.observe(store, device_id, seconds, actor=actor())
    until = devices.observed(device) or "no longer observed"
    answer.give(as_json_object(device), f"Device {device_id} is {until}.")


def _give_secret(answer: Answer, device: Device, secret: bytes, what: str, *, show: bool) -> None:
    try:
        text: str | None = secret.decode()
    except UnicodeDecodeError:
        text = None  # JSON has no bytes; whoever gave it by --secret-stdin has it
    value: dict[str, object] = {
        "device_id": device.device_id,
        "secret": text,
        "roles": list(device.roles),
        "labels": written_labels(device.labels),
    }
    if device.next_credential:
        value["old_secret_until"] = json_time(device.overlap_until)
    lines = [f"Device {device.device_id} {what}.", f"  roles   {', '.join(device.roles)}"]
    if device.labels:
        lines.append(f"  labels  {label_text(device.labels)}")
    if show:
        lines += [
            f"  secret  {text}",
            "The secret is shown only now; the store keeps an Argon2id hash of it.",
        ]
    answer.give(value, *lines)
