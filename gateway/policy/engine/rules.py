"""What a rule is, and what a decision is: the vocabulary of the policy.

Plain values without behaviour of their own: rules are read from files by `gateway.policy.files.loader`,
decisions made by `gateway.policy.engine.policy`, both shown by `gateway-admin`. A `Decision.reason` may be
read by the peer it concerns: it names no other device, no rule and no file.
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
    """To subscribe, and to be delivered messages."""
    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"


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
    file: str = ""
    line: int = 0
    group: str = ""
    """Of `topics.toml`, if the rule names one: this is the rule for one of its filters."""

    @property
    def unconditional(self) -> bool:
        """Whether this rule asks nothing of the single message."""
        return self.max_qos == 2 and self.retain and self.max_payload is None

    def objections(self, qos: int, size: int, *, retain: bool) -> list[str]:
        """Which of this allow rule's conditions a message doesn't meet, a sentence each; empty for none."""
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
    """What a 3.1.1 device sees of a denied PUBLISH (QoS 1 and 2): that version has no code for it."""

    DROP = "drop"
    DISCONNECT = "disconnect"


class OnDeniedWill(StrEnum):
    """What becomes of a CONNECT whose will the rules refuse. In neither case does the bus get the will."""

    REFUSE = "refuse"
    DROP = "drop"
    """It goes on without the will, as on a Mosquitto, which looks at a will when it is due."""


class OnWideSubscribe(StrEnum):
    """What becomes of a SUBSCRIBE that no rule covers wholly."""

    COVER = "cover"
    """It is refused."""
    FILTER = "filter"
    """It is granted where a rule allows a part of it, as on a Mosquitto: each delivery is decided anyway."""


@dataclass(frozen=True, slots=True)
class Role:
    """One file of `acl/roles/`."""

    name: str
    description: str
    rules: tuple[Rule, ...]
    will: OnDeniedWill | None = None
    """What becomes of a CONNECT whose will the rules refuse; None: as the gateway is set."""
    subscribe: OnWideSubscribe = OnWideSubscribe.COVER
    includes: tuple[str, ...] = ()
    """Other roles: who has this one has their rules, limits and settings, too."""
    limits: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Those that it sets, by name: of `gateway.policy.engine.device_limits.ROLE_LIMIT_NAMES`."""
    locations: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)
    """Where each of them stands: `file:line`."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed or not, and why."""

    allowed: bool
    reason: str
    """One sentence, fit for the peer."""
    rule: Rule | None
    """The rule that decided: a deny, or the most permissive allow; None when none matched."""
    allow_rules: tuple[Rule, ...] = ()
    """Every allow rule that matched, when allowed."""
    is_partial: bool = False
    """Of a filter: no rule covers all of it, and it was granted for the part that is allowed."""

    @property
    def rule_location(self) -> str:
        """`file:line` of the deciding rule; empty when none matched."""
        return f"{self.rule.file}:{self.rule.line}" if self.rule else ""

    @property
    def unconditional(self) -> bool:
        """Whether some allow rule admits every message. Ask once and keep the answer with the decision."""
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
        # An allow without rules can't be; if one came, this would deny it and not raise.
        reason = fewest[0] if fewest else "No rule allows this message."
        return Decision(allowed=False, reason=reason, rule=nearest)


def is_group(topic: str) -> bool:
    """Whether the topic of a rule is the name of a group in `topics.toml`: `@climate`.

    A name is a letter and at most 31 letters, digits, `_` and `-`; letters are small.
    """
    name = topic[1:]
    return topic[:1] == "@" and 1 <= len(name) <= 32 and name[0] in _LETTERS and _IN_GROUP.issuperset(name)
