"""`gateway-admin acl prove` and `acl diff`: what holds for everybody, and what a change gives and takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.admin.devices import observed
from gateway.cli.acl_usage import replayed
from gateway.cli.durations import seconds_of
from gateway.cli.output import Failure, Json, answering, wrong_usage
from gateway.cli.rule_locations import location
from gateway.cli.settings_policy_store import Config, all_devices, device_of, has_store, settings_of
from gateway.policy.engine.identity import written_labels

if TYPE_CHECKING:
    from gateway.policy.analysis.diff import Change, Difference
    from gateway.policy.analysis.prover import Counterexample, Proof
    from gateway.policy.engine.identity import Device

_NAMED_MAX = 10
"""Devices that are named in one line."""
_WITHOUT_MAX = 5
"""Filters that are named after "without"."""


def prove(
    assertions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STATEMENT", show_default=False, help="Without one: those of acl/invariants.toml."
        ),
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Decide whether the policy keeps a promise, for every identity and every topic there can be.

    A statement is "no WHO ACTION FILTER" or "only WHO ACTION FILTER"; one that does not hold comes
    with a counterexample, the rules that admit it, and the deny rules that nearly keep it out ("missed" in
    JSON). WHO is role:NAME, any (any role), device:ID as it is stored, or several with commas. A
    placeholder in FILTER means the same as in a rule; "except FILTER" at the end leaves topics out, and
    may stand there more than once. A filter with blanks or commas stands in quotes. The policy is the
    folder of ACL_PATH.

    Exit code 0: all hold. 1: one does not, or there is none, or no such role or device. 2: what was
    given is no statement.

    For example:

        gateway-admin acl prove "no role:guest subscribe locks/#"

        gateway-admin acl prove "only role:operator, role:service publish devices/+/commands/#"

        gateway-admin acl prove "no any publish devices/# except devices/{device}/#"
    """
    with answering(as_json=as_json) as answer:
        from gateway.policy.analysis.assertion_syntax import AssertionFault, parse
        from gateway.policy.analysis.prover import Prover
        from gateway.policy.files.loader import read_policy

        settings = settings_of(config)
        policy, invariants = read_policy(settings.acl_path, reserved=settings.service_topic_prefix)
        try:
            asked = [parse(text) for text in assertions or ()]
        except AssertionFault as error:
            raise wrong_usage(str(error)) from error
        asked = asked or [invariant.assertion for invariant in invariants]
        if not asked:
            raise Failure(f"there is no statement, and none in {settings.acl_path / 'invariants.toml'}")
        names = dict.fromkeys(name for assertion in asked for name in assertion.devices)
        devices = {name: asyncio.run(device_of(settings, name)) for name in names}
        prover = Prover(policy)
        proofs = [prover.prove(assertion, devices) for assertion in asked]
        holds = all(proof.holds for proof in proofs)
        watched = {name: until for name, device in devices.items() if (until := observed(device))}
        answer.give(
            {"holds": holds, "statements": [_proof(proof) for proof in proofs], "observed": sorted(watched)},
            *(line for proof in proofs for line in _proof_lines(proof)),
            *(
                f"{name} is {until}: until then what the rules refuse passes"
                for name, until in watched.items()
            ),
        )
        if not holds:
            raise typer.Exit(1)


