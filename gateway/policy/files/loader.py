"""The files of `acl/` made into a `Policy`, all of them together or none.

Every problem in every file is collected before anything is refused, each with its file and line.
Nothing is guessed: a file that is missing, empty, unreadable or has an unknown key is a problem, for
an empty file that opens the door is an old mistake (CVE-2018-12550, CVE-2018-12551). Reads files, so
call it off the event loop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from gateway.mqtt.topics import filter_fault
from gateway.policy.engine.connection_limits import Limits
from gateway.policy.engine.identity import is_device_id
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule
from gateway.policy.engine.rules import OnDeniedWill, template_fault
from gateway.policy.files.invariants import Invariant, check_invariants, read_invariants
from gateway.policy.files.policy_tests import read_cases
from gateway.policy.files.toml_document import Block, PolicyError, read
from gateway.system.atomic_files import why

__all__ = ["PolicyError", "load_policy", "read_policy"]

_FILES = ("encryption.toml", "limits.toml", "cases.toml", "invariants.toml")
_CONDITIONS = ("max_qos", "retain", "max_payload")


def load_policy(path: Path, *, reserved: str) -> Policy:
    """The policy in the folder `path`. PolicyError, with every problem, when any file is not right.

    An invariant that does not hold is a problem like others. `reserved` is the prefix of the service topics
    (`SERVICE_TOPIC_PREFIX`).
    """
    policy, invariants = read_policy(path, reserved=reserved)
    problems = [outcome.problem for outcome in check_invariants(policy, invariants) if outcome.problem]
    if problems:
        raise PolicyError(problems)
    return policy


def read_policy(path: Path, *, reserved: str) -> tuple[Policy, tuple[Invariant, ...]]:
    """The policy, and its invariants before anybody asked whether they hold: never put this one in force.

    It is for commands that say what is wrong with it. PolicyError as for `load_policy`.
    """
    problems = list(_strangers(path))
    roles = tuple(_roles(path / "roles", problems))
    sensitive = _sensitive(path, problems)
    limits = _limits(path, problems)
    # A role whose file has a problem is there all the same: its cases are no problems of their own.
    names = {role.name for role in roles} | {file.stem for file in path.glob("roles/*.toml")}
    read_cases(path, names, problems)
    invariants = read_invariants(path, names, problems)
    if problems:
        raise PolicyError(problems)
    try:
        return Policy(roles, sensitive=sensitive, limits=limits, reserved=reserved), invariants
    except ValueError as error:
        raise PolicyError([f"{path}: {error}"]) from error


def _entries(folder: Path) -> list[Path]:
    """What a folder shows; names that begin with a dot are editors' and Kubernetes' own. Or PolicyError."""
    try:
        return sorted(entry for entry in folder.iterdir() if entry.name[0] != ".")
    except OSError as error:
        reason = f"{folder}: the folder can't be read ({why(folder, error)}); see ACL_PATH and acl/README.md"
        raise PolicyError([reason]) from error


def _strangers(path: Path) -> Iterator[str]:
    """A misspelt name would be a file that nobody reads, and its denies in force only for its author."""
    for entry in _entries(path):
        if entry.name not in (*_FILES, "roles") and _looks_meant(entry):
            known = ", ".join(("roles/*.toml", *_FILES))
            yield f"{entry}: not a file of the policy; rename or remove it (known: {known})"


def _looks_meant(entry: Path) -> bool:
    """Whether somebody may think that it is read: TOML, or a folder of it. Not drafts, notes, lost+found."""
    return any(one.suffix.lower() == ".toml" for one in (entry, *entry.glob("*")))


def _roles(folder: Path, problems: list[str]) -> Iterator[Role]:
    try:
        entries = _entries(folder)
    except PolicyError as error:
        problems += error.problems
        return
    files = [entry for entry in entries if entry.suffix == ".toml"]
    problems += [
        f"{entry}: not a role file, for those are called NAME.toml; rename it, or move it out of the policy"
        for entry in entries
        if entry not in files and _looks_meant(entry)
    ]
    if not files:
        problems.append(f"{folder}: there is no role file; without one nobody may do anything")
    for file in files:
        name = file.stem
        if not is_device_id(name):
            problems.append(
                f"{file}: a role's name has only letters, digits and . _ -, and 64 at most; rename it"
            )
        if block := read(file, problems, missing="restore it or remove the link"):
            block.only("description", "will", "allow", "deny")
            blocks = [(effect, inner) for effect in Effect for inner in block.blocks(effect)]
            if not blocks:
                block.problem("the role has no rule; write an [[allow]] block, or remove the file")
            rules = [rule for effect, inner in blocks for rule in _rules(inner, effect, name)]
            yield Role(name, block.text("description", ""), tuple(rules), _will(block))


def _will(block: Block) -> OnDeniedWill | None:
    if "will" not in block.values:
        return None
    try:
        return OnDeniedWill(block.text("will"))
    except ValueError:
        known = " or ".join(f'"{one}"' for one in OnDeniedWill)
        block.problem(f'"will" says what becomes of a CONNECT whose will is refused: {known}', key="will")
        return None


def _rules(block: Block, effect: Effect, role: str) -> Iterator[Rule]:
    """One block of a role file: a rule for each of its topics."""
    block.only("actions", "topics", *_CONDITIONS)
    actions = set()
    for text, line in block.strings("actions"):
        try:
            actions.add(Action(text))
        except ValueError:
            block.problem(f'unknown action "{text}"; known: {", ".join(Action)}', line=line)
    _check_conditions(block, effect, actions)
    max_qos = block.number("max_qos", 2, least=0, most=2)
    retain = block.flag("retain", default=True)
    max_payload = block.number("max_payload", 0, least=0) if "max_payload" in block.values else None
    for topic, line in block.strings("topics"):
        if fault := template_fault(topic):
            block.problem(f'the topic "{topic}" {fault}', line=line)
        else:
            yield Rule(
                effect, frozenset(actions), topic, max_qos, retain, max_payload, role, block.file, line
            )


def _check_conditions(block: Block, effect: Effect, actions: set[Action]) -> None:
    """A condition that would never be asked is a mistake: its author relies on it."""
    for key in _CONDITIONS:
        if key not in block.values:
            continue
        if effect is Effect.DENY:
            block.problem(
                f'a deny has no conditions; remove "{key}", or put it on the [[allow]] it should narrow',
                key=key,
            )
        asked = {Action.PUBLISH, Action.SUBSCRIBE} if key == "max_qos" else {Action.PUBLISH}
        if actions and not actions & asked:
            block.problem(
                f'"{key}" says nothing about {", ".join(sorted(actions))}; '
                f"it belongs to {' or '.join(sorted(asked))}",
                key=key,
            )


def _sensitive(path: Path, problems: list[str]) -> list[str]:
    block = read(
        path / "encryption.toml",
        problems,
        missing="it says which topics are sealed. Write [[sensitive]] blocks, or sensitive = [] to seal none",
    )
    if block is None:
        return []
    block.only("sensitive")
    if "sensitive" not in block.values:
        block.problem(
            "it names no sensitive topics; write a [[sensitive]] block, or sensitive = [] to seal none"
        )
    found = []
    for inner in block.blocks("sensitive"):
        inner.only("topics")
        for topic, line in inner.strings("topics"):
            if "{" in topic or "}" in topic:
                inner.problem(
                    f'the topic "{topic}" has a placeholder; here + stands for any device', line=line
                )
            elif fault := filter_fault(topic):
                inner.problem(f'the topic "{topic}" {fault}', line=line)
            elif topic.startswith("$share/"):
                inner.problem(
                    f'the topic "{topic}" begins with $share; write the filter behind it', line=line
                )
            else:
                found.append(topic)
    return found


def _limits(path: Path, problems: list[str]) -> Limits:
    block = read(
        path / "limits.toml", problems, missing="restore it; each limit is described in the file we ship"
    )
    if block is None:
        return Limits()
    names = [one.name for one in dataclasses.fields(Limits)]
    block.only(*names)
    if not block.values:
        block.problem(f"it sets no limit; write at least one of {', '.join(names)}")
    default = Limits()
    return Limits(**{name: block.number(name, getattr(default, name), least=1) for name in names})
