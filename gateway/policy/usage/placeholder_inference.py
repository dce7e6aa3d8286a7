"""Which placeholder a level stands for, when more than one would do, by what all devices did.

A level that equals both the id of a device and one of its labels, or that is a word of the topic and a label
by chance, says nothing by itself. A reading is a choice of placeholders for the levels of a topic: the one
that explains what most devices did is taken; but where a rule that allows the topic names the level, that.
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
_READINGS_MAX = 64
"""Readings of one template; with more, it is left as it was recorded, but for what the rule says."""

Use = tuple[Identity, Action, str, tuple[str, ...]]
"""What was recorded of a device: an action, a template, and the topics of the rules that allow all of it.

Without rules, each level may be anything.
"""


def with_placeholders(uses: Sequence[Use]) -> list[str]:
    """The template of each use, chosen so that few templates say what many devices did."""
    users: defaultdict[tuple[Action, str], set[int]] = defaultdict(set)
    for number, (identity, action, template, rules) in enumerate(uses):
        for rule in rules or ("#",):
            for meaning in _readings(identity, template, rule):
                users[action, meaning].add(number)
    recorded = {(action, template) for _, action, template, _ in uses}

    def rank(reading: tuple[Action, str]) -> tuple[int, bool, int, tuple[Action, str]]:
        devices = {uses[number][0].device_id for number in users[reading]}
        return -len(devices), reading not in recorded, -reading[1].count("{"), reading

    queue = [rank(reading) for reading in users]
    heapq.heapify(queue)
    chosen: dict[int, str] = {}
    while queue:
        old_rank = heapq.heappop(queue)
        reading = old_rank[3]
        users[reading] = {number for number in users[reading] if number not in chosen}
        if not users[reading]:
            continue
        new_rank = rank(reading)
        if new_rank != old_rank:  # a different reading has explained some of its devices
            heapq.heappush(queue, new_rank)
            continue
        chosen |= dict.fromkeys(users[reading], reading[1])
    return [chosen[number] for number in range(len(uses))]


def _readings(identity: Identity, template: str, rule: str) -> Iterable[str]:
    """The templates within the rule that mean the same topic for this identity.

    A word of the rule stays a word, even if a device has that name: as a placeholder it would give
    a different word to each device.
    """
    # A label with several values stays what it is: as anything else the template would mean fewer topics.
    values = {name: of_name[0] for name, of_name in placeholder_values(identity).items() if len(of_name) == 1}
    rule_levels = [level for level in rule.split("/") if level != "#"]
    default_levels, choices = [], []
    for at, level in enumerate(template.split("/")):
        value = values.get(level)
        if at < len(rule_levels) and rule_levels[at] != "+":
            equal = [rule_levels[at]]
        elif value is None or level == _CLIENT:
            equal = [level]
        else:
            equal = [name for name, other in values.items() if other == value and name != _CLIENT]
            # A value with a brace is no literal of a rule: it would be a placeholder, or none at all.
            equal += [] if "{" in value or "}" in value else [value]
        default_levels.append(level if level in equal else equal[0])
        choices.append(equal)
    count = prod(map(len, choices))
    return map("/".join, product(*choices)) if count <= _READINGS_MAX else ["/".join(default_levels)]
