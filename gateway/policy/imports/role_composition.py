"""Makes the gateway's roles from an import source: from its common roles, and from each user's other rights.

Users with the same other rights share a role. Owns the names of roles, and who gets which. Knows no file
format, neither the source's nor the gateway's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.mqtt.topics import covers
from gateway.policy.engine.identity import is_device_id
from gateway.policy.engine.policy import Action, Effect, Role, Rule
from gateway.policy.engine.rules import OnDeniedWill
from gateway.policy.imports.filter_algebra import intersection
from gateway.policy.imports.first_match import allowed_by_both, without_order
from gateway.policy.imports.intermediate_model import AccessList, Finding, ImportSource, SourceUser
from gateway.policy.imports.mosquitto_line_translation import with_device

_NOT_IN_A_NAME = re.compile(r"^[^A-Za-z0-9]+|[^A-Za-z0-9._-]+")
"""Characters that may not be in the name of a role, or not at its beginning."""
_NAMES_SHOWN_MAX = 20
"""Users that a role's description names."""
_LOST = (
    "allows {topics} to user {user}, for Mosquitto compares it before {deny}, which denies it; in the "
    "gateway a deny beats every allow, and the user may not"
)
_RESERVED = (
    "reaches {0}/#: topics at and below {0}/ are the gateway's own, and no rule has an effect on them. If "
    "devices use such topics, set SERVICE_TOPIC_PREFIX to a name that nobody uses, and import again"
)
_NEVER = (
    "can never match in the gateway: topics at and below {0}/ are its own, and no rule has an effect on "
    "them. Set SERVICE_TOPIC_PREFIX to a name that nobody uses, and import again"
)
_SENSITIVE = (
    "reaches {0}, where payloads are sealed before they reach the bus: who shall read them needs a rule with "
    '"decrypt", or the topic has to leave encryption.toml'
)

_NO_DEVICE_ID = "user {!r} can be no device id (letters, digits and . _ -, 64 at most)"
_RENAMED = (
    ": add a device with another name. The hash of its password can't come along, but the old password "
    "itself can: `gateway-admin device add NAME {} --secret-stdin`"
)
_OLD_NAME = (
    ". Where a pattern has %u its rules have the old name ({}), and the device goes on with these topics: "
    "{{device}} would be its new one"
)
_TOPICS_SHOWN_MAX = 3
"""How many topics with the old name of a user a finding shows."""
_EVERYTHING = (
    "allows to publish everything: who has the password of one such user can speak for all devices. Better "
    "name what each user needs"
)
_EVADED = (
    "denies with {client}, and a device chooses its client id: with a different one it is not denied, by the "
    "gateway as by Mosquitto. Allow less instead, or deny by {device}. This holds for every deny with "
    "{client}"
)


@dataclass(frozen=True, slots=True)
class _Right:
    """One action of one rule, which is allowed or denied on a topic."""

    effect: Effect
    action: Action
    topic: str


_NAMELESS = _Right(Effect.DENY, Action.PUBLISH, "")
"""Added to the rights of clients without a user name, so that no user shares a role with them."""
_Rights = dict[_Right, tuple[str, str]]
"""For each right, the location (`file:line`) of the line that it comes from, and its topic with the user's
name instead of `{device}`."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A role, and for each of its rules the locations (`file:line`) of the source lines it comes from."""

    role: Role
    locations: Mapping[Rule, tuple[str, ...]]


@dataclass(slots=True)
class ComposedRoles:
    """The roles made of a source, who gets which, and what differs from the source."""

    drafts: list[Draft] = field(default_factory=list)
    roles_of: dict[str | None, tuple[str, ...]] = field(default_factory=dict)
    """Names of roles by user; under None, those of clients without a user name."""
    findings: list[Finding] = field(default_factory=list)


