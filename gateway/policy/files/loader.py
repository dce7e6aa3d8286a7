"""Makes the files of `acl/` into a `Policy`: all of them together, or none.

All problems of all files are collected and reported together, each with its file and line. Nothing is
guessed: a file that is missing, empty or unreadable, or has an unknown key, is a problem, since brokers have
let everybody in because of an empty file (CVE-2018-12550, CVE-2018-12551). It reads files, so call it off the
event loop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from gateway.mqtt.topics import filter_fault
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Policy, Role
from gateway.policy.files.invariants import Invariant, check_invariants, read_invariants
from gateway.policy.files.policy_tests import read_cases
from gateway.policy.files.role_files import read_roles
from gateway.policy.files.toml_document import PolicyError, read
from gateway.policy.files.topic_groups import Groups, read_groups, written_out
from gateway.system.file_errors import why

__all__ = ["PolicyError", "load_policy", "read_policy"]

_FILES = ("encryption.toml", "limits.toml", "topics.toml", "cases.toml", "invariants.toml")


def load_policy(path: Path, *, reserved: str) -> Policy:
    """The policy in the folder `path`. Raises PolicyError, with every problem, if there is any.

    An invariant that does not hold is a problem, too. `reserved` is the prefix of the service topics
    (`SERVICE_TOPIC_PREFIX`).
    """
    policy, invariants = read_policy(path, reserved=reserved)
    problems = [outcome.problem for outcome in check_invariants(policy, invariants) if outcome.problem]
    if problems:
        raise PolicyError(problems)
    return policy


def read_policy(path: Path, *, reserved: str) -> tuple[Policy, tuple[Invariant, ...]]:
    """The policy, and its invariants, which were not checked: never put this policy in force.

    It is for commands that report what is wrong with it. Raises PolicyError, except for invariants.
    """
    problems = list(_unknown_files(path))
    groups = read_groups(path, problems)
    roles = tuple(_roles(path / "roles", groups, problems))
    sensitive = _sensitive(path, groups, problems)
    limits = _limits(path, problems)
    # A role whose file has a problem counts as known, lest its cases become further problems.
    names = {role.name for role in roles} | {file.stem for file in path.glob("roles/*.toml")}
    read_cases(path, names, problems)
    invariants = read_invariants(path, names, problems)
    if problems:
        raise PolicyError(problems)
    try:
        policy = Policy(roles, sensitive=sensitive, limits=limits, reserved=reserved, groups=groups)
    except ValueError as error:
        raise PolicyError([f"{path}: {error}"]) from error
    return policy, invariants


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder, without dot files (editors and Kubernetes make those). Raises PolicyError."""
    try:
        return sorted(entry for entry in folder.iterdir() if entry.name[0] != ".")
    except OSError as error:
        reason = f"{folder}: the folder can't be read ({why(folder, error)}); see ACL_PATH and acl/README.md"
        raise PolicyError([reason]) from error


def _unknown_files(path: Path) -> Iterator[str]:
    """A misspelt name would be a file that nobody reads, and its denies in force only for its author."""
    for entry in _entries(path):
        if entry.name not in (*_FILES, "roles") and _looks_meant(entry):
            known = ", ".join(("roles/*.toml", *_FILES))
            yield f"{entry}: not a file of the policy; rename or remove it (known: {known})"


def _looks_meant(entry: Path) -> bool:
    """Whether somebody may expect it to be read: TOML, or a folder with TOML, but not notes or lost+found."""
    return any(one.suffix.lower() == ".toml" for one in (entry, *entry.glob("*")))


def _roles(folder: Path, groups: Groups, problems: list[str]) -> Iterator[Role]:
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
    yield from read_roles(files, groups, problems)


def _sensitive(path: Path, groups: Groups, problems: list[str]) -> list[str]:
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
        for named, line in inner.strings("topics"):
            for topic in written_out(named, line, inner, groups):
                if fault := _sensitive_fault(topic):
                    inner.problem(f'the topic "{topic}" {fault}', line=line)
                else:
                    found.append(topic)
    return found


def _sensitive_fault(topic: str) -> str | None:
    if "{" in topic or "}" in topic:
        return "has a placeholder; here + stands for any device"
    if topic.startswith("$share/"):
        return filter_fault(topic) or "begins with $share; write the filter after it"
    return filter_fault(topic)


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
