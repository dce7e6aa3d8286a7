"""`gateway-admin acl import`: Mosquitto's access rules as a policy of ours, its users as devices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.acl_import_report import ADDED, Candidate, Report, findings_of
from gateway.cli.output import Answer, Failure, Json, answering, wrong_usage
from gateway.cli.settings_policy_store import Config, actor, policy_of, settings_of, store_of
from gateway.system.bounded_read import read_at_most
from gateway.system.file_errors import why

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.policy.engine.policy import Role
    from gateway.policy.imports.intermediate_model import Account, Finding, ImportSource
    from gateway.policy.imports.role_composition import ComposedRoles

_NO_ACL_FILE = (
    "--passwords FILE needs --acl FILE. If this Mosquitto has no acl_file, every user may do everything "
    "there. Write a file with what each user needs; or, if it shall stay as it is, one with the two lines "
    "`pattern readwrite #` and `pattern read $SYS/#`. Then name it with --acl"
)
_BYTES_MAX = 16_777_216
"""Bytes of the longest file that is read."""


_Acl = Annotated[
    Path | None,
    typer.Option("--acl", metavar="FILE", help="Mosquitto's acl_file.", show_default=False, readable=False),
]
_Passwords = Annotated[
    Path | None,
    typer.Option(
        "--passwords", metavar="FILE", help="Its password_file.", show_default=False, readable=False
    ),
]
_DynSec = Annotated[
    Path | None,
    typer.Option(
        "--dynsec",
        metavar="FILE",
        help="The file of its dynamic security plugin, instead of both.",
        show_default=False,
        readable=False,
    ),
]
_Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="Where the policy is written: a new or an empty folder. Without it nothing is written.",
        show_default=False,
        readable=False,
    ),
]
_AddDevices = Annotated[
    bool, typer.Option("--add-devices", help="Add the users with a password to the store, as devices.")
]


def mosquitto(
    acl: _Acl = None,
    passwords: _Passwords = None,
    dynsec: _DynSec = None,
    out: _Out = None,
    *,
    add_devices: _AddDevices = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Make a policy of Mosquitto's access rules, and say what can't be as it was.

    Writes roles, and cases with Mosquitto's answers to many questions. Everything that is not carried over
    as it is stands in the report with file and line; where in doubt the policy gives less. Put it in force
    by ACL_PATH when you have read it. Devices keep their passwords: their first login replaces Mosquitto's
    hash by Argon2id.

    Exit code 1: Mosquitto would not start with a file, there is something in FOLDER, or a role that devices
    would get says something else in the policy in force, or is not there and in no FOLDER.

    For example:

        gateway-admin acl import mosquitto --acl mosquitto.acl --passwords passwd --out acl-new

        gateway-admin acl import mosquitto --dynsec dynamic-security.json --out acl-new --add-devices
    """
    with answering(as_json=as_json) as answer:
        if dynsec is not None and (acl is not None or passwords is not None):
            raise wrong_usage(
                "--dynsec FILE stands instead of --acl and --passwords: import one, then the other"
            )
        if add_devices and dynsec is None and passwords is None:
            raise wrong_usage("--add-devices needs --passwords FILE: a device is made of a user and its hash")
        settings = settings_of(config)
        source, accounts, findings = _read(acl, passwords, dynsec)
        _carry_over(answer, settings, source, accounts, findings, out=out, add_devices=add_devices)


def _carry_over(
    answer: Answer,
    settings: Settings,
    source: ImportSource,
    accounts: Sequence[Account],
    findings: Sequence[Finding],
    *,
    out: Path | None,
    add_devices: bool,
) -> None:
    from gateway.policy.imports.policy_writer import SENSITIVE, ask, compiled, rehearse, write
    from gateway.policy.imports.role_composition import compose
    from gateway.policy.imports.wide_subscribing_roles import let_subscribe_wide

    reserved = settings.service_topic_prefix
    composed = compose(source, reserved=reserved, sensitive=SENSITIVE)
    candidates = _candidates(composed, accounts)
    let_subscribe_wide(source, composed)
    composed.findings += findings
    if not composed.drafts:
        raise Failure(
            f"{source.file} allows nobody anything: there is nothing to import",
            [
                f"{one.location}: {one.text}"
                for kind in ("differs", "note")
                for one in findings_of(composed, kind)
            ],
        )
    questions, newly_denied = ask(source, composed, compiled(composed, reserved=reserved))
    composed.findings += newly_denied

    def put() -> None:
        if out is None:
            rehearse(source, composed, questions, reserved=reserved)
        else:
            write(out, source, composed, questions, reserved=reserved)

    missing: list[str] = []
    if add_devices:
        missing = _check_roles(settings, composed, candidates, out)
        asyncio.run(_add(settings, candidates, put))
        given = {role for one in candidates if one.state == ADDED for role in one.roles}
        missing = [role for role in missing if role in given]
    else:
        put()
    report = Report(
        source, composed, candidates, len(questions), out, missing, settings.acl_path, add_devices
    )
    answer.give(report.value(), *report.lines())


