"""Topics as usage is recorded: templates, in which a placeholder stands for what differs between devices.

`devices/lamp-1/state` of `lamp-1` is recorded as `devices/{device}/state`, so that devices can be compared.
Owns how a topic becomes a template and back, and which levels of many templates vary. Knows no counts, no
times and no files.

A template looks like the topic of a rule, with one addition: a level with a literal brace, which a device
sent and which is not a placeholder, is escaped with a `+` before it; no level of a valid topic or filter
looks like that. Rules can't name such levels, and a literal `{device}` in a device's topic must not pass for
the placeholder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from gateway.mqtt.topics import covers
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.placeholders import placeholder_values, resolved_topics
from gateway.policy.engine.rules import Rule

VALUES_MIN = 3
"""A level varies when at least this many values of it were seen, all other levels being equal."""

_EFFORT_OF_A_COMPARISON = 2
"""Units of effort to compare a filter with a template."""
_ENDLESS = 2**62
"""Units of effort that nothing uses up: no bound."""
_CLIENT = "{client}"
_Levels = tuple[str, ...]


def template_of(topic: str, identity: Identity, allow_rules: Iterable[Rule] = ()) -> str:
    """The template of a valid topic, or of a filter with `$share/<group>/` removed, that `allow_rules` allow.

    Only whole levels are replaced, and `{client}` is used only where one of these rules has it: devices
    choose their client id, and `building/locks` must not become `building/{client}` for one that calls itself
    `locks`.
    """
    levels = topic.split("/")
    placeholder_of = {identity.device_id: "{device}"}
    has_several_values = False
    for name in sorted(identity.labels):
        has_several_values = has_several_values or len(identity.labels[name]) > 1
        for value in identity.labels[name]:
            placeholder_of.setdefault(value, f"{{label.{name}}}")
    replaced = [placeholder_of.get(level, level) for level in levels]
    if has_several_values:
        _only_one_value_each(replaced, levels)
    for rule in allow_rules:
        if _CLIENT in rule.topic:
            for at, level in enumerate(rule.topic.split("/")):
                if level == _CLIENT and at < len(levels) and levels[at] == identity.client_id:
                    replaced[at] = _CLIENT
    if "{" in topic or "}" in topic:
        replaced = [
            f"+{level}" if level == old and ("{" in old or "}" in old) else level
            for level, old in zip(replaced, levels, strict=True)
        ]
    return "/".join(replaced)


def _only_one_value_each(replaced: list[str], levels: Sequence[str]) -> None:
    """Restore a level whose label already stands for a different value further left."""
    seen: dict[str, str] = {}
    for at, level in enumerate(levels):
        if replaced[at] != level and seen.setdefault(replaced[at], level) != level:
            replaced[at] = level


def topics_of(template: str, identity: Identity) -> list[str]:
    """The topics that a template stands for with this identity, one for each value of a label.

    An empty list if the identity has no value for one of its placeholders.
    """
    return [
        "/".join([level[1:] if is_escaped(level) else level for level in resolved.split("/")])
        for resolved in resolved_topics(template, placeholder_values(identity))
    ]


def filter_of(template: str, identity: Identity) -> str:
    """A filter of all topics that a template, or the topic of a rule, may have stood for with this identity.

    `+` replaces a placeholder that has several values, or none because the device has lost the label.
    """
    if "{" not in template and "}" not in template:
        return template  # no placeholders or escapes: a short cut, for this is called for each rule
    values = placeholder_values(identity)
    levels = [
        (some[0] if len(some := values.get(level, ())) == 1 else "+") if level[:1] == "{" else level
        for level in template.split("/")
    ]
    return "/".join([level[1:] if is_escaped(level) else level for level in levels])


def is_escaped(level: str) -> bool:
    """Whether this level of a template has a literal brace, and so a `+` before it. No rule can name it."""
    return len(level) > 1 and level[0] == "+"


class EffortLeft:
    """A bounded amount of work, in units of effort: one or two microseconds each."""

    __slots__ = ("left",)

    def __init__(self, units: int) -> None:
        self.left = units

    def take(self, units: int) -> bool:
        """Use up this many units. Returns whether any are left; once none are, it stays so."""
        self.left = max(self.left - units, 0)
        return self.left > 0


def generalised(
    templates: Collection[str],
    refused: Iterable[str] = (),
    may_become: Callable[[str], bool] = lambda _: True,
    effort: EffortLeft | None = None,
) -> dict[str, str]:
    """For each template, what it becomes when levels that vary are replaced by `+`.

    A level varies when at least `VALUES_MIN` values of it, not counting placeholders, were seen with all
    other levels equal. It stays as it is if the template with the `+` would cover one of the `refused`
    templates, or if `may_become` says no to it. Devices choose their topics, and with them how much work this
    is: once `effort` is used up, no further levels are replaced.
    """
    effort = effort or EffortLeft(_ENDLESS)
    sources: dict[_Levels, list[str]] = {tuple(one.split("/")): [one] for one in templates}
    refused_by_size: defaultdict[int, list[str]] = defaultdict(list)
    for one in refused:
        if (levels := tuple(one.split("/"))) not in sources:
            refused_by_size[len(levels)].append(one)
    blocked: set[_Levels] = set()
    while True:
        by_position = _varying(sources, blocked, effort)  # the position of a level in its template
        # First the level with the most values: it is least likely to be a word that means something.
        for at in sorted(by_position, key=lambda at: (-_most(by_position[at].values()), at)):
            wider = {
                wide: group
                for wide, group in by_position[at].items()
                if not _covers_one(wide, refused_by_size, effort) and may_become("/".join(wide))
            }
            blocked |= by_position[at].keys() - wider.keys()
            for wide, group in wider.items():
                merged = [source for levels in group for source in sources.pop(levels)]
                sources.setdefault(wide, []).extend(merged)
            if wider:
                break
        else:
            return {source: "/".join(levels) for levels, merged in sources.items() for source in merged}


def _varying(
    templates: Collection[_Levels], blocked: Collection[_Levels], effort: EffortLeft
) -> dict[int, dict[_Levels, list[_Levels]]]:
    """By position of a level: the templates that differ there alone, under what they would become."""
    groups: defaultdict[int, defaultdict[_Levels, list[_Levels]]] = defaultdict(lambda: defaultdict(list))
    for levels in templates:
        if not effort.take(len(levels)):
            return {}
        for at, level in enumerate(levels):
            # A `+` does not match a first level that begins with a $ [MQTT-4.7.2-1].
            if level not in {"+", "#"} and level[:1] != "{" and (at or level[:1] != "$"):
                groups[at][(*levels[:at], "+", *levels[at + 1 :])].append(levels)
    found: dict[int, dict[_Levels, list[_Levels]]] = {}
    for at, wider in groups.items():
        ready = {
            wide: group
            for wide, group in wider.items()
            if (len(group) >= VALUES_MIN or wide in templates) and wide not in blocked
        }
        if ready:
            found[at] = ready
    return found


def _most(groups: Iterable[Sequence[_Levels]]) -> int:
    return max(map(len, groups))


def _covers_one(levels: _Levels, refused: Mapping[int, Sequence[str]], effort: EffortLeft) -> bool:
    """Whether it covers one of the refused templates; true also if no effort is left to find out.

    `refused` has them by their number of levels.
    """
    wide, size = "/".join(levels), len(levels)
    # Without a `#` a filter covers only those with as many levels.
    sizes = [size] if levels[-1] != "#" else [one for one in refused if one >= size - 1]
    candidates = [one for its_size in sizes for one in refused.get(its_size, ())]
    if not effort.take(1 + _EFFORT_OF_A_COMPARISON * len(candidates)):
        return True
    return any(covers(wide, one) for one in candidates)
