"""The policy's own tests: `acl/cases.toml`, and the results of running them.

A case is an identity, an action, a topic, and the expected decision. `load_policy` reads them too, so that a
malformed case is reported with everything else. Whether they pass is checked by `gateway-admin acl test`; a
failing case doesn't keep a policy from being put in force.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.mqtt.topics import filter_fault, name_fault
from gateway.policy.engine.identity import Identity, is_device_id, labels_of
from gateway.policy.engine.policy import Action, Decision, Policy
from gateway.policy.files.toml_document import Block, PolicyError, read

_KEYS = ("device", "roles", "labels", "client", "action", "topic", "qos", "retain", "size", "expected")
_MESSAGE = ("qos", "retain", "size")


@dataclass(frozen=True, slots=True)
class Case:
    """One `[[case]]`."""

    identity: Identity
    action: Action
    topic: str
    """A topic name; to subscribe, a filter."""
    qos: int
    retain: bool
    size: int
    """Bytes of payload."""
    expected: bool
    """Whether it should be allowed."""
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case, and what the policy decides on it."""

    case: Case
    decision: Decision

    @property
    def passed(self) -> bool:
        """Whether the decision is the expected one."""
        return self.decision.allowed is self.case.expected

    def __str__(self) -> str:
        case = self.case
        what = f"{case.identity.device_id} {case.action} {case.topic}"
        outcome = "allowed" if self.decision.allowed else "denied"
        expected = "" if self.passed else f", expected {'allow' if case.expected else 'deny'}"
        rule = self.decision.rule
        by = f" ({rule.file}:{rule.line})" if rule else ""
        return f"{case.file}:{case.line}: {what}: {outcome}{expected}: {self.decision.reason}{by}"


def load_cases(path: Path, policy: Policy) -> tuple[Case, ...]:
    """The cases in the folder `path`; none if there is no `cases.toml`. Raises PolicyError."""
    problems: list[str] = []
    cases = read_cases(path, policy.roles.keys(), problems)
    if problems:
        raise PolicyError(problems)
    return cases


def run_cases(policy: Policy, cases: Iterable[Case]) -> tuple[CaseResult, ...]:
    """Have the policy decide on every case."""
    return tuple(CaseResult(case, _check(policy, case)) for case in cases)


def read_cases(path: Path, roles: Iterable[str], problems: list[str]) -> tuple[Case, ...]:
    """The cases of the folder `path`; what is wrong with them is added to `problems`.

    `roles` are the known ones. An unknown role is a problem, for with a misspelt one every denial would
    "pass".
    """
    file = path / "cases.toml"
    if not os.path.lexists(file):  # Path.exists raises where the folder may not be searched
        return ()
    block = read(file, problems, missing="restore it or remove the link")
    if block is None:
        return ()
    block.only("case")
    if "case" not in block.values:
        block.problem("it has no case; write a [[case]], or remove the file")
    known = frozenset(roles)
    return tuple(_case(inner, known) for inner in block.blocks("case"))


def _case(block: Block, known: frozenset[str]) -> Case:
    block.only(*_KEYS)
    action = block.text("action")
    if action and action not in set(Action):
        block.problem(f'unknown action "{action}"; known: {", ".join(Action)}', key="action")
        action = ""
    topic = block.text("topic")
    fault = filter_fault(topic) if action == Action.SUBSCRIBE else name_fault(topic)
    if fault and isinstance(block.values.get("topic"), str):
        block.problem(f'the topic "{topic}" {fault}', key="topic")
    expected = block.text("expected")
    if expected not in {"allow", "deny", ""}:
        block.problem('"expected" has to be "allow" or "deny"', key="expected")
    for key in _MESSAGE:
        if key in block.values and action != Action.PUBLISH:
            block.problem(f'"{key}" is asked of a published message only', key=key)
    return Case(
        identity=_identity(block, known),
        action=Action(action or Action.PUBLISH),
        topic=topic,
        qos=block.number("qos", 0, least=0, most=2),
        retain=block.flag("retain", default=False),
        size=block.number("size", 0, least=0),
        expected=expected == "allow",
        file=block.file,
        line=block.line,
    )


def _identity(block: Block, known: frozenset[str]) -> Identity:
    device = block.text("device")
    if device and not is_device_id(device):
        block.problem(f'"{device}" is no device id: letters, digits and . _ -, and 64 at most', key="device")
    roles = []
    if block.values.get("roles") != []:
        for role, line in block.strings("roles"):
            roles.append(role)
            if role not in known:
                block.problem(
                    f'there is no role "{role}"; write {block.beside(f"roles/{role}.toml")} or correct it',
                    line=line,
                )
    labels = labels_of(block.values.get("labels", {}))
    if labels is None:
        block.problem(
            '"labels" has to be a table of strings: labels = { room = "kitchen" }, or of lists of them',
            key="labels",
        )
    return Identity(device, tuple(roles), labels or {}, block.text("client", device))


def _check(policy: Policy, case: Case) -> Decision:
    rights = policy.rights(case.identity)
    if case.action is Action.SUBSCRIBE:
        return rights.decide_filter(case.topic)
    decision = rights.decide(case.action, case.topic)
    if case.action is Action.PUBLISH:
        return decision.with_message(case.qos, case.retain, case.size)
    return decision
