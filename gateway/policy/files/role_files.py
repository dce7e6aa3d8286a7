"""The role files: `acl/roles/<role>.toml`, one role each.

Owns what such a file may contain. A role may include others and use the groups of `topics.toml`. That the
included roles exist, and that no roles include each other, is checked once all files are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from gateway.policy.engine.device_limits import NOT_IN_ROLES, ROLE_LIMIT_NAMES
from gateway.policy.engine.identity import is_device_id
from gateway.policy.engine.placeholders import rule_topic_fault
from gateway.policy.engine.policy import Action, Effect, Role, Rule
from gateway.policy.engine.rules import OnDeniedWill, OnWideSubscribe
from gateway.policy.files.toml_document import Block, read
from gateway.policy.files.topic_groups import Groups, written_out

_CONDITIONS = ("max_qos", "retain", "max_payload")
_WILL = "says what becomes of a CONNECT whose will is refused"
_SUBSCRIBE = "says what becomes of a SUBSCRIBE that no rule covers wholly"
_Word = TypeVar("_Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class _Include:
    """One name in the `include` of a role."""

    name: str
    line: int
    block: Block


def read_roles(files: Iterable[Path], groups: Groups, problems: list[str]) -> Iterator[Role]:
    """The roles of these files that can be read; what is wrong with others is added to `problems`."""
    files = list(files)
    known = {file.stem for file in files}
    includes: dict[str, list[_Include]] = {}
    for file in files:
        name = file.stem
        if not is_device_id(name):
            problems.append(
                f"{file}: a role's name has only letters, digits and . _ -, and 64 at most; rename it"
            )
        if block := read(file, problems, missing="restore it or remove the link"):
            includes[name] = list(_includes(block, known))
            yield _role(block, name, groups, includes[name])
    _check_circles(includes)


def _role(block: Block, name: str, groups: Groups, includes: list[_Include]) -> Role:
    block.only("description", "will", "subscribe", "include", "limits", "allow", "deny")
    blocks = [(effect, inner) for effect in Effect for inner in block.blocks(effect)]
    if not blocks and not includes:
        # With `>` the shell creates the empty file before the command reads the policy.
        empty = "" if block.values else " (`acl learn` writes it by --out, not by `>`)"
        block.problem(f"the role has no rule; write an [[allow]] block, or remove the file{empty}")
    limits, locations = _limits(block)
    return Role(
        name,
        block.text("description", ""),
        tuple(rule for effect, inner in blocks for rule in _rules(inner, effect, name, groups)),
        _word(block, "will", OnDeniedWill, _WILL),
        _word(block, "subscribe", OnWideSubscribe, _SUBSCRIBE) or OnWideSubscribe.COVER,
        tuple(one.name for one in includes),
        limits,
        locations,
    )


def _word(block: Block, key: str, words: type[_Word], means: str) -> _Word | None:
    if key not in block.values:
        return None
    try:
        return words(block.text(key))
    except ValueError:
        known = " or ".join(f'"{one}"' for one in words)
        block.problem(f'"{key}" {means}: {known}', key=key)
        return None


def _limits(block: Block) -> tuple[Mapping[str, int], Mapping[str, str]]:
    """The limits in the table `[limits]`, and the location of each."""
    table = block.table("limits")
    if table is None:
        return {}, {}
    if not table.values:
        table.problem(f"it sets no limit; write at least one of {', '.join(ROLE_LIMIT_NAMES)}, or remove it")
    for key in table.values:
        if key in NOT_IN_ROLES:
            table.problem(
                f'"{key}" stands in limits.toml alone, for {NOT_IN_ROLES[key]}; in a role: '
                f"{', '.join(ROLE_LIMIT_NAMES)}",
                key=key,
            )
        elif key not in ROLE_LIMIT_NAMES:
            table.problem(f'unknown limit "{key}"; in a role: {", ".join(ROLE_LIMIT_NAMES)}', key=key)
    said = [key for key in ROLE_LIMIT_NAMES if key in table.values]
    return {key: table.number(key, 1, least=1) for key in said}, {key: table.location(key) for key in said}


def _includes(block: Block, known: Iterable[str]) -> Iterator[_Include]:
    if "include" not in block.values:
        return
    for name, line in block.strings("include"):
        if name not in known:
            file = block.beside(f"{name}.toml")
            block.problem(f'there is no role "{name}" to include; write {file} or correct it', line=line)
        else:
            yield _Include(name, line, block)


def _check_circles(includes: Mapping[str, list[_Include]]) -> None:
    """Report each role that includes itself, directly or through others."""
    reported: set[frozenset[str]] = set()
    for start in includes:
        for first in includes[start]:
            path = _path_between(first.name, start, includes)
            if path and frozenset(path) not in reported:
                reported.add(frozenset(path))
                circle = " includes ".join([start, *path])
                first.block.problem(
                    f"roles include each other in a circle: {circle}; remove one", line=first.line
                )


def _path_between(start: str, end: str, includes: Mapping[str, list[_Include]]) -> list[str]:
    """The roles from `start` to `end`, each including the next; empty if there is no such path."""
    paths = {start: [start]}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name == end:
            return paths[name]
        for one in includes.get(name, ()):
            if one.name not in paths:
                paths[one.name] = [*paths[name], one.name]
                waiting.append(one.name)
    return []


def _rules(block: Block, effect: Effect, role: str, groups: Groups) -> Iterator[Rule]:
    """The rules of one `[[allow]]` or `[[deny]]` block: one for each of its topics."""
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
    for named, line in block.strings("topics"):
        for topic in written_out(named, line, block, groups):
            if fault := rule_topic_fault(topic):
                block.problem(f'the topic "{topic}" {fault}', line=line)
                continue
            group = "" if topic == named else named[1:]
            yield Rule(
                effect, frozenset(actions), topic, max_qos, retain, max_payload, role, block.file, line, group
            )


def _check_conditions(block: Block, effect: Effect, actions: set[Action]) -> None:
    """Report conditions that would have no effect, for their author relies on them."""
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
