"""Assertions that have to hold whatever is changed in the policy: `acl/invariants.toml`.

`load_policy` checks them at each load: a policy that breaks an invariant is not put in force. Invariants are
about roles only, since the files define roles; which device has which role is in the store.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.policy.analysis.assertion_syntax import ANY, Assertion, AssertionFault, parse
from gateway.policy.analysis.decision_explanation import describe
from gateway.policy.analysis.prover import Prover
from gateway.policy.analysis.representative_cases import Undecided
from gateway.policy.engine.policy import Policy
from gateway.policy.files.toml_document import Block, read


@dataclass(frozen=True, slots=True)
class Invariant:
    """One `[[invariant]]`."""

    assertion: Assertion
    why: str
    """The reason that its author gives; may be empty."""
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether an invariant holds."""

    invariant: Invariant
    problem: str
    """Why it does not hold, as `PolicyError.problems` have it; "" if it holds."""


def read_invariants(path: Path, roles: Iterable[str], problems: list[str]) -> tuple[Invariant, ...]:
    """The invariants in the folder `path` that can be read; what is wrong is added to `problems`."""
    file = path / "invariants.toml"
    if not os.path.lexists(file):  # Path.exists raises where the folder may not be searched
        return ()
    block = read(file, problems, missing="restore it or remove the link")
    if block is None:
        return ()
    block.only("invariant")
    if "invariant" not in block.values:
        block.problem("it has no invariant; write an [[invariant]], or remove the file")
    known = frozenset(roles)
    found = (_invariant(inner, known) for inner in block.blocks("invariant"))
    return tuple(one for one in found if one is not None)


def _invariant(block: Block, known: frozenset[str]) -> Invariant | None:
    block.only("holds", "why")
    text, why = block.text("holds"), block.text("why", "")
    if not isinstance(block.values.get("holds"), str):
        return None
    try:
        assertion = parse(text)
    except AssertionFault as error:
        block.problem(f'"{text}" says nothing that can be decided: {error}', key="holds")
        return None
    if assertion.devices:
        block.problem(
            "an invariant speaks of roles; ask about a device with `gateway-admin acl prove`", key="holds"
        )
        return None
    for role in assertion.roles:
        if role != ANY and role not in known:
            block.problem(
                f'there is no role "{role}"; write {block.beside(f"roles/{role}.toml")} or correct it',
                key="holds",
            )
            return None
    return Invariant(assertion, why, block.file, block.lines.keys.get("holds", block.line))


def check_invariants(policy: Policy, invariants: Iterable[Invariant]) -> tuple[Outcome, ...]:
    """Decide whether each of them holds."""
    prover = Prover(policy)
    return tuple(Outcome(invariant, _problem(prover, invariant)) for invariant in invariants)


def _problem(prover: Prover, invariant: Invariant) -> str:
    text = f'{invariant.file}:{invariant.line}: "{invariant.assertion.text}"'
    try:
        against = prover.prove(invariant.assertion, {}).counterexamples
    except (AssertionFault, Undecided) as error:
        return f"{text} can't be decided: {error}"
    if not against:
        return ""
    first, *others = against
    text += f" does not hold: {first}: {'; '.join(map(describe, first.rules))}"
    if others:
        roles = ", ".join(sorted(one.case.identity.roles[0] for one in others))
        text += f"; the same goes for the role{'' if len(others) == 1 else 's'} {roles}"
    return f"{text} ({invariant.why})" if invariant.why else text
