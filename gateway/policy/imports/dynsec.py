"""The file of Mosquitto's dynamic security plugin (`dynamic-security.json`), as version 2.1 reads it.

The plugin goes through the roles of a client by priority, then through those of its groups, and in each role
through the rules by priority. The first rule that matches decides; if none does, the default access decides.
Roles and groups with the same priority are ordered by name, rules by their order in the file. A message is
delivered if both the subscription and its receipt are allowed: so both access lists have to allow what a role
of the gateway lets a device `subscribe` to. A level that is %u or %c stands for the user's name or the client
id. A key that this reader does not know may take away rights in Mosquitto, so it is listed as a difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gateway.policy.engine.identity import is_device_id
from gateway.policy.engine.rules import Action
from gateway.policy.files.toml_document import PolicyError
from gateway.policy.imports.intermediate_model import (
    ANONYMOUS,
    DEFAULT_ACCESS,
    AccessLine,
    AccessList,
    Account,
    CommonRole,
    Finding,
    SourceUser,
)
from gateway.policy.imports.located_json import Located, parse
from gateway.policy.imports.mosquitto_line_translation import (
    access_line,
    levels_with_names,
    literal_levels,
    with_device,
)
from gateway.policy.imports.wrong_file_kind import FileKind, demand_kind

_SEND = "publishClientSend"
_RECEIVE = "publishClientReceive"
_LITERAL = "subscribeLiteral"
_PATTERN = "subscribePattern"
_TYPES = (_SEND, _RECEIVE, _LITERAL, _PATTERN, "unsubscribeLiteral", "unsubscribePattern")
_EVERYTHING = ("#", "$SYS/#")
"""The filters that come closest to a default access that allows everything: no filter matches all topics that
begin with `$`."""

_SUBSCRIBING = (
    "Mosquitto looks up a SUBSCRIBE's filter as it is written, `$share/<group>/` and all; the gateway takes "
    "it when one rule covers the filter after $share, and refuses it else"
)
_UNSUBSCRIBING = "Mosquitto may refuse an UNSUBSCRIBE; the gateway never does"
_DOLLAR = (
    "gives all topics that begin with $; of these only $SYS/# is carried over: write rules for others that "
    "are in use"
)
_DENIED_FILTER = (
    "refuses a SUBSCRIBE within {0}, but what is published there Mosquitto delivers to wider subscriptions; "
    "the gateway does not deliver it at all"
)
_DENIED_WILDCARD = (
    "refuses a SUBSCRIBE to {0} itself and to nothing else; no rule can, and it is left out: the gateway "
    "allows such a SUBSCRIBE when a rule covers it"
)
_DENIED_GROUP = "refuses shared subscriptions to {0}; no rule can, and it is left out"
_NAMES = (
    "has %u or %c as a level, which is taken for the user's name or the client id, as by Mosquitto 2.1; 2.0 "
    "takes it literally, and gives nobody anything by it"
)
_PART_OF_A_LEVEL = (
    "has %u or %c as a part of a level, which Mosquitto takes literally, and so does the gateway"
)
_UNKNOWN = (
    'the key "{}" is not known and was not read: if it takes a right away in Mosquitto, it does not in the '
    "gateway. Take it out of the file, or write what it denies into the roles that come of this, before "
    "these are in force"
)
_NO_WILDCARDS = (
    'role {!r} has "allowwildcardsubs": false, so that Mosquitto 2.1 refuses a SUBSCRIBE with + or # by it; '
    "the gateway allows one when a rule covers all of it. Name single topics in the role's rules if that "
    "matters"
)
_NEVER_GRANTED = (
    'grants nothing in Mosquitto 2.1, for its role has "allowwildcardsubs": false, and is left out'
)


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: str
    topic: str
    priority: int
    allow: bool
    location: str
    """`file:line`."""


_SubscribeLine = tuple[AccessLine | None, str]
"""An access line, and the filter of a SUBSCRIBE if the line is about that very filter alone, else "".

