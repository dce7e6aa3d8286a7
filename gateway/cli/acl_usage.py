"""`gateway-admin acl learn` and `unused`: what a role needs, by what devices did; and `acl diff --replay`."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.admin.devices import check_roles
from gateway.cli.durations import seconds_of
from gateway.cli.output import Failure, Json, answering, wrong_usage
from gateway.cli.rule_locations import location
from gateway.cli.settings_policy_store import Config, policy_of, settings_of, store_of
from gateway.policy.engine.policy import Policy
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.policy.engine.identity import Device
    from gateway.policy.engine.usage_record import UsageRecord
    from gateway.policy.usage.replay import Change, Replay
    from gateway.policy.usage.role_proposal import Proposal
    from gateway.policy.usage.unused_rights import Unused

_KEPT = "The gateway keeps what devices did for 14 days."
_AT_ONCE = 1_000
"""Devices in one query: SQLite takes 32,766 values."""


def learn(
    device_id: Annotated[
        str | None,
        typer.Option("--device", metavar="ID", show_default=False, help="Learn from this device."),
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(
            "--role",
            metavar="ROLE",
            show_default=False,
            help="Learn from all devices with this role, or one that includes it.",
        ),
    ] = None,
    *,
    time: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="TIME",
            help="Learn from what was done in this time: 90m, 24h, 14d. Its counts may be older.",
        ),
    ] = "24h",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            show_default=False,
            help="Write it here; never over a file.",
            readable=False,
        ),
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Propose a role that allows what devices did, and nothing else.

    The gateway records what each device does and is refused, by topic and without payloads. Ids and labels
    become placeholders; a level becomes + where three values or more of it were seen. What passed only
    because the device was observed is in blocks of its own that say so, as it was seen, without a new +.
    What was refused is listed as comments. Exit code 1: nothing was recorded, or there is no such device.

    For example:

        gateway-admin acl learn --device lamp-1 --for 24h

        gateway-admin acl learn --role sensor --for 7d --out acl/roles/sensor-2.toml
    """
    with answering(as_json=as_json) as answer:
        if (device_id is None) is (role is None):
            raise wrong_usage("say whom to learn from: --device ID or --role ROLE")
        from gateway.policy.usage.role_writer import role_file

        settings = settings_of(config)
        proposal = _learnt(settings, device_id, role, time)
        text = role_file(proposal, f"Role {f'of {device_id}' if device_id else role}", f"the last {time}")
        said = text.splitlines() if out is None else _written(out, proposal, text, settings)
        answer.give(_proposed(proposal, text), *said)


def _learnt(settings: Settings, device_id: str | None, role: str | None, time: str) -> Proposal:
    from gateway.policy.usage.role_learner import learn as propose

    seconds = seconds_of("--for", time)
    policy = policy_of(settings)
    devices, records = asyncio.run(_recorded(settings, seconds, device_id, _with(policy, role)))
    if role is not None and not devices and role not in policy.roles:
        check_roles(policy, [role], settings.acl_path)
    if not records:
        whom = f"device {device_id}" if device_id else f"devices with the role {role}"
        raise Failure(f"nothing was recorded of {whom} in the last {time}. {_KEPT}")
    return propose(policy, devices.values(), records, role)


def _with(policy: Policy, role: str | None) -> frozenset[str] | None:
    """This role, and those that include it: devices with one of them have its rights. None: no role given."""
    if role is None:
        return None
    return frozenset({role} | {name for name in policy.roles if role in policy.expanded((name,))})


async def _recorded(
    settings: Settings, seconds: int, device_id: str | None = None, roles: Collection[str] | None = None
) -> tuple[dict[str, Device], list[UsageRecord]]:
    """The devices (with one of `roles`), and their usage records, if last counted within `seconds`."""
    since = _since(seconds)
    async with store_of(settings) as store:
        if device_id is not None:
            devices = [await store.devices.get(device_id)]
        else:
            devices = [
                one
                for one in await store.devices.read()
                if roles is None or not set(roles).isdisjoint(one.roles)
            ]
        known = {one.device_id: one for one in devices}
        if device_id is None and roles is None:
            return known, await store.usage.records(since)
        asked, records = sorted(known), []
        for at in range(0, len(asked), _AT_ONCE):
            records += await store.usage.records(since, asked[at : at + _AT_ONCE])
    return known, records


def _since(seconds: int) -> int:
    return int(datetime.now(UTC).timestamp()) - seconds


def _written(path: Path, proposal: Proposal, text: str, settings: Settings) -> list[str]:
    """Write the file; what to say of it."""
    if not proposal.has_rules:
        raise Failure(
            "nothing was allowed and used, nor passed while observed, so there is no role to write; without "
            "--out the proposal has what was refused as comments to uncomment"
        )
    from gateway.system.atomic_files import locked, write_new

    # The whole file appears at once: a running gateway may read the folder at any moment.
    with locked(path.parent):
        write_new(path, text.encode(), mode=0o644)
    said = [f"{path} written. Read it before you use it."]
    roles = settings.acl_path / "roles"
    if path.resolve().parent != roles.resolve():
        said.append(f"It is not in the policy in force: move it to {roles}/ for that.")
    return said


