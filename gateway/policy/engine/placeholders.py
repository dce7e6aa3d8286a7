"""The placeholders in the topic of a rule: `{device}`, `{client}`, `{label.NAME}`, and what they stand for.

Each is a whole level of the topic. Must not know what a rule allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import NamedTuple

from gateway.mqtt.topics import filter_fault
from gateway.policy.engine.identity import Identity, is_label
from gateway.policy.engine.rules import names_group

_RESOLVED_TOPICS_MAX = 1_000
"""Topics that `resolved_topics` yields for one rule and one device."""


def rule_topic_fault(topic: str) -> str | None:
    """What is wrong with the topic of a rule, as the end of a sentence; None when it is valid.

    A placeholder is a whole level. Rules don't contain `$share/…`: a shared subscription is decided by the
    filter that follows it.
    """
    for level in topic.split("/"):
        if ("{" in level or "}" in level) and not _is_placeholder(level):
            return (
                f'has the level "{level}"; a placeholder is one whole level: {{device}}, {{client}} or '
                "{label.<name>}"
            )
    if topic == "$share" or topic.startswith("$share/"):
        return "begins with $share; write the filter that follows the group"
    return filter_fault(topic)


def can_be_written(topic: str) -> bool:
    """Whether a file can have a rule for just this topic, of a template or as a device sent it.

    A device may send `@locks`: in a file this would be the group of that name, with all that it lists.
    """
    return rule_topic_fault(topic) is None and not names_group(topic)


def tree_keys(levels: list[str]) -> list[str]:
    """The levels of a rule's topic as keys of a `TopicTree`: `{device}` becomes `+{device}`.

    No level of a valid topic name or filter looks like that, so a device that publishes to a topic with a
    literal `{device}` in it does not match the rule.
    """
    return [f"+{level}" if level[:1] == "{" else level for level in levels]


def placeholder_values(identity: Identity) -> dict[str, tuple[str, ...]]:
    """What each placeholder stands for in the rules for this identity; a label may have several values.

    A value that is not a single level (empty, or with `/ + #` or NUL) is left out, so a rule that needs it
    matches nothing. Client ids come from the device and may be any string (CVE-2017-7650).
    """
    values: dict[str, tuple[str, ...]] = {
        "{device}": (identity.device_id,),
        "{client}": (identity.client_id,),
    }
    for name, some in identity.labels.items():
        values[f"{{label.{name}}}"] = some
    usable = {name: tuple(filter(_is_one_level, some)) for name, some in values.items()}
    return {name: some for name, some in usable.items() if some}


class PlaceholderKeys(NamedTuple):
    """Which placeholders a level of a topic may stand for, as a `TopicTree` wants it."""

    by_level: Mapping[str, tuple[str, ...]]
    """By the level, the keys (see `tree_keys`) of the placeholders that have it as a value."""
    some_has_several: bool
    """Whether a placeholder has several values: then `has_one_value_each` is to be asked, too."""


def placeholder_keys(identity: Identity) -> PlaceholderKeys:
    """Those of all placeholders that have a value for this identity."""
    values = placeholder_values(identity)
    by_level: dict[str, tuple[str, ...]] = {}
    for placeholder, some in values.items():
        for value in some:
            by_level[value] = (*by_level.get(value, ()), f"+{placeholder}")
    return PlaceholderKeys(by_level, any(len(some) > 1 for some in values.values()))


def resolved_topics(topic: str, values: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """The topic of a rule with its placeholders replaced, once for each combination of their `values`.

    It yields nothing if a placeholder has no value. A placeholder has the same value wherever it stands in a
    topic: for a device in two rooms `{label.room}/to/{label.room}` gives two topics, not four. Of very many
    combinations only the first `_RESOLVED_TOPICS_MAX` are given.
    """
    if "{" not in topic:
        yield topic
        return
    names = list(dict.fromkeys(level for level in topic.split("/") if level[:1] == "{"))
    for chosen in islice(product(*(values.get(name, ()) for name in names)), _RESOLVED_TOPICS_MAX):
        resolved = resolve(topic, dict(zip(names, chosen, strict=True)))
        if resolved is not None:
            yield resolved


def has_one_value_each(rule_topic: str, topic: str) -> bool:
    """Whether each label in a rule's topic stands for the same value wherever it stands.

    `topic` is the topic that the rule matches if labels at different levels may differ.
    """
    if rule_topic.count("{label.") < 2:
        return True
    levels = rule_topic.split("/")
    seen: dict[str, str] = {}
    return all(
        seen.setdefault(level, other) == other
        for level, other in zip(levels, topic.split("/", len(levels)), strict=False)
        if level.startswith("{label.")
    )


def resolve(topic: str, values: Mapping[str, str]) -> str | None:
    """The topic of a rule with its placeholders replaced; None if one of them has no value.

    None also if its first level would begin with `$`: like a wildcard, a placeholder does not match such
    topics [MQTT-4.7.2-1].
    """
    levels = topic.split("/")
    for index, level in enumerate(levels):
        if level[:1] == "{":
            value = values.get(level)
            if value is None or (index == 0 and value[0] == "$"):
                return None
            levels[index] = value
    return "/".join(levels)


def _is_placeholder(level: str) -> bool:
    if level in {"{device}", "{client}"}:
        return True
    return level.startswith("{label.") and level.endswith("}") and is_label(level[7:-1], "x")


def _is_one_level(value: str) -> bool:
    return bool(value) and not ("/" in value or "+" in value or "#" in value or "\0" in value)
