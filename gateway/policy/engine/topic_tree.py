"""A tree of topic filters by level, which finds every filter that matches a topic in one walk.

Owns the matching of many filters at once; the syntax of a single one is in `gateway.mqtt.topics`. Each entry
has an owner (a role), so that one tree serves all identities and nothing is compiled per identity. The cost
of a walk depends on the number of levels of the topic and on the filters that match it so far, not on the
number of identities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from gateway.mqtt.topics import split_filter

T = TypeVar("T")


class _Node(Generic[T]):
    __slots__ = ("below", "edges", "exact")

    def __init__(self) -> None:
        self.edges: dict[str, _Node[T]] = {}
        """The nodes of the next level, by that level."""
        self.exact: dict[str, tuple[T, ...]] = {}
        """By owner, the values of the filters that end here."""
        self.below: dict[str, tuple[T, ...]] = {}
        """By owner, the values of the filters that end in a `#` after this level."""


class TopicTree(Generic[T]):
    """Values by topic filter. A level may be a special key that begins with `+` (see `find`)."""

    __slots__ = ("_depth", "_root")

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._depth = 0

    def add(self, levels: Iterable[str], value: T, *, owner: str, open_end: bool) -> None:
        """Add a value of `owner` under a filter, which is given as `split_filter` returns it."""
        node = self._root
        depth = 0
        for depth, level in enumerate(levels, start=1):  # noqa: B007 - the count is used
            node = node.edges.setdefault(level, _Node())
        ends = node.below if open_end else node.exact
        ends[owner] = (*ends.get(owner, ()), value)
        self._depth = max(self._depth, depth)

    def find(
        self, topic_filter: str, owners: Iterable[str], specials: Mapping[str, tuple[str, ...]]
    ) -> list[T]:
        """The values of `owners` whose filter covers `topic_filter` (or matches it, if it is a topic name).

        `specials` gives special keys that match a level, too: `{"lamp-1": ("+{device}",)}`. A first level
        that begins with `$` is matched by itself only [MQTT-4.7.2-1].
        """
        # No deeper than the tree: a hostile topic of 65,000 levels must not be split into all of them.
        levels, open_end = split_filter(topic_filter, self._depth)
        literal_only = levels[0][:1] == "$"
        found: list[T] = []
        nodes = [self._root]
        for level in levels:
            if literal_only or level == "+":
                keys: tuple[str, ...] = (level,)
                literal_only = False
            else:
                keys = (level, "+", *specials.get(level, ()))
            reached = []
            for node in nodes:
                edges = node.edges
                for key in keys:
                    child = edges.get(key)
                    if child is not None:
                        reached.append(child)
                        if child.below:
                            _collect(child.below, owners, found)
            nodes = reached
            if not nodes:
                return found
        if not open_end:
            for node in nodes:
                if node.exact:
                    _collect(node.exact, owners, found)
        return found


def _collect(ends: dict[str, tuple[T, ...]], owners: Iterable[str], found: list[T]) -> None:
    for owner in owners:
        if owner in ends:
            found += ends[owner]
