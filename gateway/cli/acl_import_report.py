"""What `acl import` says it did: one value for scripts, lines for people.

Owns the words about a whole import; what is said about a single line is made where that is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.policy.engine.identity import is_device_id

if TYPE_CHECKING:
    from gateway.policy.imports.intermediate_model import Finding, ImportSource
    from gateway.policy.imports.role_composition import ComposedRoles

ADDED = "added"
_LOCATION = re.compile(r"(.*):(\d+)\b")


@dataclass(slots=True)
class Candidate:
    """A user, and the device that can be made of it."""

    user: str
    roles: tuple[str, ...]
    credential: str | None
    """The hash of its password; None if no device can be made of it."""
    state: str = "would be added"

    def __post_init__(self) -> None:
        if not is_device_id(self.user):
            self.credential, self.state = None, "not added: its name can be no device id"
        elif self.credential is None:
            self.state = "not added: there is no hash of its password, or none that can be used"

    def is_there(self, roles: Sequence[str]) -> None:
        """Note that the user is a device already, and has these roles."""
        self.state = "is there already and was left as it is"
        if {*roles} != {*self.roles}:
            has, would = (", ".join(names) or "none" for names in (roles, self.roles))
            self.state += f": has the roles {has}, would get {would}"


@dataclass(frozen=True, slots=True)
class Report:
    """An import that has been made."""

    source: ImportSource
    composed: ComposedRoles
    candidates: Sequence[Candidate]
    questions: int
    out: Path | None
    missing: Sequence[str]
    """Roles of the devices that were added which `in_force` lacks."""
    in_force: Path
    adds: bool
    """Whether devices were to be added, and not only listed."""

    def value(self) -> Mapping[str, object]:
        """All of it, for a script."""
        composed = self.composed
        return {
            "source": self.source.file,
            "out": None if self.out is None else str(self.out),
            "roles": {draft.role.name: len(draft.role.rules) for draft in composed.drafts},
            "users": [
                {"user": user, "device_id": _device(user), "roles": list(roles)}
                for user, roles in composed.roles_of.items()
            ],
            "differs": [_finding(one) for one in findings_of(composed, "differs")],
            "notes": [_finding(one) for one in findings_of(composed, "note")],
            "cases": self.questions,
            "devices": [
                {
                    "user": one.user,
                    "device_id": _device(one.user),
                    "roles": list(one.roles),
                    "state": one.state,
                }
                for one in self.candidates
            ],
            "roles_not_in_force": list(self.missing),
        }

    def lines(self) -> Iterator[str]:
        """All of it, for people; tabs between columns."""
        composed = self.composed
        users = _counted(sum(user is not None for user in composed.roles_of), "user")
        roles = _counted(len(composed.drafts), "role")
        rules = _counted(sum(len(draft.role.rules) for draft in composed.drafts), "rule")
        yield f"{self.source.file}: {users}; {roles} with {rules}."
        for user, names in composed.roles_of.items():
            yield f"  {'without a user name' if user is None else user}\t{', '.join(names) or 'no right'}"
        for kind, title in (("differs", "Not as in Mosquitto:"), ("note", "To know:")):
            if found := findings_of(self.composed, kind):
                yield title
                yield from (f"  {one.location}: {one.text}." for one in found)
        have = "has" if self.questions == 1 else "have"
        yield f"{_counted(self.questions, 'question')} {have} the same answer as in Mosquitto."
        if self.out is None:
            yield (
                f"No policy was written: {self.in_force} has these roles."
                if self.adds
                else "Nothing was written: name a folder with --out."
            )
        else:
            yield f"Written to {self.out}, the questions as cases.toml. Put it in force: ACL_PATH={self.out}"
        if self.candidates:
            yield "Devices:"
            yield from (f"  {one.user}\t{one.state}" for one in self.candidates)
            if not self.adds and any(one.credential is not None for one in self.candidates):
                yield "To add them: put the roles in force, then say --add-devices instead of --out."
        if self.missing:
            yield (
                f"Still to do: put {self.out} in force (ACL_PATH={self.out}), for {self.in_force} lacks "
                f"roles of these devices: {', '.join(self.missing)}."
            )


def findings_of(composed: ComposedRoles, kind: str) -> list[Finding]:
    """The findings of this kind, by their location."""
    return sorted((one for one in composed.findings if one.kind == kind), key=_by_location)


def _device(user: str | None) -> str | None:
    return user if user is not None and is_device_id(user) else None


def _by_location(one: Finding) -> tuple[str, int]:
    found = _LOCATION.match(one.location)
    return (found[1], int(found[2])) if found else (one.location, 0)


def _finding(one: Finding) -> dict[str, object]:
    return {
        "place": one.location,
        "text": one.text,
        "user": one.user,
        "action": one.action,
        "topics": one.topics,
    }


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
