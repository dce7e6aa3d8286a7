"""`gateway-admin acl`: what the files of `acl/` say, whether they hold, and why a device may or may not."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.output import Failure, Json, answering, wrong_usage
from gateway.cli.sources import Config, device_of, policy_of, settings_of
from gateway.core.identity import Identity
from gateway.core.rules import Action, Rule

if TYPE_CHECKING:
    from gateway.policy.cases import CaseResult
    from gateway.policy.why import Explanation

app = typer.Typer(no_args_is_help=True, help="Policy: what the roles in acl/ allow, and why.")


@app.command()
def check(as_json: Json = False, config: Config = None) -> None:
    """Read all files of the policy and list every problem with file and line.

    Exit code 1: there is a problem. A gateway would not start with it; a running one keeps the policy
    it has.
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        policy = policy_of(settings)
        rules = sum(len(role.rules) for role in policy.roles.values())
        sensitive = len(policy.sensitive_filters)
        answer.give(
            {"roles": sorted(policy.roles), "rules": rules, "sensitive": sensitive, "digest": policy.digest},
            f"{settings.acl_path}: no problem.",
            f"roles {', '.join(sorted(policy.roles))}; {rules} rules; {sensitive} sensitive topics",
            f"digest {policy.digest}",
        )


@app.command("test")
def run_all_cases(as_json: Json = False, config: Config = None) -> None:
    """Ask the policy every case of acl/cases.toml.

    Exit code 1: a case fails (each is named with file, line and the deciding rule), or there is none.
    """
    with answering(as_json=as_json) as answer:
        from gateway.policy.cases import load_cases, run_cases

        settings = settings_of(config)
        policy = policy_of(settings)
        results = run_cases(policy, load_cases(settings.acl_path, policy))
        if not results:
            raise Failure(f"there is no case in {settings.acl_path / 'cases.toml'}, so nothing was tested")
        failed = [result for result in results if not result.passed]
        answer.give(
            {"cases": len(results), "failed": [_case(result) for result in failed]},
            *(str(result) for result in failed),
            f"{len(results) - len(failed)} of {len(results)} cases hold.",
        )
        if failed:
            raise typer.Exit(1)


@app.command()
def why(
    device_id: Annotated[str, typer.Argument(metavar="DEVICE", show_default=False, help="A device's id.")],
    action: Annotated[
        Action,
        typer.Argument(metavar="ACTION", show_default=False, help="publish, subscribe, encrypt, decrypt."),
    ],
    topic: Annotated[
        str, typer.Argument(metavar="TOPIC", show_default=False, help="A topic; to subscribe, a filter.")
    ],
    *,
    client: Annotated[
        str | None,
        typer.Option("--client", metavar="ID", help="Its client id, for {client}; else the device's id."),
    ] = None,
    qos: Annotated[int, typer.Option("--qos", min=0, max=2, help="QoS of the message it publishes.")] = 0,
    retain: Annotated[bool, typer.Option("--retain", help="The message it publishes is retained.")] = False,
    size: Annotated[
        int, typer.Option("--size", min=0, help="Bytes of payload of the message it publishes.")
    ] = 0,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Say whether a device may do something, and which rule says so.

    Names the rule with file and line; for a refusal the nearest rule and what would have to change.
    Exit code 0: allowed. 1: refused (that is an answer, not an error), or there is no such device.

    For example:

        gateway-admin acl why lamp-1 publish devices/lamp-1/state --qos 1 --retain

        gateway-admin acl why lamp-1 subscribe 'devices/+/state'
    """
    with answering(as_json=as_json) as answer:
        if action is not Action.PUBLISH and (qos or retain or size):
            raise wrong_usage("--qos, --retain and --size tell of a published message, and of nothing else")
        from gateway.policy.why import explain

        settings = settings_of(config)
        policy = policy_of(settings)
        device = asyncio.run(device_of(settings, device_id))
        identity = Identity(device.device_id, device.roles, device.labels, client or device.device_id)
        found = explain(policy, identity, action, topic)
        if action is Action.PUBLISH:
            found = _with_message(found, qos, size, retain=retain)
        allowed = found.decision.allowed and device.enabled
        text = found.text.split("\n")
        if not device.enabled:
            text = [
                f"denied: device {device_id} is disabled, so that it can't connect",
                "the policy says:",
                *text,
            ]
        answer.give({"allowed": allowed, "enabled": device.enabled, **_explained(found)}, *text)
        if not allowed:
            raise typer.Exit(1)


def _with_message(found: Explanation, qos: int, size: int, *, retain: bool) -> Explanation:
    decision = found.decision.with_message(qos, retain, size)
    if decision.allowed == found.decision.allowed:
        return found
    where = _place(decision.rule)
    return dataclasses.replace(found, decision=decision, change=f"lift that condition of {where}.")


def _explained(found: Explanation) -> dict[str, object]:
    return {
        "device_id": found.identity.device_id,
        "action": found.action.value,
        "topic": found.topic,
        "reason": found.decision.reason,
        "rule": _place(found.decision.rule),
        "nearest": _place(found.nearest),
        "change": found.change or None,
    }


def _case(result: CaseResult) -> dict[str, object]:
    case = result.case
    return {
        "case": f"{case.file}:{case.line}",
        "device_id": case.identity.device_id,
        "action": case.action.value,
        "topic": case.topic,
        "expected": "allow" if case.expected else "deny",
        "got": "allow" if result.decision.allowed else "deny",
        "reason": result.decision.reason,
        "rule": _place(result.decision.rule),
    }


def _place(rule: Rule | None) -> str | None:
    return None if rule is None else f"{Path(rule.file)}:{rule.line}"
