"""The verdicts a connection remembers, by topic and direction: bounded, dropped on any policy change."""

from __future__ import annotations

from gateway.keys.payload_envelope import Sealer
from gateway.mqtt.data_types import decode_utf8
from gateway.mqtt.errors import MalformedPacket
from gateway.mqtt.topics import depth_fault, name_fault
from gateway.policy.engine.policy import Decision
from gateway.policy.engine.service_names import Service
from gateway.policy.engine.usage_record import Passage

_VERDICTS_MAX = 256
_LONG, _LONG_VERDICTS_MAX = 128, 32
"""Bytes above which a topic counts as long, and how many verdicts there may be when one on a long topic is
added: at either bound all are dropped."""
_TOPIC_BYTES_MAX = 1024
"""Longest topic whose verdict is remembered, in bytes: with these numbers it bounds the memory."""


class CachedVerdict:
    """The verdict on one topic."""

    __slots__ = (
        "conditional",
        "decision",
        "may_open",
        "opening",
        "passes_always",
        "refusal_recorded",
        "reported",
        "sealer",
        "sensitive",
        "service",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        decision: Decision,
        *,
        sensitive: bool,
        opening: Decision | None = None,
        service: Service | None = None,
    ) -> None:
        self.topic = topic
        self.decision = decision
        self.sensitive = sensitive
        self.opening = opening
        """Of a sensitive topic that is delivered: whether its receiver may decrypt it."""
        self.may_open = opening is not None and opening.allowed
        """Whether a receiver gets the plaintext of a sensitive topic."""
        self.conditional = not (decision.allowed and decision.unconditional)
        """Whether a message may be refused: the topic is denied, or QoS, retain flag and size matter."""
        self.sealer: Sealer | None = None
        """Seals for this topic: made at the first PUBLISH on it, if it is sensitive."""
        self.service = service
        """The gateway's own service that a PUBLISH on this topic asks; None for any other topic."""
        self.passes_always = not self.conditional and not sensitive and service is None
        """Whether every message on this topic passes unchanged."""
        self.reported = ""
        """The last thing reported of this topic, as `first_report` was given it."""
        self.refusal_recorded: Passage | None = None
        """As what a refusal of this topic, or of a message on it, was last recorded; None: there was none."""

    def first_report(self, what: str) -> bool:
        """Note that `what` is reported of this topic; whether the last report of it was a different one."""
        before, self.reported = self.reported, what
        return before != what


def topic_text(topic: bytes) -> str:
    """A topic name of a PUBLISH as text. Raises MalformedPacket when it is none (MQTT 5, 4.7)."""
    text = decode_utf8(topic)
    fault = name_fault(text) or depth_fault(text)
    if fault:
        raise MalformedPacket(f"the topic {fault}")
    return text


def keep(verdicts: dict[bytes, CachedVerdict], topic: bytes, cached: CachedVerdict) -> CachedVerdict:
    """Remember a verdict, within the bounds."""
    size = len(topic)
    if size <= _TOPIC_BYTES_MAX:
        if len(verdicts) >= (_VERDICTS_MAX if size <= _LONG else _LONG_VERDICTS_MAX):
            verdicts.clear()
        verdicts[topic] = cached
    return cached