None stands for a line that refuses this filter: no rule can say it, but no later line may allow it.
"""


class DynSec:
    """Who may do what, and who may log in, by one file."""

    takes_every_subscribe = False

    def __init__(self, raw: bytes, file: str) -> None:
        """Read the file. Raises PolicyError with everything that is not as in a file of the plugin."""
        self.file = file
        self._findings: dict[Finding, None] = {}
        problems: list[str] = []
        demand_kind(FileKind.JSON, raw.decode("utf-8", "replace"), file)
        whole = parse(raw, file, problems)
        self._list_unknown(
            whole, "defaultACLAccess", "clients", "groups", "roles", "anonymousGroup", "changeIndex"
        )
        self._defaults = self._read_defaults(whole.object("defaultACLAccess"))
        roles = _by_name(whole.objects("roles"), "rolename")
        groups = _by_name(whole.objects("groups"), "groupname")
        clients = _by_name(whole.objects("clients"), "username")
        self._rules_of_role = {name: self._read_role(name, role) for name, role in roles.items()}
        self._lines_of_role: dict[tuple[str, str | None], dict[str, tuple[_SubscribeLine, ...]]] = {}
        roles_of_group, groups_of = self._read_groups(groups, clients)
        source_users, accounts = [], []
        for user, client in clients.items():
            in_order = self._referenced(client, "roles", "rolename", roles)
            for group in _by_priority(groups_of[user]):
                in_order += roles_of_group[group]
            source_users.append(self._source_user(user, client.location, in_order))
            accounts += self._read_account(user, client)
        anonymous = whole.text("anonymousGroup", "")
        if anonymous in groups:
            location = groups[anonymous].location
            source_users.append(self._source_user(None, location, roles_of_group[anonymous]))
            self._list(Finding("differs", location, ANONYMOUS))
        if problems:
            raise PolicyError(problems)
        self.users, self.accounts = tuple(source_users), tuple(accounts)
        self.common_roles = tuple(self._common_role(name, role) for name, role in roles.items())
        self._list(Finding("differs", file, _SUBSCRIBING, action=Action.SUBSCRIBE))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the gateway does differently than Mosquitto, and what else has to be known."""
        return tuple(self._findings)

    def _list(self, finding: Finding | None) -> None:
        if finding:
            self._findings[finding] = None

    def _list_unknown(self, block: Located, *known: str) -> None:
        for key in block.unknown(*known):
            self._list(Finding("differs", block.location, _UNKNOWN.format(key)))

    def _read_defaults(self, block: Located | None) -> dict[str, AccessList]:
        """The default access, as lines to append to each access list."""
        if block is None:
            self._list(Finding("differs", self.file, _UNSUBSCRIBING))
            return {_SEND: (), _RECEIVE: (), "subscribe": ()}
        self._list_unknown(block, _SEND, _RECEIVE, "subscribe", "unsubscribe")
        if not block.flag("unsubscribe", default=False):
            self._list(Finding("differs", f"{block.location} {DEFAULT_ACCESS}", _UNSUBSCRIBING))
        found: dict[str, AccessList] = {}
        for key in (_SEND, _RECEIVE, "subscribe"):
            allowed = block.flag(key, default=False)
            topics = _EVERYTHING[:1] if key == _SEND else _EVERYTHING
            location = f"{block.location} {DEFAULT_ACCESS}"
            found[key] = tuple(
                AccessLine(allow=True, as_matched=topic, topic=topic, location=location)
                for topic in topics
                if allowed
            )
            if allowed and key != _RECEIVE:
                self._list(Finding("differs", location, f'"{key}" {_DOLLAR}'))
        return found

    def _read_role(self, name: str, role: Located) -> tuple[_Rule, ...]:
        """The rules of a role in the order in which Mosquitto compares them."""
        self._list_unknown(role, "rolename", "textname", "textdescription", "allowwildcardsubs", "acls")
        wildcards = role.flag("allowwildcardsubs", default=True)
        if not wildcards:
            text = _NO_WILDCARDS.format(name)
            self._list(Finding("differs", role.location, text, action=Action.SUBSCRIBE))
        rules = []
        for block in role.objects("acls"):
            self._list_unknown(block, "acltype", "topic", "priority", "allow")
            kinds = {kind.lower(): kind for kind in _TYPES}
            kind = kinds.get(block.text("acltype").lower())
            topic, allow = block.text("topic"), block.flag("allow", default=False)
            if kind is None:
                block.problem(f"the acltype is none of {', '.join(_TYPES)}")
            elif kind == _LITERAL and allow and not wildcards and ("+" in topic or "#" in topic):
                self._list(Finding("note", block.location, _NEVER_GRANTED))
            elif topic:
                rules.append(_Rule(kind, topic, block.number("priority", 0), allow, block.location))
        return tuple(sorted(rules, key=lambda rule: -rule.priority))

    def _lines_of(self, role: str, user: str | None) -> dict[str, tuple[_SubscribeLine, ...]]:
        """The lines of a role by `_SEND`, `_RECEIVE` and "subscribe". `user` None: for any user."""
        rules = self._rules_of_role[role]
        # If a role contains no names, its lines are the same for all users.
        key = (role, user if any(_has_names_put_in(rule) for rule in rules) else None)
        if key not in self._lines_of_role:
            self._lines_of_role[key] = self._made_lines(rules, user)
        return self._lines_of_role[key]

    def _made_lines(self, rules: Iterable[_Rule], user: str | None) -> dict[str, tuple[_SubscribeLine, ...]]:
        found: dict[str, list[_SubscribeLine]] = {_SEND: [], _RECEIVE: [], "subscribe": []}
        for rule in rules:
            if "%u" in rule.topic or "%c" in rule.topic:
                text = _NAMES if _has_names_put_in(rule) else _PART_OF_A_LEVEL
                self._list(Finding("note", rule.location, text))
            if rule.kind == _SEND:
                found[_SEND].append((self._line(rule, rule.topic, Action.PUBLISH, user), ""))
            elif rule.kind == _RECEIVE:
                found[_RECEIVE].append((self._line(rule, rule.topic, Action.SUBSCRIBE, user), ""))
            elif rule.kind not in {_LITERAL, _PATTERN} and not rule.allow:
                self._list(Finding("differs", rule.location, _UNSUBSCRIBING))
        for kind in (_LITERAL, _PATTERN):  # Mosquitto first compares the filter literally
            found["subscribe"] += [
                made for rule in rules if rule.kind == kind for made in self._subscribe_lines(rule, user)
            ]
        return {key: tuple(lines) for key, lines in found.items()}

    def _subscribe_lines(self, rule: _Rule, user: str | None) -> list[_SubscribeLine]:
        """What may be subscribed to, expressed as what can be delivered for it."""
        shared = rule.topic.startswith("$share/") and rule.topic.count("/") > 1
        topic = rule.topic.split("/", 2)[2] if shared else rule.topic
        if rule.allow:
            literal = topic if rule.kind == _LITERAL else ""
            lines: list[_SubscribeLine] = [(self._line(rule, topic, Action.SUBSCRIBE, user), literal)]
            if rule.topic == "#" and rule.kind == _PATTERN:
                lines.append(
                    (AccessLine(allow=True, as_matched="$SYS/#", topic="$SYS/#", location=rule.location), "")
                )
                self._list(Finding("differs", rule.location, f'"{_PATTERN}" {_DOLLAR}'))
            return lines
        if shared:
            self._list(Finding("differs", rule.location, _DENIED_GROUP.format(topic)))
            return []
        if rule.kind == _LITERAL and ("+" in topic or "#" in topic):
            self._list(Finding("differs", rule.location, _DENIED_WILDCARD.format(topic)))
            return [(None, topic)]
        line = self._line(rule, topic, Action.SUBSCRIBE, user)
        topics = topic if line.topic is None else line.topic
        text = _DENIED_FILTER.format(topic)
        self._list(Finding("differs", rule.location, text, action=Action.SUBSCRIBE, topics=topics))
        return [(line, "")]

    def _line(self, rule: _Rule, topic: str, action: Action, user: str | None) -> AccessLine:
        as_matched, levels = topic, literal_levels(topic)
        if _has_names_put_in(rule):
            levels = levels_with_names(topic, user)
            names = {"%u": "+" if user is None else user, "%c": _client_of(user)}
            as_matched = "/".join(names.get(level, level) for level in topic.split("/"))
        made, finding = access_line(
            levels, as_matched=as_matched, allow=rule.allow, action=action, location=rule.location
        )
        if finding and finding.topics and user is not None:  # listed once for all users
            finding = replace(finding, topics=with_device(finding.topics, user))
        self._list(finding)
        return made

    def _read_groups(
        self, groups: dict[str, Located], clients: dict[str, Located]
    ) -> tuple[dict[str, list[str]], dict[str, dict[str, int]]]:
        """The roles of each group, and each client's groups with their priorities."""
        roles_of: dict[str, list[str]] = {}
        groups_of: dict[str, dict[str, int]] = {user: {} for user in clients}
        for name, group in groups.items():
            self._list_unknown(group, "groupname", "textname", "textdescription", "roles", "clients")
            roles_of[name] = self._referenced(group, "roles", "rolename", self._rules_of_role)
            for member in group.objects("clients"):
                user, priority = member.text("username"), member.number("priority", -1)
                if user in clients:
                    groups_of[user].setdefault(name, priority)
                else:
                    self._list(Finding("note", member.location, f"there is no client {user!r}; left out"))
        for user, client in clients.items():
            for group in client.objects("groups"):
                name = group.text("groupname")
                if name not in groups_of[user]:
                    text = f"Mosquitto goes by the clients of group {name!r}, and {user!r} is none; left out"
                    self._list(Finding("note", group.location, text))
        return roles_of, groups_of

    def _referenced(self, block: Located, key: str, name_key: str, known: Iterable[str]) -> list[str]:
        """The names in a list of references, by priority."""
        found: dict[str, int] = {}
        for reference in block.objects(key):
            name, priority = reference.text(name_key), reference.number("priority", -1)
            if name in known:
                found.setdefault(name, priority)
            else:
                self._list(Finding("note", reference.location, f"there is no role {name!r}; left out"))
        return _by_priority(found)

    def _source_user(self, user: str | None, location: str, roles: list[str]) -> SourceUser:
        return SourceUser(
            user,
            _client_of(user),
            location,
            self._access_lists(roles, user or ""),
            tuple(dict.fromkeys(roles)),
        )

    def _common_role(self, name: str, role: Located) -> CommonRole:
        text = role.text("textname", "") or role.text("textdescription", "")
        description = f"{text}: role {name} of {self.file}." if text else f"Role {name} of {self.file}."
        return CommonRole(name, description, self._access_lists([name], None))

    def _access_lists(self, roles: Iterable[str], user: str | None) -> dict[Action, tuple[AccessList, ...]]:
        lines: dict[str, AccessList] = {}
        for key, default in self._defaults.items():
            in_order: list[AccessLine] = []
            refused: set[str] = set()
            for one, literal in (one for role in roles for one in self._lines_of(role, user)[key]):
                if one is None:
                    refused.add(literal)
                elif literal not in refused:
                    in_order.append(one)
            lines[key] = (*in_order, *default)
        return {Action.PUBLISH: (lines[_SEND],), Action.SUBSCRIBE: (lines[_RECEIVE], lines["subscribe"])}

    def _read_account(self, user: str, client: Located) -> list[Account]:
        self._list_unknown(
            client, "username", "clientid", "textname", "textdescription", "disabled", "password", "salt",
            "iterations", "encoded_password", "roles", "groups",
        )  # fmt: skip
        if client.has("clientid"):
            text = f"user {user!r} may come to Mosquitto with one client id only; to the gateway with any"
            self._list(Finding("differs", client.location, text, user))
        if client.flag("disabled", default=False):
            text = f"user {user!r} is disabled: no device is made of it"
            self._list(Finding("note", client.location, text, user))
            return []
        if client.has("encoded_password"):
            return [Account(user, client.text("encoded_password"), client.location)]
        if client.has("password") and client.has("salt"):
            salt, hashed = client.text("salt"), client.text("password")
            return [Account(user, f"$7${client.number('iterations', 0)}${salt}${hashed}", client.location)]
        text = f"user {user!r} has no password, and Mosquitto lets nobody in by it: no device is made of it"
        self._list(Finding("note", client.location, text, user))
        return []


def _has_names_put_in(rule: _Rule) -> bool:
    """Whether Mosquitto fills in names for %u and %c, which it does not do in rules for literal filters."""
    return rule.kind not in {_LITERAL, "unsubscribeLiteral"} and not {"%u", "%c"}.isdisjoint(
        rule.topic.split("/")
    )


def _client_of(user: str | None) -> str:
    """The client id to test this user's rights with."""
    return user if user is not None and is_device_id(user) else "client"


def _by_name(blocks: Iterable[Located], key: str) -> dict[str, Located]:
    found: dict[str, Located] = {}
    for block in blocks:
        name = block.text(key)
        if name in found:
            block.problem(f"{name!r} is there twice; which one counts is not certain: remove one")
        found[name] = block
    return found


def _by_priority(priorities: dict[str, int]) -> list[str]:
    """The highest priority first; names with the same priority by their bytes."""
    return sorted(priorities, key=lambda name: (-priorities[name], name.encode("utf-8", "surrogatepass")))
