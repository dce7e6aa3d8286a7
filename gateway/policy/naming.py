"""Which placeholder a level stands for, when more than one would do: seen from all devices that did the same.

A level that equals both the id of a device and one of its labels, or that is a word of the topic and a label
by chance, says nothing by itself. What explains most devices at once is taken.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product

from gateway.core.identity import Identity
from gateway.core.rules import Action, template_values

_CLIENT = "{client}"
_READINGS_MOST = 64
"""Of one template: above it, it is left as it was recorded."""

Use = tuple[Identity, Action, str]
"""What was recorded of a device: an action, and a template."""


def named(uses: Sequence[Use]) -> list[str]:
    """The template of each use, chosen so that few templates say what many devices did."""
    users: defaultdict[tuple[Action, str], set[int]] = defaultdict(set)
    for number, (identity, action, template) in enumerate(uses):
        for reading in _readings(identity, template):
            users[action, reading].add(number)
    recorded = {(action, template) for _, action, template in uses}

    def rank(one: tuple[Action, str]) -> tuple[int, bool, int, tuple[Action, str]]:
        devices = {uses[number][0].device_id for number in users[one]}
        return -len(devices), one not in recorded, -one[1].count("{"), one

    waiting = [rank(one) for one in users]
    heapq.heapify(waiting)
    chosen: dict[int, str] = {}
    while waiting:
        first = heapq.heappop(waiting)
        one = first[3]
        users[one] = {number for number in users[one] if number not in chosen}
        if not users[one]:
            continue
        now = rank(one)
        if now != first:  # another one has explained some of its devices
            heapq.heappush(waiting, now)
            continue
        chosen |= dict.fromkeys(users[one], one[1])
    return [chosen[number] for number in range(len(uses))]


def _readings(identity: Identity, template: str) -> Iterable[str]:
    """All templates that mean the same topic for this identity, the recorded one among them."""
    values = template_values(identity)
    levels = template.split("/")
    choices = []
    for level in levels:
        value = values.get(level)
        if value is None or level == _CLIENT:
            choices.append([level])
        else:
            same = [name for name, other in values.items() if other == value and name != _CLIENT]
            # A value with a brace is no literal of a rule: it would be a placeholder, or none at all.
            choices.append(same if "{" in value or "}" in value else [*same, value])
    count = 1
    for choice in choices:
        count *= len(choice)
    return map("/".join, product(*choices)) if count <= _READINGS_MOST else [template]
