"""What every import source consists of: its users, their access lists, and what differs in the gateway.

Plain values. An import source is what was read from the files of one Mosquitto; it knows their format, and
nothing of the gateway's roles.
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
"""Ends the location of a default access, which is not an access line of its own: `file:line (default
access)`."""


@dataclass(frozen=True, slots=True)
class AccessLine:
    """One line of an access list: it allows or denies an action on the topics that it matches."""

    allow: bool
    as_matched: str
    """The filter as Mosquitto matches it, with the user's name and client id filled in for %u and %c."""
    topic: str | None
    """The topic of a gateway rule that matches the same, with placeholders; None if no rule can."""
    location: str
    """`file:line`; for a default access with `DEFAULT_ACCESS` appended."""


AccessList = tuple[AccessLine, ...]
"""Lines in the order in which Mosquitto compares them, for one action: the first that matches decides."""


@dataclass(frozen=True, slots=True)
class CommonRole:
    """What several users of a source have in common: Mosquitto's patterns, or a role of dynamic security.

    It becomes a role of the gateway, given to each user for whom it allows and denies no more than the source
    does.
    """

    name: str
    description: str
    access_lists: Mapping[Action, tuple[AccessList, ...]]
    """For each action, the lists, all of which have to allow it."""


@dataclass(frozen=True, slots=True)
class SourceUser:
    """One user of the source, and the access lists by which Mosquitto decides for it."""

    user: str | None
    """Its name. None: clients without a user name."""
    client: str
    """The client id to test its rights with: its user name, if that is a device id."""
    location: str
    """`file:line` where the user is first named."""
    access_lists: Mapping[Action, tuple[AccessList, ...]]
    """For each action, the lists, all of which have to allow it."""
    common_roles: tuple[str, ...]
    """Names of the common roles whose lines are part of its access lists."""
    topics_with_name: tuple[str, ...] = ()
    """Topics in which the user's name was filled in for %u."""

    def allowed_in_mosquitto(self, action: Action, topic: str) -> bool:
        """Whether Mosquitto allows it on this topic name."""
        if topic.startswith("$share"):
            return False  # before it looks at any rule
        if action is Action.PUBLISH and topic.startswith("$SYS") and not matches(BRIDGE_STATE, topic):
            return False
        return all(line is not None and line.allow for line in self._deciding_lines(action, topic))

    def deciding_location(self, action: Action, topic: str) -> str:
        """Location of the line by which Mosquitto decides: of several a deny, else not a default access."""
        found = [line for line in self._deciding_lines(action, topic) if line]
        found.sort(key=lambda line: (line.allow, line.location.endswith(DEFAULT_ACCESS)))
        return found[0].location if found else self.location

    def _deciding_lines(self, action: Action, topic: str) -> list[AccessLine | None]:
        """The first line that matches, of each list."""
        return [
            next((line for line in access_list if matches(line.as_matched, topic)), None)
            for access_list in self.access_lists[action]
        ]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the gateway does differently than Mosquitto, or that whoever imports has to know."""

    kind: Literal["differs", "note"]
    """`differs`: the gateway decides something differently than Mosquitto; `note`: it does not."""
    location: str
    """`file:line`, or the file for what holds throughout."""
    text: str
    user: str | None = None
    """Whom it concerns; None: everybody."""
    action: Action | None = None
    """The action that it is about; None: any."""
    topics: str | None = None
    """A filter, perhaps with placeholders, of all topics that are decided differently; None: no filter is
    known."""

    def explains(self, user: str | None, client: str, action: Action, topic: str) -> bool:
        """Whether it says that the gateway may decide this differently than Mosquitto."""
        if self.kind != "differs" or self.topics is None or self.user not in {None, user}:
            return False
        resolved = self.topics.replace("{device}", user or "+").replace("{client}", client)
        return self.action in {None, action} and matches(resolved, topic)


@dataclass(frozen=True, slots=True)
class Account:
    """A user that may log in."""

    user: str
    hashed: str
    """The password hash as it is in the file, not checked yet. Never shown."""
    location: str
    """`file:line`."""

    def __repr__(self) -> str:
        return f"Account({self.user!r}, {self.location!r})"


class ImportSource(Protocol):
    """What was read of Mosquitto's files."""

    @property
    def file(self) -> str:
        """The file that says who may do what."""

    @property
    def takes_every_subscribe(self) -> bool:
        """Whether every SUBSCRIBE is granted, whatever may be delivered."""

    @property
    def common_roles(self) -> tuple[CommonRole, ...]:
        """What several of its users have in common."""

    @property
    def users(self) -> tuple[SourceUser, ...]:
        """Its users; also clients without a user name, if a line is about them."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings that follow from its files alone, whatever roles are made of them."""


def refuse_nul(text: str, file: str) -> None:
    """Raise PolicyError if there is a NUL byte: Mosquitto silently ignores everything after one."""
    before, nul, _ = text.partition("\0")
    if nul:
        line = before.count("\n") + 1
        raise PolicyError([f"{file}:{line}: it has a NUL byte, where Mosquitto stops reading; remove it"])
