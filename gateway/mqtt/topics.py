"""Topic names and topic filters: what is valid, what matches, what covers (MQTT 5, 4.7 and 4.8.2).

Works on text; `gateway.mqtt.data_types` decodes the bytes. It knows nothing of rules, roles and placeholders,
which are `gateway.policy.engine`'s. Everything here goes through the levels once, in a loop: no recursion
(CVE-2019-11779: a filter of 65,000 slashes overflows the stack) and no regular expression
(GHSA-2hjf-7455-w946: a filter as a regex bomb).
"""

from __future__ import annotations

from collections.abc import Iterable

TOPIC_BYTES_MAX = 65_535
"""Longest topic name or filter, in bytes of UTF-8 [MQTT-4.7.3-3]."""
TOPIC_LEVELS_MAX = 201
"""Most levels of a topic name or filter: Mosquitto ends a connection that names one of more."""
NO_SHARED_FILTER = "has no filter after $share/<group>/"
NO_SHARED_GROUP = "has no group name after $share/"

_SHARE = "$share"


def name_fault(topic: str) -> str | None:
    """What is wrong with a topic name, as the end of a sentence; None when it is valid."""
    if fault := _text_fault(topic):
        return fault
    if "+" in topic or "#" in topic:
        return "contains a wildcard, which only a filter may"  # [MQTT-3.3.2-2]
    return None


def filter_fault(topic_filter: str) -> str | None:
    """What is wrong with a topic filter, as the end of a sentence; None when it is valid.

    `$share/<group>/<filter>` is checked as a whole: Mosquitto takes it so in 3.1.1 too.
    """
    if fault := _text_fault(topic_filter):
        return fault
    if topic_filter == _SHARE or topic_filter.startswith("$share/"):
        _, group, topic_filter = (*topic_filter.split("/", 2), "", "")[:3]
        if not topic_filter:
            return NO_SHARED_FILTER
        if group in {"", "+"}:
            return NO_SHARED_GROUP
        if "+" in group or "#" in group:  # [MQTT-4.8.2-1], [MQTT-4.8.2-2]
            return "has no valid group name after $share/"
    # Counting is done by the interpreter's own loops: a hostile filter has 65,535 levels.
    if "#" in topic_filter[:-1] or (topic_filter[-1] == "#" and topic_filter[-2:] not in {"#", "/#"}):
        return "has a # that is not its whole last level"  # [MQTT-4.7.1-1]
    if topic_filter.count("+") != topic_filter.split("/").count("+"):
        return "has a + that is not a whole level"  # [MQTT-4.7.1-2]
    return None


def depth_fault(topic: str) -> str | None:
    """Why Mosquitto would end a connection that names this topic or filter, as the end of a sentence."""
    return f"has more than {TOPIC_LEVELS_MAX} levels" if topic.count("/") >= TOPIC_LEVELS_MAX else None


def unshared(topic_filter: str) -> str:
    """The filter that decides which messages are delivered: what follows `$share/<group>/`, else all of it.

    For valid filters. Only one `$share/<group>/` is removed: after it `$share` is a level like others.
    """
    if topic_filter.startswith("$share/"):
        return topic_filter.split("/", 2)[2]
    return topic_filter


def split_filter(topic_filter: str, most: int = -1) -> tuple[list[str], bool]:
    """The levels of a valid, unshared filter, and whether anything may follow them (`#`).

    No topic is empty [MQTT-4.7.3-1], so `#` is the same as `+/#`, and `/#` as `/+/#`: the longer form
    is given, which says how many levels there are at least. After `most` levels the rest stays in one piece.
    """
    if topic_filter in {"#", "/#"}:
        topic_filter = topic_filter[:-1] + "+/#"
    if topic_filter[-1] == "#":
        return topic_filter[:-2].split("/", most), True
    return topic_filter.split("/", most), False


def join_filter(levels: list[str], *, open_end: bool) -> str:
    """Join what `split_filter` split, in the shorter form: filters that cover each other become equal."""
    if open_end and levels[-1] == "+" and len(levels) == 1 + (levels[0] == ""):
        levels = levels[:-1]
    return "/".join([*levels, "#"] if open_end else levels)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a message on `topic` goes to a subscriber of `topic_filter` (both valid, unshared)."""
    want, open_end = split_filter(topic_filter)
    have = topic.split("/")
    if topic[0] == "$" and want[0] == "+":
        return False  # [MQTT-4.7.2-1]
    if len(have) < len(want) or (len(have) > len(want) and not open_end):
        return False
    return all(level in {"+", other} for level, other in zip(want, have, strict=False))


def covers(rule_filter: str, topic_filter: str) -> bool:
    """Whether `rule_filter` matches every topic that `topic_filter` matches (both valid, unshared).

    Exact. Level names are unbounded, so `+` is covered by `+` alone, and level by level is enough.
    """
    return covers_any((rule_filter,), topic_filter)


def covers_any(rule_filters: Iterable[str], topic_filter: str) -> bool:
    """Whether one of these covers it by itself, as `covers` says: there may be a thousand."""
    asked, asked_open = split_filter(topic_filter)
    return any(_covers(split_filter(one), asked, asked_open=asked_open) for one in rule_filters)


def _covers(split: tuple[list[str], bool], asked: list[str], *, asked_open: bool) -> bool:
    rule, rule_open = split
    if rule[0] == "+" and asked[0][:1] == "$":
        return False  # [MQTT-4.7.2-1]: no wildcard reaches $SYS
    if len(asked) < len(rule):
        return False  # `a/#` matches `a`, which `a/+` and `a/+/#` do not
    if not rule_open and (asked_open or len(asked) > len(rule)):
        return False
    return all(level in {"+", other} for level, other in zip(rule, asked, strict=False))


def intersection(one: str, other: str) -> str | None:
    """The filter of the topics that both match (both valid, unshared); None when there is no such topic."""
    longer, longer_open = split_filter(one)
    shorter, shorter_open = split_filter(other)
    if len(longer) < len(shorter):
        longer, longer_open, shorter, shorter_open = shorter, shorter_open, longer, longer_open
    if len(longer) > len(shorter) and not shorter_open:
        return None
    levels = []
    for number, level in enumerate(longer):
        asked = shorter[number] if number < len(shorter) else "+"
        if "+" not in {level, asked} and level != asked:
            return None
        chosen = asked if level == "+" else level
        if not number and chosen[:1] == "$" and "+" in {level, asked}:
            return None  # [MQTT-4.7.2-1]
        levels.append(chosen)
    return join_filter(levels, open_end=longer_open and shorter_open)


def _text_fault(text: str) -> str | None:
    if not text:
        return "is empty"  # [MQTT-4.7.3-1]
    if "\0" in text:
        return "contains U+0000"  # [MQTT-4.7.3-2]
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "is not well-formed UTF-8"  # [MQTT-1.5.4-1]: surrogates
    return f"is longer than {TOPIC_BYTES_MAX:,} bytes" if size > TOPIC_BYTES_MAX else None
