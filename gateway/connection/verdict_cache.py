"""The verdicts a connection remembers, by topic and direction: bounded, dropped on any policy change."""

from __future__ import annotations

from gateway.keys.payload_envelope import Sealer
from gateway.mqtt.data_types import decode_utf8
from gateway.mqtt.errors import MalformedPacket
from gateway.mqtt.topics import depth_fault, name_fault
from gateway.policy.engine.policy import Decision
from gateway.policy.engine.service_names import Service

_VERDICTS_MAX = 256
_LONG, _LONG_VERDICTS_MAX = 128, 32
"""Bytes above which a topic is a long one, and verdicts of any kind after which one of these begins anew."""
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
        """Whether the single message has to be looked at."""
        self.sealer: Sealer | None = None
        """Of a topic that was published to, if it is sensitive."""
        self.service = service
        """Whose requests end here, in the gateway."""
        self.passes_always = not self.conditional and not sensitive and service is None
        """Every message passes as it came."""
        self.reported = ""
        """What was reported of it last."""

    def first_report(self, what: str) -> bool:
        """Take `what` for reported; whether it is news: the last report of this topic was a different one."""
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
