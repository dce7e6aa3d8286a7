"""Which placeholder a level stands for, when more than one would do: seen from all devices that did the same.

A level that equals both the id of a device and one of its labels, or that is a word of the topic and a label
by chance, says nothing by itself. What explains most devices at once is taken; but where a rule that allows
it says which it is, it is that.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from math import prod

from gateway.policy.engine.identity import Identity
from gateway.policy.engine.placeholders import placeholder_values
from gateway.policy.engine.rules import Action

_CLIENT = "{client}"
_READINGS_MOST = 64
"""Of one template: above it, it is left as it was recorded, but for what the rule says."""

Use = tuple[Identity, Action, str, tuple[str, ...]]
"""What was recorded of a device: an action, a template, and the topics of the rules that allow all of it.

Without rules, each level may be anything.
"""


def named(uses: Sequence[Use]) -> list[str]:
    """The template of each use, chosen so that few templates say what many devices did."""
    users: defaultdict[tuple[Action, str], set[int]] = defaultdict(set)
    for number, (identity, action, template, rules) in enumerate(uses):
        for rule in rules or ("#",):
            for reading in _readings(identity, template, rule):
                users[action, reading].add(number)
    recorded = {(action, template) for _, action, template, _ in uses}

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


def _readings(identity: Identity, template: str, rule: str) -> Iterable[str]:
    """The templates within the rule that mean the same topic for this identity.

    A word of the rule is a word, though a device be called so: as a placeholder it gave one to each device.
    """
    # A label with several values stays what it is: as anything else the template would mean fewer topics.
    values = {name: some[0] for name, some in placeholder_values(identity).items() if len(some) == 1}
    said = [level for level in rule.split("/") if level != "#"]
    plain, choices = [], []
    for at, level in enumerate(template.split("/")):
        value = values.get(level)
        if at < len(said) and said[at] != "+":
            same = [said[at]]
        elif value is None or level == _CLIENT:
            same = [level]
        else:
            same = [name for name, other in values.items() if other == value and name != _CLIENT]
            # A value with a brace is no literal of a rule: it would be a placeholder, or none at all.
            same += [] if "{" in value or "}" in value else [value]
        plain.append(level if level in same else same[0])
        choices.append(same)
    count = prod(map(len, choices))
    return map("/".join, product(*choices)) if count <= _READINGS_MOST else ["/".join(plain)]
