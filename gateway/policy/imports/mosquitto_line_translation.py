"""Translates one line of Mosquitto's files into an access line that a rule can express, or comes close to.

No rule can name a level with braces, nor a client id that is only a part of a level. An allow that no rule
can express is left out. A deny is widened to the whole level instead, since leaving it out would give rights
away.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from gateway.mqtt.topics import filter_fault
from gateway.policy.engine.rules import Action
from gateway.policy.imports.filter_algebra import intersection
from gateway.policy.imports.intermediate_model import BRIDGE_STATE, AccessLine, Finding


class Inexpressible(Enum):
    """A level that no rule can name, and why."""

    BRACES = "a level has braces, which in a rule only placeholders have"
    CLIENT_ID = "%c is only a part of a level, and a rule's {client} is a whole one"
    USER = "%u is only a part of a level, and a rule's {device} is a whole one"
    NAME = "%u stands for a user name with / + or #, or for none"


Levels = Sequence[str | Inexpressible]
"""The levels of the topic of a rule: words, wildcards, placeholders, and those that no rule can name."""

_LEFT_OUT = "the line is left out, so that it allows nothing in the gateway"
_WIDENED = "the line denies every value of this level in the gateway"

_SHARED = (
    "names a shared subscription, but Mosquitto decides on its deliveries by the topic of each message: the "
    "line allows and denies nothing in Mosquitto, and it is left out. In the gateway who may subscribe to a "
    "filter may share it too: write the line for what follows $share/<group>/, if no other line has it"
)
_SHARE = "Mosquitto itself refuses every topic that begins with $share; left out"


def access_line(
    levels: Levels, *, as_matched: str, allow: bool, action: Action, location: str
) -> tuple[AccessLine, Finding | None]:
    """The access line, and a finding about it, if there is one.

    `as_matched` is as in `AccessLine`.
    """
    whole = "/".join("+" if isinstance(level, Inexpressible) else level for level in levels)
    if fault := filter_fault(whole):
        note = Finding("note", location, f"the topic {fault}: no message can match it; left out")
        return AccessLine(allow, as_matched, None, location), note
    if as_matched.startswith("$share"):
        text = _SHARED if as_matched.startswith("$share/") and as_matched.count("/") > 1 else _SHARE
        return AccessLine(allow, as_matched, None, location), Finding("note", location, text)
    topic: str | None = whole
    finding = None
    if why := dict.fromkeys(level.value for level in levels if isinstance(level, Inexpressible)):
        text = f"{'; '.join(why)}: {_LEFT_OUT if allow else _WIDENED}"
        finding = Finding("differs", location, text, topics=topic)
        topic = None if allow else topic
    elif allow and action is Action.PUBLISH and as_matched.startswith("$SYS"):
        topic = intersection(BRIDGE_STATE, whole)
        if topic != whole:
            text = f"Mosquitto itself lets no client publish below $SYS but to {BRIDGE_STATE}; left out"
            finding = Finding("note", location, text)
    return AccessLine(allow, as_matched, topic, location), finding


def literal_levels(topic: str) -> Levels:
    """The levels of a filter without placeholders."""
    return [Inexpressible.BRACES if "{" in level or "}" in level else level for level in topic.split("/")]


def pattern_levels(pattern: str, user: str | None) -> Levels:
    """The levels of a pattern with %u and %c. `user` None: for any user.

    A user name may have more than one level.
    """
    found: list[str | Inexpressible] = []
    for level in pattern.split("/"):
        if level == "%c":
            found.append("{client}")
        elif level == "%u" and user is None:
            found.append("{device}")
        elif "%c" in level:
            found.append(Inexpressible.CLIENT_ID)
        elif "%u" in level and user is None:
            found.append(Inexpressible.USER)
        else:
            found += literal_levels(level.replace("%u", user or ""))
    return found


def levels_with_names(pattern: str, user: str | None) -> Levels:
    """The levels of a pattern in which %u and %c are whole levels. `user` None: for any user.

    A name that is not a single plain level becomes `Inexpressible.NAME`.
    """
    plain = user is not None and bool(user) and not {"/", "+", "#"} & {*user}
    found: list[str | Inexpressible] = []
    for level in pattern.split("/"):
        if level == "%c":
            found.append("{client}")
        elif level != "%u":
            found += literal_levels(level)
        elif user is None:
            found.append("{device}")
        elif plain:
            found += literal_levels(user)
        else:
            found.append(Inexpressible.NAME)
    return found


def with_device(topic: str, user: str | None) -> str:
    """The topic with `{device}` for each level that is the user's name: for that user, the same topic."""
    return "/".join("{device}" if level == user else level for level in topic.split("/"))
