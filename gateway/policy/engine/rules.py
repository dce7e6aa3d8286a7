"""What a rule is, and what a decision is: the vocabulary of the policy.

Plain values: rules are read from files by `gateway.policy.files.loader`, decisions are made by
`gateway.policy.engine.policy`, and `gateway-admin` shows both. A `Decision.reason` may be sent to the peer
that it concerns: it names no other device, no rule and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from string import ascii_lowercase, digits

_LETTERS = frozenset(ascii_lowercase)
_IN_GROUP = _LETTERS | frozenset(digits + "_-")
"""The characters of a group's name."""


class Action(StrEnum):
    """What an identity wants to do with a topic."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    """To subscribe, and to receive messages."""
    ENCRYPT = "encrypt"
    """To have the service `encrypt` seal a payload for a topic."""
    DECRYPT = "decrypt"
    """To get the plaintext of a topic's sealed payloads, in deliveries or from the service `decrypt`."""


class Effect(StrEnum):
    """What a rule does. A deny beats every allow."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Rule:
    """One effect on one topic filter. A block of a role file with three topics is three rules."""

    effect: Effect
    actions: frozenset[Action]
    topic: str
    """The filter as written, placeholders and all."""
    max_qos: int = 2
    retain: bool = True
    """Whether a message may be retained."""
    max_payload: int | None = None
    """Bytes of payload as the device sends it, before sealing; None for any."""
    role: str = ""
    """Name of the role that it is from."""
    file: str = ""
    """Path of the role file."""
    line: int = 0
    """Line of its topic in that file, from 1."""
    group: str = ""
    """Name of the group of `topics.toml` that its topic comes from; empty if it was written out."""

    @property
    def unconditional(self) -> bool:
        """Whether this rule applies to every message on its topic, whatever its QoS, size and retain flag."""
        return self.max_qos == 2 and self.retain and self.max_payload is None

    def objections(self, qos: int, size: int, *, retain: bool) -> list[str]:
        """Which conditions of this allow rule a message does not meet, one sentence each.

        `size` is in bytes of payload as the device sent it.
        """
        found = []
        if qos > self.max_qos:
            found.append(f"QoS {qos} is above the {self.max_qos} allowed on this topic.")
        if retain and not self.retain:
            found.append("Retained messages are not allowed on this topic.")
        if self.max_payload is not None and size > self.max_payload:
            found.append(
                f"The payload of {size} bytes is above the {self.max_payload} allowed on this topic."
            )
        return found


class OnDeny(StrEnum):
    """What happens to a denied PUBLISH (QoS 1, 2) of an MQTT 3.1.1 device: it can't get a reason code."""

    DROP = "drop"
    """It is acknowledged, and goes nowhere."""
    DISCONNECT = "disconnect"
    """The connection is closed."""


class OnDeniedWill(StrEnum):
    """What happens to a CONNECT whose will the rules refuse. In neither case does the bus get the will."""

    REFUSE = "refuse"
    """The CONNECT is refused."""
    DROP = "drop"
    """The device connects without its will. Mosquitto, too, lets it in: it checks a will when it is due."""


class OnWideSubscribe(StrEnum):
    """What happens to a SUBSCRIBE whose filter no rule covers."""

    COVER = "cover"
    """It is refused."""
    FILTER = "filter"
    """It is granted if a rule allows part of it, as Mosquitto does: each delivery is decided anyway."""


@dataclass(frozen=True, slots=True)
class Role:
    """One file of `acl/roles/`."""

    name: str
    description: str
    rules: tuple[Rule, ...]
    will: OnDeniedWill | None = None
    """What happens to a CONNECT whose will the rules refuse; None: what the gateway's setting says."""
    subscribe: OnWideSubscribe = OnWideSubscribe.COVER
    """What happens to a SUBSCRIBE whose filter no rule covers."""
    includes: tuple[str, ...] = ()
    """Names of other roles: whoever has this one gets their rules, limits and settings, too."""
    limits: Mapping[str, int] = field(default_factory=dict, hash=False)
    """The limits that it sets, by name: some of `gateway.policy.engine.device_limits.ROLE_LIMIT_NAMES`."""
    locations: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)
    """The location of each of these limits: `file:line`."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed or not, and why."""

    allowed: bool
    reason: str
    """One sentence, which the peer may see."""
    rule: Rule | None
    """The rule that decided: a deny, or the least restrictive allow; None when none matched."""
    allow_rules: tuple[Rule, ...] = ()
    """If allowed, every allow rule that matched."""
    is_partial: bool = False
    """Of a filter: no rule covers all of it, and it was granted because part of it is allowed."""

    @property
    def rule_location(self) -> str:
        """`file:line` of the deciding rule; empty when none matched."""
        return f"{self.rule.file}:{self.rule.line}" if self.rule else ""

    @property
    def unconditional(self) -> bool:
        """Whether some allow rule admits every message. Worked out anew each time: keep the answer."""
        return any(rule.unconditional for rule in self.allow_rules)

    @property
    def max_qos(self) -> int:
        """The highest QoS among the allow rules; 0 when there are none."""
        return max((rule.max_qos for rule in self.allow_rules), default=0)

    def with_message(self, qos: int, retain: bool, size: int) -> Decision:  # noqa: FBT001 - the header's own order
        """The decision for one message: denied when no allow rule admits its QoS, retain flag and size.

        `size` is in bytes of payload as the device sent it. Of several rules the one with the fewest
        objections says why.
        """
        if not self.allowed:
            return self
        nearest: Rule | None = None
        fewest: list[str] = []
        for rule in self.allow_rules:
            objections = rule.objections(qos, size, retain=retain)
            if not objections:
                return self
            if nearest is None or len(objections) < len(fewest):
                nearest, fewest = rule, objections
        # An allowing decision always has rules. If one had none, this would deny rather than raise.
        reason = fewest[0] if fewest else "No rule allows this message."
        return Decision(allowed=False, reason=reason, rule=nearest)


def is_group(topic: str) -> bool:
    """Whether the topic of a rule is the name of a group in `topics.toml`: `@climate`.

    A name is a lower-case letter, followed by at most 31 lower-case letters, digits, `_` and `-`.
    """
    name = topic[1:]
    return topic[:1] == "@" and 1 <= len(name) <= 32 and name[0] in _LETTERS and _IN_GROUP.issuperset(name)


def names_group(topic: str) -> bool:
    """Whether a file means this as a group, even if no group can have such a name."""
    return topic[:1] == "@" and "/" not in topic