def _read(
    acl: Path | None, passwords: Path | None, dynsec: Path | None
) -> tuple[ImportSource, Sequence[Account], list[Finding]]:
    from gateway.policy.imports.dynsec import DynSec
    from gateway.policy.imports.intermediate_model import Finding
    from gateway.policy.imports.mosquitto_acl import AclFile
    from gateway.policy.imports.mosquitto_passwords import read_passwords

    if dynsec is not None:
        found = DynSec(_content(dynsec, "--dynsec"), str(dynsec))
        return found, found.accounts, []
    if acl is None and passwords is not None:
        raise wrong_usage(_NO_ACL_FILE)
    if acl is None:
        raise wrong_usage("name --acl FILE (and --passwords FILE), or --dynsec FILE")
    if passwords is None:
        return AclFile(_content(acl, "--acl"), str(acl)), (), []
    accounts, findings = read_passwords(_content(passwords, "--passwords"), str(passwords))
    named = [(account.user, account.location) for account in accounts]
    source = AclFile(_content(acl, "--acl"), str(acl), named)
    known = {account.user for account in accounts}
    for source_user in source.users:
        if source_user.user is not None and source_user.user not in known:
            text = f"user {source_user.user!r} has no hash in {passwords}: no device is made of it"
            findings = (*findings, Finding("note", source_user.location, text, source_user.user))
    return source, accounts, list(findings)


def _content(path: Path, option: str) -> bytes:
    try:
        raw = read_at_most(path, _BYTES_MAX)
    except FileNotFoundError:
        raise Failure(
            f"there is no file {path}: give the path that {option} stands for; mosquitto.conf names it"
        ) from None
    except OSError as error:
        raise Failure(
            f"{path} can't be read ({why(path, error)}): make it readable, or give the path that {option} "
            "stands for"
        ) from None
    if raw is None:
        raise Failure(f"{path} is longer than {_BYTES_MAX:,} bytes")
    return raw


def _candidates(composed: ComposedRoles, accounts: Sequence[Account]) -> list[Candidate]:
    """What can be made of the users, if there are accounts. A password that can't be used is a finding."""
    from gateway.auth.passwords import imported_credential
    from gateway.policy.imports.intermediate_model import Finding

    credentials = {}
    for account in accounts:
        try:
            credentials[account.user] = imported_credential(account.hashed)
        except ValueError as error:
            text = (
                f"the password of user {account.user!r} can't be taken over: {error}; no device is made of "
                "it. Leave the file as it is: the password itself, or a new one, is given by "
                "`gateway-admin device add NAME --role ROLE --secret-stdin`"
            )
            composed.findings.append(Finding("differs", account.location, text, account.user))
    return [
        Candidate(user, roles, credentials.get(user))
        for user, roles in composed.roles_of.items()
        if user is not None and accounts
    ]


def _check_roles(
    settings: Settings, composed: ComposedRoles, candidates: Sequence[Candidate], out: Path | None
) -> list[str]:
    """The roles that devices get now but the policy in force lacks, because `out` is not in force yet.

    Raises Failure if a role of the same name in force has different rules, for devices would get other rights
    than Mosquitto gave them; or if a role is neither in force nor written.
    """
    if out is not None and out.resolve() == settings.acl_path.resolve():
        return []  # they are there from now on
    in_force = policy_of(settings).roles
    mine = {draft.role.name: draft.role for draft in composed.drafts}
    used = {role for candidate in candidates if candidate.credential for role in candidate.roles}
    others = [
        name for name in sorted(used) if name in in_force and _says(in_force[name]) != _says(mine[name])
    ]
    if others:
        raise Failure(
            f"nothing was done: devices would get roles that say something else in {settings.acl_path}. "
            "Import without --add-devices, put the new policy in force, and call this again without --out",
            [f'role "{name}" is there already, with other rules' for name in others],
        )
    missing = sorted(used - in_force.keys())
    if missing and out is None:
        raise Failure(
            f"nothing was done: devices would get roles that are not in {settings.acl_path}. Import with "
            "--out FOLDER and without --add-devices, put FOLDER in force (ACL_PATH=FOLDER), and call this "
            "again",
            [f'there is no role "{name}"' for name in missing],
        )
    return missing


def _says(role: Role) -> tuple[object, ...]:
    """What a role allows and denies, to be compared with that of another role."""
    rules = frozenset(
        (rule.effect, rule.actions, rule.topic, rule.max_qos, rule.retain, rule.max_payload)
        for rule in role.rules
    )
    return role.subscribe, rules


async def _add(settings: Settings, candidates: Sequence[Candidate], put: Callable[[], None]) -> None:
    """Write the policy by `put`, then add the devices. If there is no store neither is done."""
    async with store_of(settings) as store:
        from gateway.admin import devices
        from gateway.store import DeviceExists

        put()
        for one in candidates:
            if one.credential is None:
                continue
            try:
                await devices.add(
                    store,
                    one.user,
                    credential=one.credential,
                    roles=one.roles,
                    labels={},
                    actor=actor(),
                    how="imported from Mosquitto",
                )
            except DeviceExists:
                there = await store.devices.find(one.user)
                one.is_there(there.roles if there else one.roles)
                continue
            one.state = ADDED
