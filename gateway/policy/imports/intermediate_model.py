"""What every source says in the same words: who there is, which lines are asked, and what is lost.

Plain values. A source knows its own file format and nothing of roles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from gateway.mqtt.topics import matches
from gateway.policy.engine.rules import Action
from gateway.policy.files.toml_document import PolicyError

BRIDGE_STATE = "$SYS/broker/connection/+/state"
"""The only topics below `$SYS` that Mosquitto lets a client publish to, for bridges."""

ANONYMOUS = (
    "is about clients without a user name, and the gateway lets none in; the rule is in a role that no "
    "device has yet"
)

DEFAULT_ACCESS = "(default access)"
"""Ends a place where no line of rights stands."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a list that is asked from its beginning: the first that matches decides."""

    allow: bool
    there: str
    """The filter as Mosquitto matches it for the user and the client id of the subject."""
    topic: str | None
    """The same as the topic of a rule of ours; None when no rule can say it."""
    place: str
    """`file:line`, and what stands there if that is no line of rights: `file:line (default access)`."""


Steps = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Lines that several users have in common: Mosquitto's patterns, a role of its dynamic security."""

    name: str
    description: str
    lists: Mapping[Action, tuple[Steps, ...]]


@dataclass(frozen=True, slots=True)
class Subject:
    """One user of the source, and everything that is asked about it."""

    user: str | None
    """None: whoever comes without a user name."""
    client: str
    """The client id that is asked about: its user name, if that is a device id."""
    place: str
    lists: Mapping[Action, tuple[Steps, ...]]
    """For each action the lists that have to allow it, all of them."""
    parts: tuple[str, ...]
    """Names of the parts that its lists contain."""
    named: tuple[str, ...] = ()
    """Topics in which its name was put."""

    def allowed_there(self, action: Action, topic: str) -> bool:
        """What Mosquitto answers about a topic name."""
        if topic.startswith("$share"):
            return False  # before it looks at any rule
        if action is Action.PUBLISH and topic.startswith("$SYS") and not matches(BRIDGE_STATE, topic):
            return False
        return all(step is not None and step.allow for step in self._asked(action, topic))

    def decided_by(self, action: Action, topic: str) -> str:
        """The place of the line that decides there: one that denies, else one that somebody wrote."""
        found = [step for step in self._asked(action, topic) if step]
        found.sort(key=lambda step: (step.allow, step.place.endswith(DEFAULT_ACCESS)))
        return found[0].place if found else self.place

    def _asked(self, action: Action, topic: str) -> list[Step | None]:
        """The first line that matches, of each list."""
        return [
            next((step for step in steps if matches(step.there, topic)), None) for steps in self.lists[action]
        ]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was, or that whoever imports has to know."""

    kind: Literal["differs", "note"]
    """`differs`: some question gets a different answer here than there."""
    place: str
    """`file:line`, or the file for what holds throughout."""
    text: str
    user: str | None = None
    """Whom it concerns; None: everybody."""
    action: Action | None = None
    topics: str | None = None
    """A filter, perhaps with placeholders, of all topics with a different answer; None: no filter does."""

    def explains(self, user: str | None, client: str, action: Action, topic: str) -> bool:
        """Whether it says that this question may get a different answer here."""
        if self.kind != "differs" or self.topics is None or self.user not in {None, user}:
            return False
        resolved = self.topics.replace("{device}", user or "+").replace("{client}", client)
        return self.action in {None, action} and matches(resolved, topic)


@dataclass(frozen=True, slots=True)
class Account:
    """A user that may log in."""

    user: str
    hashed: str
    """As it stands in the file; whether it is a hash shows later. Never shown."""
    place: str

    def __repr__(self) -> str:
        return f"Account({self.user!r}, {self.place!r})"


class Source(Protocol):
    """What was read."""

    @property
    def file(self) -> str:
        """The file that says who may do what."""

    @property
    def takes_every_subscribe(self) -> bool:
        """Whether every SUBSCRIBE is granted, whatever may be delivered."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """What several subjects have in common."""

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """Everybody it knows."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the source itself knows of that can't be as it was."""


def refuse_nul(text: str, file: str) -> None:
    """Raises PolicyError where there is a NUL: Mosquitto leaves out the lines after one, silently."""
    before, nul, _ = text.partition("\0")
    if nul:
        line = before.count("\n") + 1
        raise PolicyError([f"{file}:{line}: it has a NUL byte, where Mosquitto stops reading; remove it"])
