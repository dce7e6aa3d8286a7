"""The authorizer: asks the policy, has the answer recorded, and lets an observed device pass.

Stands between the policy and whoever asks it for a connection. What it lets pass it tells. Until when a
device is observed is looked at for each message, so that nothing passes afterwards.
"""

from __future__ import annotations

from gateway.connection.audit_reports import observed, refused_delivery, refused_publish
from gateway.connection.context import Context
from gateway.connection.refusal_reports import Reports
from gateway.connection.verdict_cache import CachedVerdict
from gateway.mqtt.topics import unshared
from gateway.policy.engine.identity import Identity, is_observed
from gateway.policy.engine.policy import observable
from gateway.policy.engine.rules import Action, Decision


class Authorizer:
    """For one identity under one policy: another one takes its place when either changes."""

    __slots__ = ("_context", "_identity", "_reports", "_rights")

    def __init__(self, context: Context, identity: Identity, reports: Reports) -> None:
        self._context = context
        self._identity = identity
        self._reports = reports
        self._rights = context.policy.rights(identity)

    def decide(self, action: Action, topic: str) -> Decision:
        """Judge an action on one topic name, as `Rights.decide` does."""
        return self._note(action, topic, self._rights.decide(action, topic))

    def decide_filter(self, topic_filter: str) -> Decision:
        """Judge a SUBSCRIBE's filter, as `Rights.decide_filter` does."""
        return self._note(Action.SUBSCRIBE, unshared(topic_filter), self._rights.decide_filter(topic_filter))

    def _note(self, action: Action, topic: str, decision: Decision) -> Decision:
        """Have it recorded."""
        self._context.recorder.note(self._identity, action, topic, decision)
        return decision

    def refuse(self, action: Action, cached: CachedVerdict, refusal: Decision) -> None:
        """A message on this route does not pass: told once a topic."""
        if cached.first("refused"):
            self._message(action, cached, refusal)
            refused = refused_publish if action is Action.PUBLISH else refused_delivery
            self._reports.add(refused(refusal.reason, cached.topic, refusal.place))

    def too_long(self, cached: CachedVerdict, why: str) -> None:
        """A message on this route is allowed, but the bus takes none so long: told once a topic."""
        if cached.first("too long"):
            self._reports.add(refused_publish(why, cached.topic))

    def refuse_quota(self, topic: str, why: str) -> None:
        """It is told; the rules have nothing against it, so nothing is recorded."""
        self._reports.add(refused_publish(why, topic))

    def passes(self, action: Action, cached: CachedVerdict, refusal: Decision) -> bool:
        """Whether a message on this route passes though it is refused, for its device is observed."""
        if not self._observes(cached.topic, refusal):
            return False
        if cached.first("observe"):
            self._message(action, cached, refusal)
            self._observed(action, cached.topic, refusal)
        return True

    def passes_filter(self, topic_filter: str, refusal: Decision) -> bool:
        """The same of a SUBSCRIBE's filter."""
        if not self._observes(unshared(topic_filter), refusal):
            return False
        self._observed(Action.SUBSCRIBE, topic_filter, refusal)
        return True

    def _message(self, action: Action, cached: CachedVerdict, refusal: Decision) -> None:
        if cached.decision.allowed:
            self._note(action, cached.topic, refusal)  # the topic is fine, this message was not

    def _observes(self, topic: str, refusal: Decision) -> bool:
        until = self._identity.observe_until
        return bool(until) and is_observed(until, self._context.now() / 1_000) and observable(topic, refusal)

    def _observed(self, action: Action, topic: str, refusal: Decision) -> None:
        self._reports.add(observed(refusal.reason, action, topic, refusal.place))