def diff(
    old: Annotated[
        Path, typer.Argument(metavar="OLD", show_default=False, help="A policy's folder.", readable=False)
    ],
    new: Annotated[
        Path,
        typer.Argument(
            metavar="NEW", show_default=False, help="The folder of the one to compare.", readable=False
        ),
    ],
    *,
    replay: Annotated[
        bool, typer.Option("--replay", help="Judge what devices really did by both, too.")
    ] = False,
    time: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="TIME", show_default=False, help="How far --replay looks back: 24h, else 7d."
        ),
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Say who gains and who loses what when one policy takes the place of another.

    By role, and by device of the store when there is one. Exact: each line is a filter of topics that were
    refused and are allowed, or the other way round, those of them that match what follows "within" and not
    what follows "without"; the rule that allows them, an example, and why the other policy refuses it.

    For example, before a change is put in force:

        gateway-admin acl diff acl /tmp/new-acl

    And what it would have changed for what devices did, or tried, in the last days:

        gateway-admin acl diff acl /tmp/new-acl --replay --for 14d
    """
    with answering(as_json=as_json) as answer:
        if time is not None and not replay:
            raise wrong_usage("--for says how far --replay looks back")
        from gateway.policy.analysis.diff import compare
        from gateway.policy.files.invariants import check_invariants
        from gateway.policy.files.loader import read_policy

        settings = settings_of(config)
        before, _ = read_policy(old, reserved=settings.service_topic_prefix)
        after, invariants = read_policy(new, reserved=settings.service_topic_prefix)
        devices = asyncio.run(all_devices(settings)) if has_store(settings) else None
        found = compare(before, after, devices or ())
        broken = [outcome.problem for outcome in check_invariants(after, invariants) if outcome.problem]
        lines = [*_difference_lines(found, {one.device_id: one for one in devices or ()}), *broken]
        if devices is None:
            lines.append("There is no store here, so nothing is said of single devices.")
        again: dict[str, object] = {}
        if replay:
            again["replay"], more = replayed(before, after, settings, seconds_of("--for", time or "7d"))
            lines += more
        answer.give(
            {**_difference(found, with_devices=devices is not None), "broken": broken, **again}, *lines
        )


def _difference(found: Difference, *, with_devices: bool) -> dict[str, object]:
    def changes(by_name: Mapping[str, Sequence[Change]]) -> dict[str, object]:
        return {name: [_change(one) for one in some] for name, some in by_name.items()}

    return {
        "roles": changes(found.roles),
        "devices": changes(found.devices) if with_devices else None,
        "sealed": list(found.newly_sensitive),
        "unsealed": list(found.no_longer_sensitive),
        "limits": {name: list(values) for name, values in found.limits.items()},
        "role_limits": {
            role: {name: list(values) for name, values in limits.items()}
            for role, limits in found.role_limits.items()
        },
        "subscribe": {role: mode.value for role, mode in found.wide.items()},
    }


def _proof(proof: Proof) -> dict[str, object]:
    return {
        "statement": proof.assertion.text,
        "holds": proof.holds,
        "counterexamples": [_counterexample(one) for one in proof.counterexamples],
    }


def _counterexample(one: Counterexample) -> dict[str, object]:
    identity = one.case.identity
    return {
        "says": str(one),
        "roles": list(identity.roles),
        "device_id": identity.device_id,
        "labels": written_labels(identity.labels),
        "client_id": identity.client_id,
        "action": one.action.value,
        "topic": one.case.topic,
        "rules": [location(rule) for rule in one.rules],
        "missed": [location(rule) for rule in one.near_misses],
    }


def _proof_lines(proof: Proof) -> list[str]:
    lines = [f"{'holds' if proof.holds else 'does not hold'}: {proof.assertion.text}"]
    for one in proof.counterexamples:
        lines.append(f"  {one}")
        lines += [f"    {line}" for line in one.text()]
    return lines


def _difference_lines(found: Difference, devices: Mapping[str, Device]) -> list[str]:
    lines = []
    for name, changes in found.roles.items():
        lines += [f"role {name}", *(line for change in changes for line in _change_lines(change))]
    # Devices for which the same rules change are one paragraph, with the topics of the first.
    alike = sorted(found.devices, key=lambda name: (repr(_rules(found.devices[name])), name))
    for _, group in groupby(alike, key=lambda name: _rules(found.devices[name])):
        names = list(group)
        more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
        roles = ", ".join(devices[names[0]].roles)
        head = "device" if len(names) == 1 else "devices"
        lines.append(f"{head} {', '.join(names[:_NAMED_MAX])}{more} ({roles})")
        lines += [line for change in found.devices[names[0]] for line in _change_lines(change)]
    lines += [f'sealed now: "{topics}"' for topics in found.newly_sensitive]
    lines += [f'no longer sealed: "{topics}"' for topics in found.no_longer_sensitive]
    lines += [f"limit {name}: {old}, now {new}" for name, (old, new) in found.limits.items()]
    for role, limits in found.role_limits.items():
        shown = (
            (name, *("none" if one is None else one for one in values)) for name, values in limits.items()
        )
        lines += [f"limit {name} of role {role}: {old}, now {new}" for name, old, new in shown]
    lines += [f'role {role}: subscribe = "{mode}" now' for role, mode in found.wide.items()]
    return lines or ["No difference in what anybody may do."]


def _rules(changes: Sequence[Change]) -> tuple[tuple[object, ...], ...]:
    return tuple((one.gained, one.action.value, one.rule.file, one.rule.line) for one in changes)


def _change_lines(change: Change) -> list[str]:
    from gateway.policy.analysis.decision_explanation import conditions

    text = f'  {"gains" if change.gained else "loses"} {change.action} "{change.topics}"'
    if change.within is not None:
        text += f' within "{change.within}"'
    if change.without:
        text += " without " + ", ".join(f'"{topics}"' for topics in change.without[:_WITHOUT_MAX])
    if len(change.without) > _WITHOUT_MAX:
        text += f" and {len(change.without) - _WITHOUT_MAX} more"
    narrowed = f" ({narrower})" if (narrower := conditions(change.rule)) else ""
    case, refusal = change.example, change.refusal
    names = case.named([change.topics, change.within or "", *change.without])
    who = f" ({', '.join(names)})" if names else ""
    by = f" ({refusal.rule_location})" if refusal.rule else ""
    return [
        f"{text}: {location(change.rule)}{narrowed}",
        f'    such as "{case.topic}"{who}; {"before" if change.gained else "now"}: {refusal.reason}{by}',
    ]


def _change(change: Change) -> dict[str, object]:
    identity = change.example.identity
    return {
        "gained": change.gained,
        "action": change.action.value,
        "topics": change.topics,
        "within": change.within,
        "without": list(change.without),
        "rule": location(change.rule),
        "refusal": change.refusal.reason,
        "refused_by": location(change.refusal.rule) if change.refusal.rule else None,
        "example": {
            "device_id": identity.device_id,
            "labels": written_labels(identity.labels),
            "client_id": identity.client_id,
            "topic": change.example.topic,
        },
    }
