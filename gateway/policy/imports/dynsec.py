"""The file of Mosquitto's dynamic security plugin (`dynamic-security.json`), as version 2.0 judges by it.

A client's roles are asked by priority, then those of its groups, and in each role its rules by priority:
the first that matches decides; else the default access does. Roles and groups of one priority go by
name, rules by their place. A message is delivered when the subscription was allowed and its receipt is,
and both lists have to allow what `subscribe` gives here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core.identity import is_device_id
from gateway.core.rules import Action
from gateway.policy.document import PolicyError
from gateway.policy.imports.located_json import Located, parse
from gateway.policy.imports.source import (
    ANONYMOUS,
    Account,
    Finding,
    Part,
    Step,
    Steps,
    Subject,
)
from gateway.policy.imports.translate import plain_levels, step

_SEND = "publishClientSend"
_RECEIVE = "publishClientReceive"
_LITERAL = "subscribeLiteral"
_PATTERN = "subscribePattern"
_TYPES = (_SEND, _RECEIVE, _LITERAL, _PATTERN, "unsubscribeLiteral", "unsubscribePattern")
_EVERYTHING = ("#", "$SYS/#")
"""What a default covers, as far as filters can say it: none reaches all topics that begin with `$`."""

_SUBSCRIBING = (
    "Mosquitto looks up a SUBSCRIBE's filter as it is written, `$share/<group>/` and all; the gateway takes "
    "it when one rule covers the filter behind $share, and refuses it else"
)
_UNSUBSCRIBING = "Mosquitto may refuse an UNSUBSCRIBE; the gateway never does"
_DOLLAR = (
    "gives all topics that begin with $; of these only $SYS/# is carried over: write rules for others that "
    "are in use"
)
_DENIED_FILTER = (
    "refuses a SUBSCRIBE within {0}, but what is published there is delivered to wider subscriptions; here "
    "it is not delivered at all"
)
_DENIED_WILDCARD = (
    "refuses a SUBSCRIBE to {0} itself and to nothing else; no rule says that, and it is left out: such a "
    "SUBSCRIBE is allowed here when a rule covers it"
)
_DENIED_GROUP = "refuses shared subscriptions to {0}; no rule says that, and it is left out"
_LITERALLY = "has %u or %c, which Mosquitto 2.0 takes literally, and so it is here; 2.1 puts in the names"


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: str
    topic: str
    priority: int
    allow: bool
    place: str


_Asked = tuple[Step | None, str]
"""A step, and the filter if it is about that very filter alone. Without a step: the filter is refused."""


class DynSec:
    """Who may do what, and who may log in, by one file."""

    def __init__(self, raw: bytes, file: str) -> None:
        """Read it. Raises PolicyError with everything that is not of its form."""
        self.file = file
        self._findings: dict[Finding, None] = {}
        problems: list[str] = []
        whole = parse(raw, file, problems)
        self._tell_unknown(whole, "defaultACLAccess", "clients", "groups", "roles", "anonymousGroup")
        self._defaults = self._read_defaults(whole.object("defaultACLAccess"))
        roles = _by_name(whole.objects("roles"), "rolename")
        groups = _by_name(whole.objects("groups"), "groupname")
        clients = _by_name(whole.objects("clients"), "username")
        self._lists_of_role = {name: self._read_role(role) for name, role in roles.items()}
        roles_of_group, groups_of = self._read_groups(groups, clients)
        subjects, accounts = [], []
        for user, client in clients.items():
            chain = self._named(client, "roles", "rolename", roles)
            for group in _in_order(groups_of[user]):
                chain += roles_of_group[group]
            subjects.append(self._subject(user, client.place, chain))
            accounts += self._read_account(user, client)
        anonymous = whole.text("anonymousGroup", "")
        if anonymous in groups:
            place = groups[anonymous].place
            subjects.append(self._subject(None, place, roles_of_group[anonymous]))
            self._tell(Finding("differs", place, ANONYMOUS))
        if problems:
            raise PolicyError(problems)
        self.subjects, self.accounts = tuple(subjects), tuple(accounts)
        self.parts = tuple(self._part(name, role) for name, role in roles.items())
        self._tell(Finding("differs", file, _SUBSCRIBING, action=Action.SUBSCRIBE))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What can't be as it was."""
        return tuple(self._findings)

    def _tell(self, finding: Finding | None) -> None:
        if finding:
            self._findings[finding] = None

    def _tell_unknown(self, block: Located, *known: str) -> None:
        for key in block.unknown(*known):
            self._tell(Finding("note", block.place, f'the key "{key}" is not known and was not read'))

    def _read_defaults(self, block: Located | None) -> dict[str, Steps]:
        """The steps at the end of each list."""
        if block is None:
            self._tell(Finding("differs", self.file, _UNSUBSCRIBING))
            return {_SEND: (), _RECEIVE: (), "subscribe": ()}
        self._tell_unknown(block, _SEND, _RECEIVE, "subscribe", "unsubscribe")
        if not block.flag("unsubscribe", default=False):
            self._tell(Finding("differs", f"{block.place} (default access)", _UNSUBSCRIBING))
        found: dict[str, Steps] = {}
        for key in (_SEND, _RECEIVE, "subscribe"):
            allowed = block.flag(key, default=False)
            topics = _EVERYTHING[:1] if key == _SEND else _EVERYTHING
            place = f"{block.place} (default access)"
            found[key] = tuple(
                Step(allow=True, there=topic, topic=topic, place=place) for topic in topics if allowed
            )
            if allowed and key != _RECEIVE:
                self._tell(Finding("differs", place, f'"{key}" {_DOLLAR}'))
        return found

    def _read_role(self, role: Located) -> dict[str, tuple[_Asked, ...]]:
        """The steps of a role for each of the three questions."""
        self._tell_unknown(role, "rolename", "textname", "textdescription", "acls")
        rules = []
        for block in role.objects("acls"):
            self._tell_unknown(block, "acltype", "topic", "priority", "allow")
            kinds = {kind.lower(): kind for kind in _TYPES}
            kind = kinds.get(block.text("acltype").lower())
            topic, allow = block.text("topic"), block.flag("allow", default=False)
            if kind is None:
                block.problem(f"the acltype is none of {', '.join(_TYPES)}")
            elif topic:
                rules.append(_Rule(kind, topic, block.number("priority", 0), allow, block.place))
        rules.sort(key=lambda rule: -rule.priority)
        found: dict[str, list[_Asked]] = {_SEND: [], _RECEIVE: [], "subscribe": []}
        for rule in rules:
            if "%u" in rule.topic or "%c" in rule.topic:
                self._tell(Finding("note", rule.place, _LITERALLY))
            if rule.kind == _SEND:
                found[_SEND].append((self._step(rule, rule.topic, Action.PUBLISH), ""))
            elif rule.kind == _RECEIVE:
                found[_RECEIVE].append((self._step(rule, rule.topic, Action.SUBSCRIBE), ""))
            elif rule.kind not in {_LITERAL, _PATTERN} and not rule.allow:
                self._tell(Finding("differs", rule.place, _UNSUBSCRIBING))
        for kind in (_LITERAL, _PATTERN):  # Mosquitto looks for the very filter first
            found["subscribe"] += [
                made for rule in rules if rule.kind == kind for made in self._subscribe_steps(rule)
            ]
        return {key: tuple(steps) for key, steps in found.items()}

    def _subscribe_steps(self, rule: _Rule) -> list[_Asked]:
        """What may be subscribed, as what can be delivered by it."""
        shared = rule.topic.startswith("$share/") and rule.topic.count("/") > 1
        topic = rule.topic.split("/", 2)[2] if shared else rule.topic
        if rule.allow:
            literal = topic if rule.kind == _LITERAL else ""
            steps: list[_Asked] = [(self._step(rule, topic, Action.SUBSCRIBE), literal)]
            if rule.topic == "#" and rule.kind == _PATTERN:
                steps.append((Step(allow=True, there="$SYS/#", topic="$SYS/#", place=rule.place), ""))
                self._tell(Finding("differs", rule.place, f'"{_PATTERN}" {_DOLLAR}'))
            return steps
        if shared:
            self._tell(Finding("differs", rule.place, _DENIED_GROUP.format(topic)))
            return []
        if rule.kind == _LITERAL and ("+" in topic or "#" in topic):
            self._tell(Finding("differs", rule.place, _DENIED_WILDCARD.format(topic)))
            return [(None, topic)]
        text = _DENIED_FILTER.format(topic)
        self._tell(Finding("differs", rule.place, text, action=Action.SUBSCRIBE, topics=topic))
        return [(self._step(rule, topic, Action.SUBSCRIBE), "")]

    def _step(self, rule: _Rule, topic: str, action: Action) -> Step:
        made, finding = step(
            plain_levels(topic), there=topic, allow=rule.allow, action=action, place=rule.place
        )
        self._tell(finding)
        return made

    def _read_groups(
        self, groups: dict[str, Located], clients: dict[str, Located]
    ) -> tuple[dict[str, list[str]], dict[str, dict[str, int]]]:
        """The roles of each group, and each client's groups with their priorities."""
        roles_of: dict[str, list[str]] = {}
        groups_of: dict[str, dict[str, int]] = {user: {} for user in clients}
        for name, group in groups.items():
            self._tell_unknown(group, "groupname", "textname", "textdescription", "roles", "clients")
            roles_of[name] = self._named(group, "roles", "rolename", self._lists_of_role)
            for member in group.objects("clients"):
                user, priority = member.text("username"), member.number("priority", -1)
                if user in clients:
                    groups_of[user].setdefault(name, priority)
                else:
                    self._tell(Finding("note", member.place, f"there is no client {user!r}; left out"))
        for user, client in clients.items():
            for group in client.objects("groups"):
                name = group.text("groupname")
                if name not in groups_of[user]:
                    text = f"Mosquitto goes by the clients of group {name!r}, and {user!r} is none; left out"
                    self._tell(Finding("note", group.place, text))
        return roles_of, groups_of

    def _named(self, block: Located, key: str, name_key: str, known: Iterable[str]) -> list[str]:
        """The names in a list of references, in the order in which they are asked."""
        found: dict[str, int] = {}
        for reference in block.objects(key):
            name, priority = reference.text(name_key), reference.number("priority", -1)
            if name in known:
                found.setdefault(name, priority)
            else:
                self._tell(Finding("note", reference.place, f"there is no role {name!r}; left out"))
        return _in_order(found)

    def _subject(self, user: str | None, place: str, roles: list[str]) -> Subject:
        client = user if user is not None and is_device_id(user) else "client"
        return Subject(user, client, place, self._lists(roles), tuple(dict.fromkeys(roles)))

    def _part(self, name: str, role: Located) -> Part:
        text = role.text("textname", "") or role.text("textdescription", "")
        description = f"{text}: role {name} of {self.file}." if text else f"Role {name} of {self.file}."
        return Part(name, description, self._lists([name]))

    def _lists(self, roles: Iterable[str]) -> dict[Action, tuple[Steps, ...]]:
        steps: dict[str, Steps] = {}
        for key, default in self._defaults.items():
            asked: list[Step] = []
            refused: set[str] = set()
            for one, literal in (one for role in roles for one in self._lists_of_role[role][key]):
                if one is None:
                    refused.add(literal)
                elif literal not in refused:
                    asked.append(one)
            steps[key] = (*asked, *default)
        return {Action.PUBLISH: (steps[_SEND],), Action.SUBSCRIBE: (steps[_RECEIVE], steps["subscribe"])}

    def _read_account(self, user: str, client: Located) -> list[Account]:
        self._tell_unknown(
            client, "username", "clientid", "textname", "textdescription", "disabled", "password", "salt",
            "iterations", "encoded_password", "roles", "groups",
        )  # fmt: skip
        if client.has("clientid"):
            text = f"user {user!r} may come with one client id only; here with any"
            self._tell(Finding("differs", client.place, text, user))
        if client.flag("disabled", default=False):
            text = f"user {user!r} is disabled: no device is made of it"
            self._tell(Finding("note", client.place, text, user))
            return []
        if client.has("encoded_password"):
            return [Account(user, client.text("encoded_password"), client.place)]
        if client.has("password") and client.has("salt"):
            salt, hashed = client.text("salt"), client.text("password")
            return [Account(user, f"$7${client.number('iterations', 0)}${salt}${hashed}", client.place)]
        text = f"user {user!r} has no password, and Mosquitto lets nobody in by it: no device is made of it"
        self._tell(Finding("note", client.place, text, user))
        return []


def _by_name(blocks: Iterable[Located], key: str) -> dict[str, Located]:
    found: dict[str, Located] = {}
    for block in blocks:
        name = block.text(key)
        if name in found:
            block.problem(f"{name!r} is there twice; which one counts is not certain: remove one")
        found[name] = block
    return found


def _in_order(priorities: dict[str, int]) -> list[str]:
    """The highest priority first, and names of one priority by their bytes."""
    return sorted(priorities, key=lambda name: (-priorities[name], name.encode("utf-8", "surrogatepass")))
