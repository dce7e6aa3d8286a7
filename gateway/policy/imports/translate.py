"""One line of Mosquitto's as a step that rules can say, or as near to it as they come.

Rules have no words for a level with braces, nor for a client id that is only a part of a level. An
allow that can't be said is left out; a deny is widened to the whole level instead, for left out it
would give rights away.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.rules import Action
from gateway.mqtt.topics import filter_fault
from gateway.policy.imports.filters import meet
from gateway.policy.imports.source import BRIDGE_STATE, Finding, Step

_UNSAID = (
    "a level has braces, or the client id as a part of it, and no rule can say that; "
    "the line is left out, so that it allows nothing here"
)
_WIDENED = (
    "a level has braces, or the client id as a part of it, and no rule can say that; "
    "the line denies the whole level here"
)

_SHARED = (
    "names a shared subscription, but Mosquitto judges its deliveries by the topic of each message: the line "
    "allows and denies nothing there, and it is left out. Here who may subscribe to a filter may share it "
    "too: write the line for what stands behind $share/<group>/, if no other line says it"
)
_SHARE = "Mosquitto itself refuses every topic that begins with $share; left out"


def step(
    levels: Sequence[str | None], *, there: str, allow: bool, action: Action, place: str
) -> tuple[Step, Finding | None]:
    """The step, and what has to be told of it. None stands for a level that rules have no words for.

    `there` is the filter as Mosquitto matches it.
    """
    whole = "/".join("+" if level is None else level for level in levels)
    if fault := filter_fault(whole):
        note = Finding("note", place, f"the topic {fault}: no message can match it; left out")
        return Step(allow, there, None, place), note
    if there.startswith("$share"):
        text = _SHARED if there.startswith("$share/") and there.count("/") > 1 else _SHARE
        return Step(allow, there, None, place), Finding("note", place, text)
    topic: str | None = whole
    finding = None
    if None in levels:
        finding = Finding("differs", place, _UNSAID if allow else _WIDENED, topics=topic)
        topic = None if allow else topic
    elif allow and action is Action.PUBLISH and there.startswith("$SYS"):
        topic = meet(BRIDGE_STATE, whole)
        if topic != whole:
            text = f"Mosquitto itself lets no client publish below $SYS but to {BRIDGE_STATE}; left out"
            finding = Finding("note", place, text)
    return Step(allow, there, topic, place), finding


def plain_levels(topic: str) -> list[str | None]:
    """The levels of a filter without placeholders."""
    return [None if "{" in level or "}" in level else level for level in topic.split("/")]


def pattern_levels(pattern: str, user: str | None) -> list[str | None]:
    """The levels of a pattern with %u and %c; None for `user`: whoever it may be.

    A user name may have more than one level.
    """
    found: list[str | None] = []
    for level in pattern.split("/"):
        if level == "%c":
            found.append("{client}")
        elif level == "%u" and user is None:
            found.append("{device}")
        elif "%c" in level or ("%u" in level and user is None):
            found.append(None)
        else:
            found += plain_levels(level.replace("%u", user or ""))
    return found


def with_device(topic: str, user: str | None) -> str:
    """The topic with `{device}` wherever a level is the user's name: for that user the same."""
    return "/".join("{device}" if level == user else level for level in topic.split("/"))
