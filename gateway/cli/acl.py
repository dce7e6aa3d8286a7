"""`gateway-admin acl`: what the files of `acl/` say, whether they hold, and why a device may or may not."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.admin.devices import label_text, observed
from gateway.cli.device_limit_lines import limit_lines, limits_value, reached_limit_lines
from gateway.cli.output import Answer, Failure, Json, answering, json_time, wrong_usage
from gateway.cli.refusal_lookup import PASSES_NOW, logged_refusal, refusal_of
from gateway.cli.rule_locations import location_if_any
from gateway.cli.settings_policy_store import Config, device_of, devices_if_any, policy_of, settings_of
from gateway.policy.engine.identity import Device, Identity, written_labels
from gateway.policy.engine.rules import Action

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.policy.analysis.decision_explanation import Explanation
    from gateway.policy.analysis.effective_rights import Right
    from gateway.policy.engine.policy import Policy
    from gateway.policy.files.policy_tests import CaseResult
    from gateway.store import StoredRefusal


Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="FOLDER", show_default=False, help="A policy's folder; that of ACL_PATH.", readable=False
    ),
]


def check(folder: Folder = None, as_json: Json = False, config: Config = None) -> None:
    """Read all files of the policy and list every problem with file and line.

    Warns of rules that can never match: below the gateway's own topics, with a label that no device has,
    longer than limits.toml allows, or denied as a whole. Exit code 1: there is a problem, which a warning is
    not. A gateway would not start with it; a running one keeps the policy it has.

    For example, before it is put in force:

        gateway-admin acl check acl.new
    """
    with answering(as_json=as_json) as answer:
        from gateway.policy.analysis.dead_rules import warnings

        settings = _with_policy_of(folder, config)
        policy = policy_of(settings)
        vain = warnings(policy, asyncio.run(devices_if_any(settings)))
        rules = sum(len(role.rules) for role in policy.roles.values())
        sensitive = len(policy.sensitive_filters)
        answer.give(
            {
                "roles": sorted(policy.roles),
                "rules": rules,
                "sensitive": sensitive,
                "digest": policy.digest,
                "warnings": [{"rule": one.location, "topics": one.topics, "text": one.text} for one in vain],
            },
            f"{settings.acl_path}: no problem.",
            *(f"warning: {one}" for one in vain),
            f"roles {', '.join(sorted(policy.roles))}; {rules} rules; {sensitive} sensitive topics",
            f"digest {policy.digest}",
        )


def _with_policy_of(folder: Path | None, config: Path | None) -> Settings:
    settings = settings_of(config)
    return settings if folder is None else settings.model_copy(update={"acl_path": folder})


def run_all_cases(
    folder: Folder = None,
    junit: Annotated[
        Path | None,
        typer.Option(
            "--junit",
            metavar="FILE",
            show_default=False,
            help="Write a report in JUnit XML, too.",
            readable=False,
        ),
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Ask the policy every case of its cases.toml, and prove every invariant of its invariants.toml.

    Exit code 1: a case fails (each is named with file, line and the deciding rule), an invariant does
    not hold, or there is nothing to ask.

    For example, in continuous integration:

        gateway-admin acl test acl.new --junit report.xml
    """
    with answering(as_json=as_json) as answer:
        from gateway.policy.files.invariants import check_invariants
        from gateway.policy.files.junit import report
        from gateway.policy.files.loader import read_policy
        from gateway.policy.files.policy_tests import load_cases, run_cases

        settings = _with_policy_of(folder, config)
        path = settings.acl_path
        policy, invariants = read_policy(path, reserved=settings.service_topic_prefix)
        results = run_cases(policy, load_cases(path, policy))
        outcomes = check_invariants(policy, invariants)
        if junit is not None:
            junit.write_bytes(report(results, outcomes))
        if not results and not outcomes:
            raise Failure(f"there is no case in {path / 'cases.toml'}, so nothing was tested")
        failed = [result for result in results if not result.passed]
        broken = [outcome.problem for outcome in outcomes if outcome.problem]
        answer.give(
            {
                "cases": len(results),
                "failed": [_case(result) for result in failed],
                "invariants": len(outcomes),
                "broken": broken,
            },
            *(str(result) for result in failed),
            *broken,
            f"{len(results) - len(failed)} of {len(results)} cases hold.",
            *([f"{len(outcomes) - len(broken)} of {len(outcomes)} invariants hold."] if outcomes else []),
        )
        if failed or broken:
            raise typer.Exit(1)


