"""Which roles let their devices subscribe to more than they may receive, as the source did.

With an `acl_file` Mosquitto accepts every SUBSCRIBE and checks each message; its plugin can be set up so that
more can be subscribed to than received. Dashboards, Home Assistant and MQTT Explorer, which subscribe to `#`,
depend on that. Such roles get `subscribe = "filter"`, which by itself lets nobody receive a message.
"""

from __future__ import annotations

import dataclasses

from gateway.mqtt.topics import covers
from gateway.policy.engine.policy import Action, Effect
from gateway.policy.engine.rules import OnWideSubscribe, Role
from gateway.policy.imports.intermediate_model import Finding, ImportSource, SourceUser
from gateway.policy.imports.role_composition import ComposedRoles

_NAMES_SHOWN_MAX = 20
_COSTS = (
    'subscribe = "filter" in the role{} {}: a SUBSCRIBE that is wider than what may be read is taken, as it '
    "was. It costs: the bus sends such a client all that its filter matches, and the gateway decides on each "
    "message and holds back what may not be read, which takes some 10 µs a message and counts against the "
    "device. Take the line out where clients ask for no more than they may read"
)


def let_subscribe_wide(source: ImportSource, composed: ComposedRoles) -> None:
    """Set `subscribe = "filter"` in the roles that need it, and add a finding about what it costs."""
    needed: set[str] = set()
    roles = {draft.role.name: draft.role for draft in composed.drafts}
    for source_user in source.users:
        mine = [roles[name] for name in composed.roles_of[source_user.user] if name in roles]
        if source.takes_every_subscribe or _asks_for_more(source_user, mine):
            needed |= {role.name for role in mine if _delivers_something(role)}
    if source.takes_every_subscribe:  # also in roles that no user has yet
        needed |= {name for name, role in roles.items() if _delivers_something(role)}
    if not needed:
        return
    composed.drafts = [
        dataclasses.replace(draft, role=dataclasses.replace(draft.role, subscribe=OnWideSubscribe.FILTER))
        if draft.role.name in needed
        else draft
        for draft in composed.drafts
    ]
    named = [name for name in roles if name in needed]
    text = ", ".join(named[:_NAMES_SHOWN_MAX]) + (", …" if len(named) > _NAMES_SHOWN_MAX else "")
    composed.findings.append(
        Finding("note", source.file, _COSTS.format("" if len(named) == 1 else "s", text))
    )


def _delivers_something(role: Role) -> bool:
    """Whether its devices may receive some topics, but not all of them."""
    delivered = _delivered(role)
    return bool(delivered) and "#" not in delivered


def _delivered(role: Role) -> set[str]:
    """The topics of its rules that let a device receive messages."""
    return {
        rule.topic for rule in role.rules if rule.effect is Effect.ALLOW and Action.SUBSCRIBE in rule.actions
    }


def _asks_for_more(source_user: SourceUser, roles: list[Role]) -> bool:
    """Whether a separate access list grants filters, and one of them is wider than what may be received."""
    access_lists = source_user.access_lists[Action.SUBSCRIBE]
    delivered = {
        "/".join((source_user.user or "+") if level == "{device}" else level for level in topic.split("/"))
        for role in roles
        for topic in _delivered(role)
    }
    return len(access_lists) > 1 and any(
        line.allow and line.topic is not None and not any(covers(one, line.topic) for one in delivered)
        for line in access_lists[-1]
    )
