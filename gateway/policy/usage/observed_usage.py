"""What is learned of what passed only because its device was observed.

The rules refused it when it was recorded. By the rules of today it is one of three: allowed by now, refused
by somebody's deny, or without a rule, and for this a role is to get one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace

from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Action, Effect, Policy
from gateway.policy.engine.topic_generalisation import filter_of
from gateway.policy.engine.usage_record import Passage, UsageRecord
from gateway.policy.usage.replay import decisions_on


def divided(
    policy: Policy, identities: Mapping[str, Identity], records: Iterable[UsageRecord]
) -> tuple[list[UsageRecord], list[UsageRecord], list[UsageRecord]]:
    """Divide the records into what rules allow, what only observing let pass, and what is to get no rule."""
    allowed, observed, refused = [], [], []
    for record in records:
        identity = identities[record.device_id]
        if record.passage is Passage.ALLOWED:
            allowed.append(record)
        elif record.passage is Passage.REFUSED or _is_closed(policy, identity, record):
            refused.append(record)
        elif _is_allowed_by_now(policy, identity, record):
            allowed.append(replace(record, passage=Passage.ALLOWED))
        else:
            observed.append(record)
    return allowed, observed, refused


def _is_allowed_by_now(policy: Policy, identity: Identity, record: UsageRecord) -> bool:
    """Whether today's rules allow, in whatever form, what passed only because its device was observed.

    Then a rule was made since, and it is learned as what a rule allowed. Where the rules have conditions it
    may have been a message that they refuse: so the message that any condition refuses is asked about. The
    QoS of a delivery is no such condition.
    """
    qos, size = (0 if record.action is Action.SUBSCRIBE else 2), sys.maxsize
    decisions = decisions_on(policy, identity, record.action, record.template)
    return bool(decisions) and all(
        one.is_partial or one.with_message(qos, True, size).allowed  # noqa: FBT003 - the header's own order
        for one in decisions
    )


def _is_closed(policy: Policy, identity: Identity, observed: UsageRecord) -> bool:
    """Whether no rule is proposed for what passed only because its device was observed.

    A deny of today refuses it: somebody has said no, and the role would keep that deny. One that takes out a
    part of a filter is no hindrance, for the role keeps it as well. Or the topic is the gateway's own by now,
    or the bus's.
    """
    if observed.template[:1] == "$" or policy.reserves(filter_of(observed.template, identity)):
        return True
    decisions = decisions_on(policy, identity, observed.action, observed.template)
    return any(one.rule is not None and one.rule.effect is Effect.DENY for one in decisions)
