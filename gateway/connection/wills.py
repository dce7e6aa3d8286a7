"""The will: a message for later, decided about at the CONNECT and again whenever the rules change.

The bus has it from the CONNECT on, sealed if its topic is sensitive. A will that may not be published any
more, or not in that form, is revoked by ending the connection with a DISCONNECT to the bus.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.connection.process_context import Context
from gateway.connection.verdict_cache import topic_text
from gateway.keys.key_ring import KeysUnavailable
from gateway.keys.payload_envelope import Sealer
from gateway.mqtt.packets import Will
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Policy

_PAYLOAD_MAX = 65_535
"""A will's payload is Binary Data (MQTT 5, 1.5.6)."""


@dataclass(frozen=True, slots=True)
class WillTerms:
    """What is needed to decide about a will again. Its payload is not kept."""

    topic: str
    qos: int
    retain: bool
    size: int
    """Bytes of the payload before sealing."""
    sealed: bool

    def must_be_sealed(self, policy: Policy) -> bool:
        """Whether its topic is sensitive. An empty retained message clears a topic and stays empty."""
        return policy.sensitive(self.topic) and not (self.retain and not self.size)


def terms_of_will(will: Will, policy: Policy) -> WillTerms:
    """The terms of a will as it came. Raises MalformedPacket when its topic is not valid."""
    terms = WillTerms(topic_text(will.topic), will.qos, will.retain, len(will.payload), sealed=False)
    return replace(terms, sealed=terms.must_be_sealed(policy))


def sealed_will(
    will: Will, terms: WillTerms, identity: Identity, context: Context
) -> Will | tuple[Reason, str]:
    """The will in the form the bus may have it; or the reason code and the reason why there is none."""
    if not terms.sealed:
        return will
    try:
        sealer = Sealer(context.ring, context.now, topic=terms.topic, sender=identity.device_id)
        payload = sealer.seal(will.payload)
    except KeysUnavailable as error:
        return Reason.SERVER_UNAVAILABLE, str(error)
    if len(payload) > _PAYLOAD_MAX:
        return Reason.PACKET_TOO_LARGE, "The will is too long to be sealed."
    context.counters.sealed += 1
    return replace(will, payload=payload)
