"""Mosquitto's `acl_file`, read as Mosquitto 2.0 reads it.

Mosquitto compares a topic with a user's own `deny` lines first, then with its other `topic` lines, then with
all `pattern deny` lines, then with the other patterns; the first that matches decides, and what none matches
is denied. So a user's own line wins over a pattern that denies. Lines with which Mosquitto would not start
are problems of the import, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from gateway.mqtt.topics import TOPIC_BYTES_MAX, TOPIC_LEVELS_MAX
from gateway.policy.engine.identity import is_device_id
from gateway.policy.engine.rules import Action
from gateway.policy.files.toml_document import PolicyError
from gateway.policy.imports.intermediate_model import (
    ANONYMOUS,
    AccessLine,
    AccessList,
    CommonRole,
    Finding,
    SourceUser,
    refuse_nul,
)
from gateway.policy.imports.mosquitto_line_translation import (
    access_line,
    literal_levels,
    pattern_levels,
    with_device,
)
from gateway.policy.imports.wrong_file_kind import FileKind, demand_kind

_BLANKS = " \t\n\v\f\r"
_ACTIONS = (Action.PUBLISH, Action.SUBSCRIBE)
_ACCESS = {
    "read": frozenset({Action.SUBSCRIBE}),
    "write": frozenset({Action.PUBLISH}),
    "readwrite": frozenset(_ACTIONS),
    "deny": frozenset(_ACTIONS),
}
_EVERYONE = "everyone"
_NAMES = re.compile("%[uc]")

_SUBSCRIBING = (
    "Mosquitto takes every SUBSCRIBE and holds back what may not be read. The gateway does so where a rule "
    "allows a part of the filter, and refuses one of which nothing may be read, and $share/<group>/<filter> "
    "unless one rule covers all of the filter"
)
_DANGEROUS_CLIENT_IDS = (
    "a client whose id has + or # gets nothing from patterns in Mosquitto. In the gateway rights are the "
    "device's, whatever client id it chooses: with such an id it gets nothing from rules with {client}, and "
    "everything from the others. Nothing has to be done"
)
_CLIENT_IDS = (
    "%c: a client id that is not one plain level (empty, with / + or #, or with $ at the beginning of the "
    "topic) matches nothing in the gateway; Mosquitto puts in every one without + and #"
)
_LITERALLY = (
    "has %u or %c, which Mosquitto takes literally in a topic line, and so does the gateway; did you mean "
    "pattern? Then correct the file"
)
_PART_OF_A_LEVEL = (
    "%u is only a part of a level, and no placeholder is: it is written out for every user that the files "
    "name, as Mosquitto 2.0 does; whoever gets the role of the patterns later lacks this line. Mosquitto 2.1 "
    "takes such a %u literally, so that the line allows and denies nothing in it: if yours is 2.1, remove it "
    "before the import"
)
_LEVELS_IN_A_NAME = (
    "the user name has more than one level, and all of it is put in for %u, as Mosquitto 2.0 does. Mosquitto "
    "2.1 puts no such name in, so that in it the line allows and denies this user nothing"
)


@dataclass(frozen=True, slots=True)
class _AclLine:
    """One `topic` or `pattern` line."""

    allow: bool
    actions: frozenset[Action]
    topic: str
    """As written."""
    location: str
    """`file:line`."""
    is_pattern: bool


class AclFile:
    """Who may do what, by one file. Users that it doesn't name may be added: patterns apply to them, too."""

    takes_every_subscribe = True

    def __init__(self, raw: bytes, file: str, others: Iterable[tuple[str, str]] = ()) -> None:
        """Read the file. Raises PolicyError with all lines with which Mosquitto would not start.

        `others` are further users, each with the location (`file:line`) where it is named.
        """
        self.file = file
        self._patterns: list[_AclLine] = []
        self._own: dict[str | None, list[_AclLine]] = {}
        self._named: dict[str | None, str] = {}
        self._findings: dict[Finding, None] = {}
        problems: list[str] = []
        # Bytes that are no UTF-8 are in no topic name: such a line matches nothing, and that is listed.
        self._read(raw.decode("utf-8", "surrogateescape"), problems)
        if problems:
            raise PolicyError(problems)
        for user, location in others:
            self._named.setdefault(user, location)
        self.common_roles = (self._everyone(),) if self._patterns else ()
        self.users = tuple(self._source_user(user, location) for user, location in self._named.items())
        self._list_what_holds_throughout()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the gateway does differently than Mosquitto, and what else has to be known."""
        return tuple(self._findings)

    def _read(self, text: str, problems: list[str]) -> None:
        user: str | None = None
        refuse_nul(text, self.file)
        demand_kind(FileKind.ACL, text, self.file)
        for number, raw_line in enumerate(text.split("\n"), start=1):
            line = raw_line.rstrip(_BLANKS)
            word, _, rest = line.lstrip(" ").partition(" ")
            rest = rest.lstrip(" ")  # a tab is a part of the word after it, as in Mosquitto
            location = f"{self.file}:{number}"
            fault = None
            if line[:1] == "#" or not word:
                continue
            if word in {"topic", "pattern"}:
                fault = self._add_line(rest, location, user, is_pattern=word == "pattern")
            elif word == "user":
                user = rest.lstrip(_BLANKS)
                fault = None if user else "the name is missing"
                self._named.setdefault(user, location)
            else:
                # Never shown: whoever names the wrong file may have secrets in it.
                fault = "begins with none of topic, pattern and user (a comment begins in the first column)"
            if fault:
                problems.append(f"{location}: {fault}; Mosquitto does not start with this line: correct it")

    def _add_line(self, text: str, location: str, user: str | None, *, is_pattern: bool) -> str | None:
        if not text:
            return "the topic is missing"
        access, _, topic = text.partition(" ")
        topic = topic.strip(_BLANKS)
        if not topic:  # as in `topic read`, which is about a topic named read
            access, topic = "readwrite", access
        if access not in _ACCESS:
            return f'"{access}" is none of {", ".join(_ACCESS)}'
        if fault := _fault(topic):
            return fault
        acl_line = _AclLine(access != "deny", _ACCESS[access], topic, location, is_pattern)
        if is_pattern:
            self._patterns.append(acl_line)
        else:
            self._own.setdefault(user, []).append(acl_line)
            self._named.setdefault(user, location)
        return None

    def _everyone(self) -> CommonRole:
        """The patterns, for a user of whom nothing else is known."""
        access_lists: dict[Action, tuple[AccessList, ...]] = {}
        for action in _ACTIONS:
            found = []
            for acl_line in _sorted(self._patterns, action):
                levels = pattern_levels(acl_line.topic, None)
                made, finding = access_line(
                    levels,
                    as_matched=acl_line.topic,
                    allow=acl_line.allow,
                    action=action,
                    location=acl_line.location,
                )
                if any("%u" in level and level != "%u" for level in acl_line.topic.split("/")):
                    finding = Finding("differs", acl_line.location, _PART_OF_A_LEVEL)
                self._list(finding)
                found.append(made)
            access_lists[action] = (tuple(found),)
        return CommonRole(_EVERYONE, f"What every user may do: the patterns of {self.file}.", access_lists)

    def _source_user(self, user: str | None, location: str) -> SourceUser:
        patterns = self._patterns
        if user is None:
            patterns = [acl_line for acl_line in patterns if "%u" not in acl_line.topic]
        elif "+" in user or "#" in user:
            patterns = []  # Mosquitto then refuses by every pattern, for CVE-2017-7650
        client = user if user is not None and is_device_id(user) else "client"
        access_lists: dict[Action, tuple[AccessList, ...]] = {}
        for action in _ACTIONS:
            acl_lines = _sorted(self._own.get(user, []), action) + _sorted(patterns, action)
            access_lists[action] = (
                tuple(self._line(acl_line, action, user or "", client) for acl_line in acl_lines),
            )
        putting_in = [acl_line for acl_line in patterns if user is not None and "%u" in acl_line.topic]
        with_name = tuple(dict.fromkeys(acl_line.topic.replace("%u", user or "") for acl_line in putting_in))
        for acl_line in putting_in if user is not None and "/" in user else ():
            self._list(Finding("differs", acl_line.location, _LEVELS_IN_A_NAME, user=user))
        return SourceUser(
            user, client, location, access_lists, tuple(role.name for role in self.common_roles), with_name
        )

    def _line(self, acl_line: _AclLine, action: Action, user: str, client: str) -> AccessLine:
        as_matched, levels = acl_line.topic, literal_levels(acl_line.topic)
        if acl_line.is_pattern:
            as_matched = _NAMES.sub(lambda name: user if name[0] == "%u" else client, as_matched)
            levels = pattern_levels(acl_line.topic, user)
        found, finding = access_line(
            levels, as_matched=as_matched, allow=acl_line.allow, action=action, location=acl_line.location
        )
        if finding and finding.topics and acl_line.is_pattern:  # listed once for all users
            finding = replace(finding, topics=with_device(finding.topics, user))
        self._list(finding)
        return found

    def _list(self, finding: Finding | None) -> None:
        if finding:
            self._findings[finding] = None

    def _list_what_holds_throughout(self) -> None:
        self._list(Finding("differs", self.file, _SUBSCRIBING, action=Action.SUBSCRIBE))
        for acl_line in (acl_line for acl_lines in self._own.values() for acl_line in acl_lines):
            if _NAMES.search(acl_line.topic):
                self._list(Finding("note", acl_line.location, _LITERALLY))
        for acl_line in self._own.get(None, []):
            self._list(Finding("differs", acl_line.location, ANONYMOUS))
        if self._patterns:
            self._list(Finding("differs", self._patterns[0].location, _DANGEROUS_CLIENT_IDS))
        for acl_line in self._patterns:
            if "%c" in acl_line.topic:
                self._list(Finding("differs", acl_line.location, _CLIENT_IDS))


def _sorted(acl_lines: list[_AclLine], action: Action) -> list[_AclLine]:
    """The lines about an action, in the order in which Mosquitto compares them."""
    return sorted(
        (acl_line for acl_line in acl_lines if action in acl_line.actions),
        key=lambda acl_line: acl_line.allow,
    )


def _fault(topic: str) -> str | None:
    """Why Mosquitto does not accept this filter; None if it does."""
    levels = topic.split("/")
    if any("+" in level and level != "+" for level in levels):
        return f'"{topic}" has a + that is not a whole level'
    if any("#" in level and level != "#" for level in levels) or "#" in levels[:-1]:
        return f'"{topic}" has a # that is not its whole last level (no comment may follow a topic)'
    if len(levels) > TOPIC_LEVELS_MAX:
        return f"the topic has more than {TOPIC_LEVELS_MAX} levels"
    if len(topic.encode("utf-8", "surrogateescape")) > TOPIC_BYTES_MAX:
        return f"the topic is longer than {TOPIC_BYTES_MAX:,} bytes"
    return None
