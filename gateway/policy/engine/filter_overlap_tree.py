"""Which allow rule a wide filter overlaps: for roles that may subscribe to more than a rule covers.

`subscribe = "filter"` in a role grants a SUBSCRIBE if some allow rule overlaps its filter. The rules of one
identity, placeholders filled in, are put into a tree to look that up, and not tried one by one: a device may
ask a thousand times a second. Owns what overlaps; `gateway.policy.engine.policy` decides what is granted.

For example, with the rules `rooms/+/temp` (up to QoS 0) and `rooms/hall/#`: `#` overlaps both, and the second
gives the higher QoS; `rooms/attic/+` overlaps the first alone; `doors/#` overlaps none.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.mqtt.topics import split_filter
from gateway.policy.engine.rules import Rule


class _Node:
    __slots__ = ("below", "best", "edges", "exact")

    def __init__(self) -> None:
        self.edges: dict[str, _Node] = {}
        """The nodes of the next level, by that level."""
        self.exact: Rule | None = None
        """Of the filters that end here, the rule with the highest QoS."""
        self.below: Rule | None = None
        """The same of those that end in a `#` after this level."""
        self.best: Rule | None = None
        """The same of all that end here or further down."""


class FilterOverlapTree:
    """The filters that one identity may receive, searched for one that overlaps a given filter."""

    __slots__ = ("_root",)

    def __init__(self, allows: Iterable[tuple[str, Rule]]) -> None:
        """`allows`: filters without placeholders, each with its allow rule."""
        self._root = _Node()
        for topic_filter, rule in allows:
            levels, open_end = split_filter(topic_filter)
            node = self._root
            node.best = _higher(node.best, rule)
            for level in levels:
                node = node.edges.setdefault(level, _Node())
                node.best = _higher(node.best, rule)
            if open_end:
                node.below = _higher(node.below, rule)
            else:
                node.exact = _higher(node.exact, rule)

    def overlapping(self, topic_filter: str) -> Rule | None:
        """Of the rules that overlap this valid filter (without `$share/…/`), the one with the highest QoS.

        A wildcard does not match a first level that begins with `$` [MQTT-4.7.2-1].
        """
        levels, open_end = split_filter(topic_filter)
        most = self._root.best
        found: Rule | None = None
        nodes = [self._root]
        for number, level in enumerate(levels):
            reached: list[_Node] = []
            for node in nodes:
                for child in _next(node, level, first=not number):
                    reached.append(child)
                    if child.below is not None:
                        found = _higher(found, child.below)
            nodes = reached
            if not nodes or found is most:
                return found
        for node in nodes:
            found = _higher(found, node.best if open_end else node.exact)
        return found


def _next(node: _Node, level: str, *, first: bool) -> Iterable[_Node]:
    edges = node.edges
    if level == "+":
        return [child for key, child in edges.items() if not (first and key[:1] == "$")]
    keys = (level,) if first and level[:1] == "$" else (level, "+")
    return [edges[key] for key in keys if key in edges]


def _higher(one: Rule | None, other: Rule | None) -> Rule | None:
    """The rule that grants the higher QoS; the first of two equal ones."""
    if one is None or other is None:
        return one or other
    return other if other.max_qos > one.max_qos else one
