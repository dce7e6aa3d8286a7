"""Which rule a wide filter meets: for roles that may subscribe to more than a rule covers.

`subscribe = "filter"` in a role grants a SUBSCRIBE where some allow overlaps its filter. That is asked of a
tree of the filters that one identity may receive, placeholders written out, and not of each rule: a device
may ask a thousand times a second. Owns what overlaps; `gateway.policy.engine.policy` decides what is granted.

For example, with the rules `rooms/+/temp` (up to QoS 0) and `rooms/hall/#`: `#` meets both, and the second
gives the higher QoS; `rooms/attic/+` meets the first alone; `doors/#` meets none.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.mqtt.topics import split_filter
from gateway.policy.engine.rules import Rule


class _Node:
    __slots__ = ("below", "best", "edges", "exact")

    def __init__(self) -> None:
        self.edges: dict[str, _Node] = {}
        self.exact: Rule | None = None
        """Of the filters that end here, the rule with the highest QoS; likewise the next two."""
        self.below: Rule | None = None
        """Of those that end here with a `#`."""
        self.best: Rule | None = None
        """Of all that end here or further down."""


class PartialFilters:
    """What one identity may receive, to be asked by filters."""

    __slots__ = ("_root",)

    def __init__(self, allows: Iterable[tuple[str, Rule]]) -> None:
        """Filters without placeholders, each with its rule."""
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

    def meets(self, topic_filter: str) -> Rule | None:
        """Of the rules that have a topic in common with this valid, unshared filter the one of highest QoS.

        A wildcard and a first level that begins with `$` have none [MQTT-4.7.2-1].
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
    """Of two rules the one that grants more; of equals the first."""
    if one is None or other is None:
        return one or other
    return other if other.max_qos > one.max_qos else one
