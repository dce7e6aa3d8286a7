"""The authorizer of a connection: what it may do, by one policy taken as a whole.

It is asked about topics as they come, and answers with a verdict that the connection remembers. Rules,
sensitive topics, services and limits are those of one policy, until a new authorizer takes its place: when
the policy or the device has changed.

Asking changes nothing and records nothing. `record` and `record_filter` record a decision. `refuse` and
`let_pass` record and report a refusal at once, for only then is it known whether it passed: a remembered
verdict outlives the time for which its device is observed. The others report to the admins.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.connection.audit_vocabulary import observed, refused_delivery, refused_publish
from gateway.connection.device_budgets import EFFORT_FILTER
from gateway.connection.process_context import Context
from gateway.connection.refusal_report_limit import Reports
from gateway.connection.verdict_cache import CachedVerdict
from gateway.connection.wills import WillTerms
from gateway.mqtt.topics import unshared
from gateway.policy.engine.decision_causes import cause_of
from gateway.policy.engine.identity import Identity, is_observed
from gateway.policy.engine.policy import RESERVED, passes_when_observed
from gateway.policy.engine.rules import Action, Decision
from gateway.policy.engine.usage_record import Passage

_TOKEN_FILTERS_OF_AN_EFFORT = 2
"""Filters of a token that can be compared with a topic for one unit of effort."""
_NO_END = 2**62
"""Seconds until the credential ends, where it is a secret."""
_EXPIRED_TOKEN = "The token has expired."  # noqa: S105 - words
_ENDED_CERTIFICATE = "The client certificate has ended."
_BARE_WILL = "The topic of the will has become sensitive, and the bus has it in plain."


class WillVerdict(NamedTuple):
    """The verdict on a will."""

    on_topic: Decision
    """On its topic alone. It is what is recorded, unless the device is observed: then `decision` is."""
    decision: Decision


class Authorizer:
    """Decides for one identity, by the policy that was in force when it was made."""

    __slots__ = ("_context", "_reports", "_rights", "identity", "limits", "policy", "token_effort")

    def __init__(self, context: Context, identity: Identity, reports: Reports) -> None:
        self._context = context
        self._reports = reports
        self.identity = identity
        self.policy = context.policy
        """The policy of this connection, even if a different one is in force by now."""
        self.limits = self.policy.limits_of(identity.roles)
        """The limits of its device, by its roles."""
        self._rights = self.policy.rights(identity)
        grant = identity.grant
        self.token_effort = 0 if grant is None else grant.most_filters // _TOKEN_FILTERS_OF_AN_EFFORT
        """Effort of comparing one topic with the token's filters (`gateway.connection.device_budgets`)."""

    @property
    def filter_effort(self) -> int:
        """Effort of deciding about one filter of a SUBSCRIBE, by the rules and by the token."""
        return EFFORT_FILTER + self.policy.filter_effort(self.identity.roles) + self.token_effort

    # What may be done

    def publish(self, topic: str) -> CachedVerdict:
        """Whether it may publish to this topic name, whether that is sealed, and which service it asks."""
        policy, decision = self.policy, self._rights.decide(Action.PUBLISH, topic)
        return CachedVerdict(
            topic, decision, sensitive=policy.sensitive(topic), service=policy.service(topic)
        )

    def receive(self, topic: str) -> CachedVerdict:
        """Whether a message on this topic name may be delivered to it, and opened if it is sealed."""
        rights, sensitive = self._rights, self.policy.sensitive(topic)
        # On the bus, topics below the service prefix are for programs there, never for a device.
        reserved = self.policy.reserves(topic)
        decision = RESERVED if reserved else rights.decide(Action.SUBSCRIBE, topic)
        opening = rights.decide(Action.DECRYPT, topic) if sensitive and decision.allowed else None
        return CachedVerdict(topic, decision, sensitive=sensitive, opening=opening)

    def subscribe(self, topic_filter: str) -> Decision:
        """Whether it may subscribe by this filter, as `Rights.decide_filter` says."""
        return self._rights.decide_filter(topic_filter)

    def will(self, will: WillTerms) -> WillVerdict:
        """Whether its will may be published in the form the bus has it; never as a service request."""
        if self.policy.reserves(will.topic):
            return WillVerdict(RESERVED, RESERVED)
        on_topic = self._rights.decide(Action.PUBLISH, will.topic)
        decision = on_topic.with_message(will.qos, will.retain, will.size)
        if decision.allowed and not will.sealed and will.must_be_sealed(self.policy):
            decision = Decision(allowed=False, reason=_BARE_WILL, rule=None)
        return WillVerdict(on_topic, decision)

    @property
    def seconds_left(self) -> int:
        """Seconds until its token (by now perhaps a renewed one) or client certificate ends, rounded up."""
        identity = self.identity
        ends = identity.certificate_ends if identity.grant is None else identity.grant.expires_at
        return _NO_END if ends is None else ends - self._context.now() // 1_000

    @property
    def expired(self) -> str:
        """Why what it logged in with is no longer good, in words; empty while it is."""
        if self.seconds_left > 0:
            return ""
        return _ENDED_CERTIFICATE if self.identity.grant is None else _EXPIRED_TOKEN

    def observes(self, topic: str, refusal: Decision) -> bool:
        """Whether a refused message passes all the same, because its device is observed.

        The end of that time is checked for each message, so that nothing passes after it.
        """
        until = self.identity.observe_until
        return (
            bool(until)
            and is_observed(until, self._context.now() / 1_000)
            and passes_when_observed(topic, refusal)
        )

    # What was decided

    def record(self, action: Action, topic: str, decision: Decision, *, observed: bool = False) -> None:
        """Record a decision: per verdict, not per message. A filter comes without `$share/<group>/`.

        `observed` says of a refusal that it passed all the same, because the device is observed.
        """
        self._context.recorder.record(self.identity, action, topic, decision, observed=observed)
        outcome = "allowed" if decision.allowed else "denied"
        self._context.counters.decisions[action, outcome, cause_of(decision)] += 1

    def record_filter(self, topic_filter: str, decision: Decision) -> bool:
        """Record the decision on a filter. Returns whether it passes only because its device is observed."""
        topics = unshared(topic_filter)
        observed = not decision.allowed and self.observes(topics, decision)
        self.record(Action.SUBSCRIBE, topics, decision, observed=observed)
        return observed

    def revoke_will(self, will: WillTerms) -> None:
        """Remember that changed rules revoked this will: its device may come back, without the will."""
        self._context.revoked_wills.add(self.identity.device_id, will.topic)

    def refuse(self, action: Action, cached: CachedVerdict, refusal: Decision) -> None:
        """Record and report that a message on this topic is refused, once per topic."""
        self._record_refusal(action, cached, refusal, Passage.REFUSED)
        if cached.first_report("refused"):
            refused = refused_publish if action is Action.PUBLISH else refused_delivery
            self._reports.add(refused(refusal.reason, cached.topic, refusal.rule_location))

    def too_long(self, cached: CachedVerdict, why: str) -> None:
        """Report that an allowed message on this topic is too long for the bus, once per topic."""
        if cached.first_report("too long"):
            self._reports.add(refused_publish(why, cached.topic))

    def refuse_quota(self, topic: str, why: str) -> None:
        """Report a PUBLISH that a limit refuses. The rules allowed it, so no denial is recorded."""
        self._reports.add(refused_publish(why, topic))

    def let_pass(self, action: Action, cached: CachedVerdict, refusal: Decision) -> None:
        """Record and report that a refused message passes, for its device is observed, once per topic."""
        self._record_refusal(action, cached, refusal, Passage.OBSERVED)
        if cached.first_report("observe"):
            self._observed(action, cached.topic, refusal)

    def let_subscribe(self, topic_filter: str, refusal: Decision) -> None:
        """Report that a refused filter of a SUBSCRIBE passes because its device is observed, each time."""
        self._observed(Action.SUBSCRIBE, topic_filter, refusal)

    def _record_refusal(
        self, action: Action, cached: CachedVerdict, refusal: Decision, passage: Passage
    ) -> None:
        """Of a topic, or of a message on a topic that is allowed: once, whatever is reported in between."""
        if cached.refusal_recorded is not passage:
            cached.refusal_recorded = passage
            self.record(action, cached.topic, refusal, observed=passage is Passage.OBSERVED)

    def _observed(self, action: Action, topic: str, refusal: Decision) -> None:
        self._reports.add(observed(refusal.reason, action, topic, refusal.rule_location))
