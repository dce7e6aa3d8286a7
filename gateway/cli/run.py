"""The command `gateway`: start it, or say why it would not start."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from gateway.cli.leading_options import after_the_verb
from gateway.cli.output import Failure, Json, answering
from gateway.cli.settings_policy_store import Config, policy_of, store_of
from gateway.cli.typer_app import Group, program
from gateway.cli.typer_app import run as run_program
from gateway.observe.terminal_escaping import printable

if TYPE_CHECKING:
    from gateway.config import Settings


def run(config: Config = None) -> None:
    """Start the gateway and serve until SIGINT or SIGTERM.

    The first start makes what is missing (certificates, store, keys), as `gateway-admin init` does.

    For example:

        MQTT_BROKER=localhost gateway run --config /etc/gateway.toml
    """
    with answering(as_json=False):
        from gateway.config import read_settings

        settings, warnings = read_settings(config)
        from gateway.app.gateway_process import run as serve

        raise typer.Exit(serve(settings, warnings))


def check(as_json: Json = False, config: Config = None) -> None:
    """List everything that keeps the gateway from starting: settings, files, policy, store, keys, alerts.

    Too few open files for acl/limits.toml, devices above its limits and names of no setting are warnings:
    they keep nothing from starting.

    Starts nothing, and does not try the bus. What the first start would make may be missing; a store of an
    older version is brought up to date.
    """
    with answering(as_json=as_json) as answer:
        from gateway.config import ConfigError, read_settings

        problems: list[str] = []
        warnings: list[str] = []
        settings: Settings | None
        try:
            settings, warnings = read_settings(config)
        except ConfigError as error:
            problems, settings, warnings = list(error.problems), error.sound, error.warnings
        if settings is not None:
            problems += asyncio.run(_problems(settings))
            warnings = [*warnings, *([] if problems else asyncio.run(_warnings(settings)))]
        faults: list[str] = []
        if settings is not None:
            faults, ending = _validity(settings)
            warnings = [*warnings, *ending]
        for warning in warnings:
            print(f"warning: {printable(warning)}", file=sys.stderr)
        if problems:
            raise Failure("the gateway would not start", [*problems, *faults])
        if faults:
            raise Failure("the gateway would start, but not serve every device", faults)
        said = ["No problem found: the gateway would start."]
        if settings is not None and settings.mqtt_broker is not None:
            said.append("The bus was not tried: `gateway-admin status` tells of it once the gateway runs.")
        answer.give({"problems": [], "warnings": warnings}, *said)


async def _warnings(settings: Settings) -> list[str]:
    """Warnings about what does not keep it from starting. Call it if there are no problems."""
    from gateway.app.file_descriptors import allowed, shortage
    from gateway.app.savers.bus_holdings import above

    policy = policy_of(settings)
    limits = policy.limits
    warnings = [short] if (short := shortage(limits, allowed())) else []
    if limits.connections_per_device >= limits.connections:
        warnings.append(
            f"connections_per_device = {limits.connections_per_device} in acl/limits.toml lets one device "
            f"take all {limits.connections} connections; lower it"
        )
    if settings.database_path.exists():
        async with store_of(settings) as store:
            roles = {device.device_id: device.roles for device in await store.devices.read()}
            held = await store.holdings.read()
        warnings += above(lambda device_id: policy.limits_of(roles.get(device_id, ())), held)
    return warnings


async def _problems(settings: Settings) -> list[str]:
    from gateway.app.startup_preparation import key_problems, missing_bus, monitoring_problems
    from gateway.config.file_checks import file_problems

    return [
        *missing_bus(settings),
        *file_problems(settings),
        *_policy_problems(settings),
        *key_problems(settings),
        *monitoring_problems(settings),
        *await _store_problems(settings),
    ]


def _validity(settings: Settings) -> tuple[list[str], list[str]]:
    """What is wrong with certificates that are not valid now, and which are to be renewed."""
    from gateway.app.certificate_dates import certificates_of
    from gateway.pki.certificate_validity import faults_and_warnings

    return faults_and_warnings(certificates_of(settings), datetime.now(UTC).timestamp())


def _policy_problems(settings: Settings) -> Iterator[str]:
    from gateway.policy.files.loader import PolicyError

    if not os.access(settings.acl_path, os.R_OK | os.X_OK) or not settings.acl_path.is_dir():
        return  # listed with the files
    try:
        policy_of(settings)
    except PolicyError as error:
        yield from error.problems


async def _store_problems(settings: Settings) -> list[str]:
    from gateway.app.startup_preparation import lost_keys
    from gateway.store import StoreError

    if not os.access(settings.database_path, os.R_OK | os.W_OK):
        return []  # it is to be made, or listed with the files
    try:
        async with store_of(settings) as store:
            return await lost_keys(settings, store)
    except StoreError as error:
        return [str(error)]


_COMMANDS = Group(
    "The MQTT security gateway.\n\n"
    "Exit codes: 0 done, 1 it can't start or the check found a problem, 2 wrong usage, or a start "
    "without a bus.",
    {"run": run, "check": check},
)
app = program("gateway", _COMMANDS)


def main() -> None:
    """Entry point."""
    sys.argv[1:] = after_the_verb(sys.argv[1:], _COMMANDS)
    run_program(app)
