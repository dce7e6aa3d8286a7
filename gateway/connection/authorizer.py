"""The authorizer of a connection: what it may do, by one policy taken as a whole.

It is asked for topics as they come, and answers with a verdict that the connection remembers. Rules,
sensitive topics, services and limits are those of one policy, until a new authorizer takes its place: when
the connection hears of a different policy, or its device changed.

Asking changes nothing and is recorded nowhere. `record` does that, and the rest reports to the admins: what
is refused, and of what passes only because its device is observed.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.connection.audit_vocabulary import observed, refused_delivery, refused_publish
from gateway.connection.device_budgets import EFFORT_FILTER
from gateway.connection.process_context import Context
from gateway.connection.refusal_report_limit import Reports
from gateway.connection.verdict_cache import CachedVerdict
from gateway.connection.wills import WillTerms
from gateway.policy.engine.decision_causes import cause_of
from gateway.policy.engine.identity import Identity, is_observed
from gateway.policy.engine.policy import RESERVED, passes_when_observed
from gateway.policy.engine.rules import Action, Decision

_TOKEN_FILTERS_OF_AN_EFFORT = 2
"""Filters of a token that are compared with a topic in a microsecond."""
_NO_END = 2**62
_BARE_WILL = "The topic of the will has become sensitive, and the bus has it in plain."


class WillVerdict(NamedTuple):
    """The verdict on a will."""

    on_topic: Decision
    """On its topic alone, as it is recorded."""
    decision: Decision


class Authorizer:
    """For one identity under the policy in force when it is made."""

    __slots__ = ("_context", "_reports", "_rights", "identity", "limits", "policy", "token_effort")

    def __init__(self, context: Context, identity: Identity, reports: Reports) -> None:
        self._context = context
        self._reports = reports
        self.identity = identity
        self.policy = context.policy
        """What this connection goes by, whatever is in force by now: reserved topics too."""
        self.limits = self.policy.limits_of(identity.roles)
        """The bounds of its device, by its roles."""
        self._rights = self.policy.rights(identity)
        grant = identity.grant
        self.token_effort = 0 if grant is None else grant.most_filters // _TOKEN_FILTERS_OF_AN_EFFORT
        """What it costs to ask the token about one topic, in effort: `gateway.connection.device_budgets`."""

    @property
    def filter_effort(self) -> int:
        """What one filter of a SUBSCRIBE costs, its search among the rules and in the token included."""
        return EFFORT_FILTER + self.policy.filter_effort(self.identity.roles) + self.token_effort

    # What may be done

    def publish(self, topic: str) -> CachedVerdict:
        """Whether it may publish on this topic name, and what becomes of it: sealed, or a service's."""
        policy, decision = self.policy, self._rights.decide(Action.PUBLISH, topic)
        return CachedVerdict(
            topic, decision, sensitive=policy.sensitive(topic), service=policy.service(topic)
        )

    def receive(self, topic: str) -> CachedVerdict:
        """Whether a message on this topic name may be delivered to it, and opened if it is sealed."""
        rights, sensitive = self._rights, self.policy.sensitive(topic)
        # What stands below the service prefix on the bus is for its own services, never for a device.
        reserved = self.policy.reserves(topic)
        decision = RESERVED if reserved else rights.decide(Action.SUBSCRIBE, topic)
        opening = rights.decide(Action.DECRYPT, topic) if sensitive and decision.allowed else None
        return CachedVerdict(topic, decision, sensitive=sensitive, opening=opening)

    def subscribe(self, topic_filter: str) -> Decision:
        """Whether it may subscribe by this filter, as `Rights.decide_filter` says."""
        return self._rights.decide_filter(topic_filter)

    def will(self, will: WillTerms) -> WillVerdict:
        """Whether its will may be published, as the bus has it. A request can't be left to the bus."""
        if self.policy.reserves(will.topic):
            return WillVerdict(RESERVED, RESERVED)
        on_topic = self._rights.decide(Action.PUBLISH, will.topic)
        decision = on_topic.with_message(will.qos, will.retain, will.size)
        if decision.allowed and not will.sealed and will.must_be_sealed(self.policy):
            decision = Decision(allowed=False, reason=_BARE_WILL, rule=None)
        return WillVerdict(on_topic, decision)

    @property
    def expired(self) -> bool:
        """Whether the token it came with, or the one that renewed it, has come to its end."""
        grant = self.identity.grant
        return grant is not None and self._context.now() >= grant.expires_at * 1_000

    @property
    def seconds_left(self) -> int:
        """Seconds until its token has come to its end, rounded up; a very long time without one."""
        grant = self.identity.grant
        return _NO_END if grant is None else grant.expires_at - self._context.now() // 1_000

    def observes(self, topic: str, refusal: Decision) -> bool:
        """Whether what is refused passes, for its device is observed.

        Until when it is, is looked at for each message, so that nothing passes afterwards.
        """
        until = self.identity.observe_until
        return (
            bool(until)
            and is_observed(until, self._context.now() / 1_000)
            and passes_when_observed(topic, refusal)
        )

    # What was decided

    def record(self, action: Action, topic: str, decision: Decision) -> None:
        """Have it recorded: once a verdict, not once a message. A filter comes without `$share/<group>/`."""
        self._context.recorder.record(self.identity, action, topic, decision)
        outcome = "allowed" if decision.allowed else "denied"
        self._context.counters.decisions[action, outcome, cause_of(decision)] += 1

    def take_back(self, will: WillTerms) -> None:
        """Remember that other rules took this will back: its device comes in without it."""
        self._context.wills_taken_back.add(self.identity.device_id, will.topic)

    def refuse(self, action: Action, cached: CachedVerdict, refusal: Decision) -> None:
        """A message on this topic does not pass: reported once per topic."""
        if cached.first_report("refused"):
            self._record_message(action, cached, refusal)
            refused = refused_publish if action is Action.PUBLISH else refused_delivery
            self._reports.add(refused(refusal.reason, cached.topic, refusal.rule_location))

    def too_long(self, cached: CachedVerdict, why: str) -> None:
        """A message on this topic is allowed, but the bus takes none so long: reported once per topic."""
        if cached.first_report("too long"):
            self._reports.add(refused_publish(why, cached.topic))

    def refuse_quota(self, topic: str, why: str) -> None:
        """It is reported; the rules have nothing against it, so nothing is recorded."""
        self._reports.add(refused_publish(why, topic))

    def let_pass(self, action: Action, cached: CachedVerdict, refusal: Decision) -> None:
        """A refused message on this topic passes, for its device is observed: reported once per topic."""
        if cached.first_report("observe"):
            self._record_message(action, cached, refusal)
            self._observed(action, cached.topic, refusal)

    def let_subscribe(self, topic_filter: str, refusal: Decision) -> None:
        """The same of a SUBSCRIBE's filter, reported each time."""
        self._observed(Action.SUBSCRIBE, topic_filter, refusal)

    def _record_message(self, action: Action, cached: CachedVerdict, refusal: Decision) -> None:
        if cached.decision.allowed:
            self.record(action, cached.topic, refusal)  # the topic is fine, this message was not

    def _observed(self, action: Action, topic: str, refusal: Decision) -> None:
        self._reports.add(observed(refusal.reason, action, topic, refusal.rule_location))