def compose(source: ImportSource, *, reserved: str, sensitive: Iterable[str]) -> ComposedRoles:
    """Make roles that give each user what the source gives it, or less if a finding says so.

    `reserved` is the prefix of the service topics, `sensitive` the filters of what is sealed.
    """
    composed = ComposedRoles(findings=list(source.findings))
    taken: set[str] = set()
    common: dict[str, tuple[str, _Rights]] = {}
    for role in source.common_roles:
        if rights := _rights(role.access_lists, None, []):
            name = _free_name(role.name, taken)
            common[role.name] = (name, rights)
            composed.drafts.append(_draft(name, role.description, rights))
    alike: dict[frozenset[_Right], list[SourceUser]] = {}
    own_of: dict[str | None, _Rights] = {}
    for source_user in source.users:
        rights = _rights(source_user.access_lists, source_user.user, composed.findings)
        given, own = _common_and_own(source_user, rights, common)
        composed.roles_of[source_user.user] = given
        own_of[source_user.user] = own
        if own:
            # Clients without a user name don't become devices, so that no device shares a role with them.
            key = frozenset(own) | ({_NAMELESS} if source_user.user is None else set())
            alike.setdefault(key, []).append(source_user)
    placeholder_lines = {
        line.location
        for role in source.common_roles
        for access_lists in role.access_lists.values()
        for access_list in access_lists
        for line in access_list
        if "{device}" in (line.topic or "")
    }
    for source_users in alike.values():
        users = [source_user.user for source_user in source_users]
        draft = _own_role(users, own_of[users[0]], placeholder_lines, source.file, taken)
        composed.drafts.append(draft)
        for user in users:
            composed.roles_of[user] = (draft.role.name, *composed.roles_of[user])
    for source_user in source.users:
        if source_user.user is not None and not is_device_id(source_user.user):
            text = _renamed(source_user, composed.roles_of[source_user.user])
            composed.findings.append(Finding("differs", source_user.location, text, source_user.user))
    _list_special_topics(composed, reserved, sensitive)
    return composed


def _renamed(source_user: SourceUser, roles: Sequence[str]) -> str:
    """The text of the finding about a user whose name can't be a device id."""
    text = _NO_DEVICE_ID.format(source_user.user)
    if not roles:
        return f"{text}, and has no right: no device is made of it"
    text += _RENAMED.format(" ".join(f"--role {role}" for role in roles))
    if source_user.topics_with_name:
        more = ", …" if len(source_user.topics_with_name) > _TOPICS_SHOWN_MAX else ""
        text += _OLD_NAME.format(", ".join(source_user.topics_with_name[:_TOPICS_SHOWN_MAX]) + more)
    return text


def _rights(
    access_lists: Mapping[Action, tuple[AccessList, ...]], user: str | None, findings: list[Finding]
) -> _Rights:
    """The rights that access lists give; what the user loses is added to `findings`."""
    found: _Rights = {}
    for action, (first, *others) in access_lists.items():
        unordered = without_order(first)
        for other in others:
            unordered = allowed_by_both(unordered, without_order(other))
        for effect, topics in ((Effect.ALLOW, unordered.allows), (Effect.DENY, unordered.denies)):
            for topic, location in topics.items():
                found[_Right(effect, action, _with_placeholder(topic, user))] = (location, topic)
        findings += [
            Finding(
                "differs",
                loss.allow_location,
                _LOST.format(topics=loss.topics, user=user, deny=loss.deny_location),
                user,
                action,
                loss.topics,
            )
            for loss in unordered.losses
        ]
    # Denies without any allow take nothing away.
    return found if any(right.effect is Effect.ALLOW for right in found) else {}


def _with_placeholder(topic: str, user: str | None) -> str:
    """The topic with `{device}` in place of the user's name, if that can be a device id."""
    return with_device(topic, user) if user is not None and is_device_id(user) else topic


