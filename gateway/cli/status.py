"""`gateway-admin status`: is the gateway running, would it serve a device now, and with which policy."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.durations import seconds_of
from gateway.cli.output import Answer, Failure, Json, answering, wrong_usage
from gateway.cli.settings_policy_store import Config, all_devices, policy_of, settings_of
from gateway.cli.status_refused import give_refused
from gateway.cli.tables import first_of
from gateway.system.folder_identity import folder_identity

if TYPE_CHECKING:
    from gateway.config import Address, Settings
    from gateway.policy.engine.identity import Device
    from gateway.policy.engine.policy import Policy

_DAY = 86_400
_DEADLINE = 5.0
_LONGEST_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer: there may be 200 checks of other services, with a topic in the message of each."""
_DEVICES_SHOWN_MAX = 3
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask when it listens everywhere


_History = Annotated[
    bool, typer.Option("--history", help="Show what was measured, as small curves, from the store.")
]
_Refused = Annotated[
    bool, typer.Option("--refused", help="Show who was refused in the last three days, and what to do.")
]
_Last = Annotated[
    str, typer.Option("--last", metavar="TIME", help="With --history: how far back, 24h at most.")
]
_Metric = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", metavar="NAME", help="With --history: this metric, each of its series; may be repeated."
    ),
]


def status(
    *,
    refused: _Refused = False,
    history: _History = False,
    last: _Last = "24h",
    metric: _Metric = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Ask the running gateway how it is, and look at the store and the policy it works with.

    With --refused: the refusals of the last three days, those that are alike in one line, however many topics
    they were of. When, how often, which device (or which it said to be), from where, what (with the topic of
    the last one) and why; what to do. `audit tail` has the topics one by one, but for those of a flood.

    With --history what was measured: each minute of the last 24 hours, and each ten seconds of the last one.
    It is in the store, so a gateway that is stopped has it, too.

    Exit code 1: no gateway answers at GATEWAY_HEALTH_BIND, or one that works with a different data folder
    from this one, or it is not ready to serve devices; with --history, nothing was measured.
    """
    with answering(as_json=as_json) as answer:
        if history:
            _show_history(answer, config, last, metric or [])
            return
        if metric or last != "24h":
            raise wrong_usage("--last and --metric go with --history")
        settings = settings_of(config)
        if refused:
            give_refused(answer, settings)
            return
        health = _ask(settings.gateway_health_bind[0])
        if health.running and health.folder not in {"", folder_identity(settings.gateway_data_dir)}:
            health = _of_others(settings)
        devices, digest, problems = asyncio.run(_sources(settings))
        problems += _another_policy(health.checks, digest, settings)
        state = "ready" if health.ready else "not ready" if health.running else "not running"
        answer.give(
            {
                "running": health.running,
                "ready": health.ready,
                "detail": health.detail,
                "checks": health.checks,
                "devices": devices,
                "policy": digest,
                "problems": problems,
            },
            f"gateway  {state} ({health.detail})",
            *(
                f"  {_result(check)} {name}: {check.get('detail', '')}"
                for name, check in health.checks.items()
            ),
            f"devices  {'unknown' if devices is None else devices}",
            f"policy   {digest or 'unknown'}",
            *(f"problem  {problem}" for problem in problems),
        )
        if not health.ready:
            raise typer.Exit(1)


def _show_history(answer: Answer, config: Path | None, last: str, names: Sequence[str]) -> None:
    from gateway.cli.status_history import answer as of
    from gateway.cli.status_history import history_of

    seconds = seconds_of("--last", last, such_as="6h")
    if seconds > _DAY:
        raise wrong_usage(f"--last {last}: 24 hours are kept")
    found = asyncio.run(history_of(settings_of(config)))
    value, lines = of(found, seconds, names)
    answer.give(value, *lines)


def _result(check: Mapping[str, object]) -> str:
    if check.get("ok") is not True:
        return "FAILED"
    return "WARN  " if str(check.get("detail", "")).startswith("warning: ") else "ok    "


@dataclass(frozen=True, slots=True)
class _Health:
    running: bool
    ready: bool
    detail: str
    checks: Mapping[str, Mapping[str, object]]
    folder: str = ""
    """The identity of its data folder (`folder_identity`)."""


def _of_others(settings: Settings) -> _Health:
    bind = settings.gateway_health_bind[0]
    detail = (
        f"the gateway that answers at http://{bind} works with a different data folder "
        f"from {settings.gateway_data_dir.absolute()}: call this in its folder and with its settings "
        "(--config FILE, GATEWAY_DATA_DIR)"
    )
    return _Health(running=False, ready=False, detail=detail, checks={})


def _ask(bind: Address) -> _Health:
    import http.client  # takes longer to import than the rest of this module, for this command alone

    where = f"http://{bind}"
    connection = http.client.HTTPConnection(
        _EVERYWHERE.get(bind.host, bind.host), bind.port, timeout=_DEADLINE
    )
    try:
        connection.request("GET", "/ready")
        body = json.loads(connection.getresponse().read(_LONGEST_ANSWER))
        checks = {name: dict(check) for name, check in body["checks"].items()}
        folder = str(body.get("folder", ""))
        return _Health(running=True, ready=body["ready"] is True, detail=where, checks=checks, folder=folder)
    except OSError as error:
        detail = f"no answer at {where}: {error.strerror or error}"
        return _Health(running=False, ready=False, detail=detail, checks={})
    except (http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
        detail = f"what answers at {where} is not a gateway; is GATEWAY_HEALTH_BIND right?"
        return _Health(running=False, ready=False, detail=detail, checks={})
    finally:
        connection.close()


async def _sources(settings: Settings) -> tuple[int | None, str | None, list[str]]:
    """The number of devices and the policy's digest as they are on disk now, and what is wrong with both."""
    from gateway.policy.files.loader import PolicyError
    from gateway.store import StoreError

    problems: list[str] = []
    devices: Sequence[Device] | None = None
    policy: Policy | None = None
    try:
        devices = await all_devices(settings)
    except (Failure, StoreError) as error:
        problems.append(str(error))
    try:
        policy = policy_of(settings)
    except PolicyError as error:
        problems += error.problems
    if policy is not None and devices is not None:
        problems += _roles_without_file(devices, policy, settings)
    return None if devices is None else len(devices), policy.digest if policy else None, problems


def _another_policy(
    checks: Mapping[str, Mapping[str, object]], digest: str | None, settings: Settings
) -> Iterator[str]:
    check = checks.get("policy", {})
    in_force = str(check.get("detail", ""))
    if digest is not None and check.get("ok") is True and not digest.startswith(in_force):
        yield (
            f"the running gateway has policy {in_force}, and the files in {settings.acl_path} are "
            f"{digest[:12]}: if it was started with other settings (ACL_PATH), restart it; an edit is taken "
            "up within two seconds"
        )


def _roles_without_file(devices: Sequence[Device], policy: Policy, settings: Settings) -> list[str]:
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for device in devices:
        for role in policy.missing(device.roles):
            holders[role].append(device.device_id)
    folder = settings.acl_path / "roles"
    return [
        f"{folder / role}.toml is missing, a role of {first_of(ids, _DEVICES_SHOWN_MAX)}, who may do "
        "nothing: write it, or give other roles (gateway-admin device set ID --role ROLE), or gateway-admin "
        "device remove ID"
        for role, ids in sorted(holders.items())
    ]
