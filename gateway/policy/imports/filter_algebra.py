"""The intersection and the difference of two filters that may contain placeholders.

`gateway.mqtt.topics` has them for filters without placeholders. Here a level may be a placeholder, whose
value is not known yet: it may be any word, but the same one wherever the placeholder stands.
"""

from __future__ import annotations

from gateway.mqtt.topics import join_filter, split_filter

_DIFFERENCE_FILTERS_MAX = 8
"""How many filters a difference may consist of; nobody would want to read more as rules."""


def intersection(one: str, other: str) -> str | None:
    """A filter of the topics that both match; None when there can be none.

    Exact, unless a placeholder meets a word: whether they are equal is not known yet, and the level of `one`
    is taken. So the filter never matches more than `one` does.
    """
    mine, mine_open = split_filter(one)
    theirs, theirs_open = split_filter(other)
    if (len(mine) < len(theirs) and not mine_open) or (len(mine) > len(theirs) and not theirs_open):
        return None
    levels = []
    for number in range(max(len(mine), len(theirs))):
        my_level = mine[number] if number < len(mine) else "+"
        their_level = theirs[number] if number < len(theirs) else "+"
        if not _may_agree(my_level, their_level, first=not number):
            return None
        levels.append(their_level if my_level == "+" else my_level)
    return join_filter(levels, open_end=mine_open and theirs_open)


def difference(one: str, other: str) -> list[str] | None:
    """Filters of the topics that `one` matches and `other` doesn't; None if no filters match exactly these.

    There are such filters if `other` takes away whole depths: `a/#` without `a/+` is `a` and `a/+/+/#`.
    """
    if intersection(one, other) is None:
        return [one]
    mine, mine_open = split_filter(one)
    theirs, theirs_open = split_filter(other)
    for number, level in enumerate(theirs):
        my_level = mine[number] if number < len(mine) else "+"
        if level != my_level and (level != "+" or (not number and my_level[:1] == "$")):
            return None
    deeper = len(theirs) - len(mine)
    if not mine_open or deeper < 0:
        return []  # they have topics in common, so `other` covers all depths of `one`
    if deeper + 1 > _DIFFERENCE_FILTERS_MAX:
        return None
    left = [join_filter([*mine, *["+"] * depth], open_end=False) for depth in range(deeper)]
    if not theirs_open:
        left.append(join_filter([*mine, *["+"] * (deeper + 1)], open_end=True))
    return left


def _may_agree(my_level: str, their_level: str, *, first: bool) -> bool:
    if my_level == their_level:
        return True
    if "+" in {my_level, their_level} or "{" in {my_level[:1], their_level[:1]}:
        # Neither a wildcard nor a placeholder reaches a first level that begins with $ [MQTT-4.7.2-1].
        return not (first and "$" in {my_level[:1], their_level[:1]})
    return False