def show(
    device_id: Annotated[str, typer.Argument(metavar="DEVICE", show_default=False, help="A device's id.")],
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List everything a device may do, by action, with the rule that says so.

    Topics have the device's own names in them; {client} is the client id of a connection. A deny beats
    every allow. Rules that give the device nothing are listed too, with the reason.
    """
    with answering(as_json=as_json) as answer:
        from gateway.policy.analysis.effective_rights import rights, services

        settings = settings_of(config)
        policy = policy_of(settings)
        device = asyncio.run(device_of(settings, device_id))
        found = {action: rights(policy, device, action) for action in Action}
        own = services(policy, device.device_id)
        answer.give(
            {
                "device_id": device.device_id,
                "enabled": device.enabled,
                "roles": list(device.roles),
                "labels": written_labels(device.labels),
                "observed_until": json_time(device.observe_until) if observed(device) else None,
                "unknown_roles": policy.missing(device.roles),
                "limits": limits_value(policy, device),
                "rules": {action.value: [_right(one) for one in found[action]] for action in Action},
                "services": {action.value: list(topics) for action, topics in own.items()},
            },
            *_head(device, policy),
            *(line for action in Action for line in _lines(action, found[action])),
            *(["limits of its roles", *own_limits] if (own_limits := limit_lines(policy, device)) else []),
            "services, for every device and without a rule",
            *(f"  {action:<9}  {', '.join(topics)}" for action, topics in own.items()),
            "A token narrows this to what it was issued for.",
        )


def why(
    device_id: Annotated[
        str,
        typer.Argument(
            metavar="DEVICE", show_default=False, help="A device's id; or alone, the id of a refusal."
        ),
    ],
    action: Annotated[
        Action | None,
        typer.Argument(metavar="ACTION", show_default=False, help="publish, subscribe, encrypt, decrypt."),
    ] = None,
    topic: Annotated[
        str | None,
        typer.Argument(metavar="TOPIC", show_default=False, help="A topic; to subscribe, a filter."),
    ] = None,
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
    With nothing but the "id" of a refusal in the log, it explains that one, by the policy as it is now.
    Exit code 0: allowed. 1: refused (that is an answer, not an error), or there is no such device.

    For example:

        gateway-admin acl why lamp-1 publish devices/lamp-1/state --qos 1 --retain

        gateway-admin acl why lamp-1 subscribe 'devices/+/state'

        gateway-admin acl why 1f0c9a77e2
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        logged: dict[str, object] = {}
        head: list[str] = []
        if action is None:
            refusal = asyncio.run(refusal_of(settings, device_id))
            if not refusal.action:
                _explain_limit(answer, settings, refusal)
            device_id, action, topic = refusal.device_id, Action(refusal.action), refusal.topic
            logged, head = logged_refusal(refusal)
        if topic is None:
            raise wrong_usage("give DEVICE, ACTION and TOPIC, or alone the id of a refusal in the log")
        if action is not Action.PUBLISH and (qos or retain or size):
            raise wrong_usage("--qos, --retain and --size are about a published message, and nothing else")
        device = asyncio.run(device_of(settings, device_id))
        found = _explanation_for(settings, device, client, action, topic)
        found = _with_message(found, qos, size, retain=retain) if action is Action.PUBLISH else found
        _answer_why(answer, device, found, head, logged)


def _explanation_for(
    settings: Settings, device: Device, client_id: str | None, action: Action, topic: str
) -> Explanation:
    from gateway.policy.analysis.decision_explanation import explain

    identity = Identity(device.device_id, device.roles, device.labels, client_id or device.device_id)
    return explain(policy_of(settings), identity, action, topic)


def _answer_why(
    answer: Answer, device: Device, found: Explanation, head: list[str], logged: dict[str, object]
) -> None:
    """Exit code 1 when it is refused. `head` and `logged` are what the log has of a refusal."""
    allowed = found.decision.allowed and device.enabled
    passes = device.enabled and _passes_observed(device, found)
    text = found.text.split("\n")
    if not device.enabled:
        text = [
            f"denied: device {device.device_id} is disabled, so that it can't connect",
            "the policy says:",
            *text,
        ]
    if passes:
        text.append(f"It passes all the same: the device is {observed(device)}.")
        if found.action is Action.PUBLISH:
            text.append("A will on this topic does not: the device connects without it.")
    if logged and allowed:
        text.append(PASSES_NOW)
    value = {
        "allowed": allowed,
        "enabled": device.enabled,
        "passes_observed": passes,
        **_explained(found),
        **logged,
    }
    answer.give(value, *head, *text)
    if not allowed:
        raise typer.Exit(1)


def _explain_limit(answer: Answer, settings: Settings, refusal: StoredRefusal) -> None:
    """Answer for a refusal because of a limit, which no rule decides."""
    device, policy = asyncio.run(device_of(settings, refusal.device_id)), policy_of(settings)
    logged, head = logged_refusal(refusal)
    value = {"device_id": device.device_id, "limits": limits_value(policy, device), **logged}
    answer.give(value, head[0], *reached_limit_lines(policy, device))
    raise typer.Exit(1)


def _with_message(found: Explanation, qos: int, size: int, *, retain: bool) -> Explanation:
    decision = found.decision.with_message(qos, retain, size)
    if decision.rule is None or decision.allowed == found.decision.allowed:
        return found
    objections = decision.rule.objections(qos, size, retain=retain)
    which = "that condition" if len(objections) == 1 else f"{len(objections)} conditions"
    more = f": {' '.join(objections)}" if len(objections) > 1 else "."
    change = f"lift {which} of {location_if_any(decision.rule)}{more}"
    return dataclasses.replace(found, decision=decision, change=change)


def _passes_observed(device: Device, found: Explanation) -> bool:
    """Whether it passes although the rules refuse it, because the device is observed."""
    from gateway.mqtt.topics import unshared
    from gateway.policy.engine.policy import passes_when_observed

    if found.decision.allowed or found.action in {Action.ENCRYPT, Action.DECRYPT} or not observed(device):
        return False
    return passes_when_observed(unshared(found.topic), found.decision)


def _explained(found: Explanation) -> dict[str, object]:
    return {
        "device_id": found.identity.device_id,
        "action": found.action.value,
        "topic": found.topic,
        "reason": found.decision.reason,
        "rule": location_if_any(found.decision.rule),
        "nearest": location_if_any(found.nearest),
        "change": found.change or None,
        **(_of_filter(found) if found.action is Action.SUBSCRIBE else {}),
    }


def _of_filter(found: Explanation) -> dict[str, object]:
    return {
        "parts": [{"topics": topics, "rule": location_if_any(rule)} for topics, rule in found.parts],
        "held_back": [location_if_any(rule) for rule in found.held_back],
    }


def _head(device: Device, policy: Policy) -> list[str]:
    lines = [
        f"device  {device.device_id}",
        f"roles   {', '.join(device.roles) or 'none'}",
        f"labels  {label_text(device.labels) or 'none'}",
    ]
    if missing := policy.missing(device.roles):
        lines.append(f"no role file, so the device may do nothing: {', '.join(missing)}")
    if not device.enabled:
        lines.append("the device is disabled, so that it can't connect")
    if until := observed(device):
        lines.append(f"{until}: what the rules refuse passes until then, and is reported")
    return lines


def _lines(action: Action, found: Sequence[Right]) -> list[str]:
    from gateway.policy.analysis.decision_explanation import conditions

    width = max((len(one.topics) for one in found), default=0)
    lines = [action.value if found else f"{action.value}  nothing"]
    for one in found:
        narrowed = f" ({text})" if (text := conditions(one.rule)) else ""
        void = f": without effect, {one.ineffective_because}" if one.ineffective_because else ""
        line = f"  {one.rule.effect:<5}  {one.topics:<{width}}  {location_if_any(one.rule)}{narrowed}{void}"
        lines.append(line)
    return lines


def _right(one: Right) -> dict[str, object]:
    rule = one.rule
    return {
        "effect": rule.effect.value,
        "topics": one.topics,
        "rule": location_if_any(rule),
        "max_qos": rule.max_qos,
        "retain": rule.retain,
        "max_payload": rule.max_payload,
        "without_effect": one.ineffective_because or None,
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
        "rule": location_if_any(result.decision.rule),
    }
