"""Infers from what all devices did which placeholder a level stands for, if more than one is possible.

A level may equal both the id of a device and one of its labels, or be a plain word that happens to equal a
label. A reading is one choice of words and placeholders for the levels of a topic. The reading that explains
what most devices did is taken; but a level that is named by the rule that allows the topic is read as there.
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
"""Readings tried for one template. If there are more, it stays as recorded, except for what the rule
names."""

Use = tuple[Identity, Action, str, tuple[str, ...]]
"""What was recorded of a device: an action, a template, and the topics of the rules that allow all of it.

If there are no rules, any reading of each level is possible.
"""


def with_placeholders(uses: Sequence[Use]) -> list[str]:
    """The template of each use, chosen so that as few templates as possible describe what the devices did."""
    users: defaultdict[tuple[Action, str], set[int]] = defaultdict(set)
    for number, (identity, action, template, rules) in enumerate(uses):
        for rule in rules or ("#",):
            for read_as in _readings(identity, template, rule):
                users[action, read_as].add(number)
    recorded = {(action, template) for _, action, template, _ in uses}

    def rank(reading: tuple[Action, str]) -> tuple[int, bool, int, tuple[Action, str]]:
        # The lowest is taken first: of most devices, as recorded, with most placeholders.
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
        if new_rank != old_rank:  # a different reading already explains some of its devices
            heapq.heappush(queue, new_rank)
            continue
        chosen |= dict.fromkeys(users[reading], reading[1])
    return [chosen[number] for number in range(len(uses))]


def _readings(identity: Identity, template: str, rule: str) -> Iterable[str]:
    """The templates within the rule that stand for the same topic with this identity.

    A word of the rule stays a word, even if a device has that name: a placeholder would stand for a different
    word with each device.
    """
    # A label with several values is kept: any other reading would stand for fewer topics.
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
            # A value with a brace can't be a word of a rule; one with an @ may name a group there.
            equal += [] if "{" in value or "}" in value or value[0] == "@" else [value]
        default_levels.append(level if level in equal else equal[0])
        choices.append(equal)
    count = prod(map(len, choices))
    return map("/".join, product(*choices)) if count <= _READINGS_MAX else ["/".join(default_levels)]