def _proposed(proposal: Proposal, text: str) -> dict[str, object]:
    from gateway.policy.usage.replay import UNCONDITIONAL

    blocks = [(*key, False, topics) for key, topics in proposal.allows.items()]
    blocks += [(action, UNCONDITIONAL, True, topics) for action, topics in proposal.observed.items()]
    return {
        "devices": list(proposal.devices),
        "allow": [
            {
                "action": action.value,
                "topic": topic,
                "max_qos": asked[0],
                "retain": asked[1],
                "max_payload": asked[2],
                "observed": observed,
                "count": summary.count,
                "first_at": summary.first_at,
                "last_at": summary.last_at,
                "devices": sorted(summary.devices),
            }
            for action, asked, observed, topics in blocks
            for topic, summary in topics.items()
        ],
        "deny": [location(rule) for rule in proposal.denies],
        "refused": [
            {
                "action": action.value,
                "topic": topic,
                "count": summary.count,
                "devices": sorted(summary.devices),
            }
            for action, topics in proposal.refused.items()
            for topic, summary in topics.items()
        ],
        "not_recorded": proposal.overflow,
        "role": text,
    }


def unused(
    time: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How far to look back: 24h, 14d.")
    ] = "14d",
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List the allow rules that nothing needed of what devices did.

    Each with file and line, and with the actions nobody used. What was done before the gateway recorded
    it, or more than 14 days ago, is not known: read the first line of the answer. A rule that may have
    been used is not listed. Exit code 0, whatever is found; 1: nothing was recorded.
    """
    with answering(as_json=as_json) as answer:
        seconds = seconds_of("--for", time)
        from gateway.policy.engine.usage_record import OVERFLOW, Passage
        from gateway.policy.usage.unused_rights import unused as idle

        settings = settings_of(config)
        policy = policy_of(settings)
        devices, records = asyncio.run(_recorded(settings, seconds))
        if not records:
            raise Failure(f"nothing was recorded in the last {time}. {_KEPT}")
        found = idle(policy, records, devices)
        first = utc_text(max(_since(seconds), min(one.first_at for one in records)))
        rules = sum(len(role.rules) for role in policy.roles.values())
        more = sum(
            one.count
            for one in records
            if one.passage is not Passage.REFUSED and one.template == OVERFLOW and one.device_id in devices
        )
        answer.give(
            {"recorded_since": first, "not_recorded": more, "unused": [_idle(one) for one in found]},
            f"recorded since {first}; {len(found)} of {rules} rules have an action that nobody used",
            *map(_idle_line, found),
            *(
                [f"not judged: {more} that found no room; all rules that may have allowed them count as used"]
                if more
                else []
            ),
        )


def _idle(one: Unused) -> dict[str, object]:
    return {
        "rule": location(one.rule),
        "role": one.rule.role,
        "topic": one.rule.topic,
        "unused": [action.value for action in one.actions],
        "used": sorted(one.rule.actions.difference(one.actions)),
        "role_has_devices": not one.without_device,
    }


def _idle_line(one: Unused) -> str:
    actions = ", ".join(one.actions)
    nobody = f" (no device has the role {one.rule.role})" if one.without_device else ""
    return f'{location(one.rule)}  {actions} on "{one.rule.topic}"{nobody}'


def replayed(
    before: Policy, after: Policy, settings: Settings, seconds: int
) -> tuple[dict[str, object], list[str]]:
    """What of the usage records `after` decides differently from `before`: for a script, and as lines."""
    from gateway.policy.usage.replay import replay

    devices, records = asyncio.run(_recorded(settings, seconds))
    found = replay(before, after, records, devices)
    value = {
        "judged": found.replayed,
        "unknown": found.gone,
        "not_recorded": found.overflow,
        "in_part": [_seen(one) for one in found.mixed],
        "changes": [_change(one) for one in found.changes],
    }
    return value, [
        f"replay: {len(found.changes)} of {found.replayed} recorded decisions change",
        *(f"  {_change_line(one)}" for one in found.changes),
        *_not_replayed(found),
    ]


def _not_replayed(found: Replay) -> Iterable[str]:
    from gateway.policy.usage.role_writer import listed

    if found.gone:
        yield f"  not judged: {found.gone} of devices or labels that are gone"
    if found.overflow:
        yield f"  not judged: {found.overflow} that found no room when they were recorded"
    if found.mixed:
        parts = f"{len(found.mixed)} of many topics each, that rules meet in part: {listed(found.mixed)}"
        yield f"  not judged: {parts}"


def _seen(one: UsageRecord) -> dict[str, object]:
    return {
        "device_id": one.device_id,
        "action": one.action.value,
        "topic": one.template,
        "count": one.count,
    }


def _change(one: Change) -> Mapping[str, object]:
    seen = one.record
    return {
        **_seen(seen),
        "last_at": seen.last_at,
        "recorded": seen.passage.value,
        "now": one.kind.value,
        "reason": one.after.reason,
        "rule": one.after.rule_location or None,
        "rule_before": one.before.rule_location or None,
    }


def _change_line(one: Change) -> str:
    from gateway.policy.engine.usage_record import Passage
    from gateway.policy.files.toml_strings import quoted

    seen = one.record
    times = "once" if seen.count == 1 else f"{seen.count} times"
    by = f" by {one.after.rule_location}" if one.after.rule_location else ""
    what = {"allowed": "is allowed", "refused": "is refused", "conditions": "has other conditions"}
    topic = quoted(seen.template)
    observed = ", observed" if seen.passage is Passage.OBSERVED else ""
    return f"{seen.device_id} {seen.action} {topic} ({times}{observed}): {what[one.kind]}{by}"