def _common_and_own(
    source_user: SourceUser, rights: _Rights, common: Mapping[str, tuple[str, _Rights]]
) -> tuple[tuple[str, ...], _Rights]:
    """The names of the common roles that a user can get, and its remaining rights, for a role of its own.

    It can get a role that allows no more than the source allows it, and denies nothing that the source allows
    it.
    """
    given: list[str] = []
    own = dict(rights)
    for role in source_user.common_roles if source_user.user is not None else ():
        if role not in common:
            continue
        name, its_rights = common[role]
        theirs = [
            _Right(one.effect, one.action, _with_placeholder(one.topic, source_user.user))
            for one in its_rights
        ]
        if all(_within(right, rights) for right in theirs):
            given.append(name)
            own = {right: origin for right, origin in own.items() if not _within(right, theirs)}
    return tuple(given), own


def _within(right: _Right, others: Iterable[_Right]) -> bool:
    """Whether one of the others has the same effect and action, and covers all topics of this right."""
    return any(
        other.effect is right.effect and other.action is right.action and covers(other.topic, right.topic)
        for other in others
    )


def _own_role(
    users: Sequence[str | None], rights: _Rights, placeholder_lines: set[str], file: str, taken: set[str]
) -> Draft:
    """The role of one user, or of several who have the same rights."""
    first = users[0]
    if len(users) > 1:
        shown = ", ".join(map(str, users[:_NAMES_SHOWN_MAX])) + (
            ", …" if len(users) > _NAMES_SHOWN_MAX else ""
        )
        return _draft(_free_name("shared", taken), f"Users {shown} of {file}, who may do the same.", rights)
    if first is None:
        return _draft(_free_name("anonymous", taken), f"Clients without a user name of {file}.", rights)
    # With the user's name in the topics, except for those of lines that have a placeholder for it.
    rights = {
        right if location in placeholder_lines else _Right(right.effect, right.action, topic): (
            location,
            topic,
        )
        for right, (location, topic) in rights.items()
    }
    return _draft(_free_name(first, taken), f"User {first} of {file}.", rights)


def _draft(name: str, description: str, rights: _Rights) -> Draft:
    actions: dict[tuple[Effect, str], set[Action]] = {}
    locations: dict[tuple[Effect, str], dict[str, None]] = {}
    for right, (location, _) in rights.items():
        key = (right.effect, right.topic)
        actions.setdefault(key, set()).add(right.action)
        locations.setdefault(key, {})[location] = None
    rules = {
        Rule(effect, frozenset(found), topic, role=name): tuple(locations[effect, topic])
        for (effect, topic), found in actions.items()
    }
    # DROP, because Mosquitto checks a will only when it is due, and refuses no CONNECT because of it.
    return Draft(Role(name, description, tuple(rules), OnDeniedWill.DROP), rules)


def _free_name(wanted: str, taken: set[str]) -> str:
    """A name for a role that is close to `wanted` and not taken yet."""
    stem = _NOT_IN_A_NAME.sub(lambda found: "-" if found.start() else "", wanted)[:60].strip("-") or "user"
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name


def _list_special_topics(composed: ComposedRoles, reserved: str, sensitive: Iterable[str]) -> None:
    """Add findings about service topics, sensitive topics, and dangerous rules."""
    listed: dict[Finding, None] = {}
    evaded: list[str] = []
    for draft in composed.drafts:
        for rule, locations in draft.locations.items():
            if rule.effect is Effect.DENY and "{client}" in rule.topic.split("/"):
                evaded += locations
            if (rule.effect, rule.topic) == (Effect.ALLOW, "#") and Action.PUBLISH in rule.actions:
                listed |= {Finding("note", location, _EVERYTHING): None for location in locations}
            for location in locations:
                if intersection(f"{reserved}/#", rule.topic) is not None:
                    text = _NEVER if covers(f"{reserved}/#", rule.topic) else _RESERVED
                    text = text.format(reserved)
                    listed[Finding("differs", location, text, topics=f"{reserved}/#")] = None
                for topics in sensitive:
                    if rule.effect is Effect.ALLOW and intersection(topics, rule.topic) is not None:
                        listed[Finding("note", location, _SENSITIVE.format(topics))] = None
    if evaded:
        listed[Finding("note", evaded[0], _EVADED)] = None
    composed.findings += listed
