"""Topics as usage is recorded: templates, without what is one device's own, so that devices can be compared.

`devices/lamp-1/state` of `lamp-1` is `devices/{device}/state`. Owns how a topic becomes a template and back,
and which levels of many templates vary. Knows no counts, no times and no files.

A template looks like the topic of a rule, with one addition: a level with a brace in it that is none of our
placeholders is written with a `+` before it, as no level of a topic or filter can be. Rules can't name such
levels, and a device that writes `{device}` into its topics must not be taken for one that means itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from gateway.mqtt.topics import covers
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.placeholders import meanings, placeholder_values
from gateway.policy.engine.rules import Rule

VALUES_LEAST = 3
"""So many values of a level, all others being equal, and it varies."""

_COMPARING = 2
"""Steps of effort to compare a filter with a template."""
_ENDLESS = 2**62
_CLIENT = "{client}"
_Levels = tuple[str, ...]


def template_of(topic: str, identity: Identity, allow_rules: Iterable[Rule] = ()) -> str:
    """The template of a valid topic or filter, `$share/<group>/` taken off, that `allow_rules` allow.

    Whole levels alone are replaced. `{client}` only where one of these rules says so: devices choose their
    client id, and one that calls itself `locks` would have `building/locks` taken for its own.
    """
    levels = topic.split("/")
    names = {identity.device_id: "{device}"}
    several = False
    for name in sorted(identity.labels):
        several = several or len(identity.labels[name]) > 1
        for value in identity.labels[name]:
            names.setdefault(value, f"{{label.{name}}}")
    replaced = [names.get(level, level) for level in levels]
    if several:
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
    """Leave a level as it is where its label stands for a different value before: a template means one."""
    seen: dict[str, str] = {}
    for at, level in enumerate(levels):
        if replaced[at] != level and seen.setdefault(replaced[at], level) != level:
            replaced[at] = level


def topics_of(template: str, identity: Identity) -> list[str]:
    """The topics that a template means for this identity, one for each value of a label.

    None if it has no value for a placeholder.
    """
    return [
        "/".join([level[1:] if is_marked(level) else level for level in resolved.split("/")])
        for resolved in meanings(template, placeholder_values(identity))
    ]


def filter_of(template: str, identity: Identity) -> str:
    """A filter of all that a template, or the topic of a rule, may have meant for this identity.

    `+` stands for a placeholder that has several values, or none: its label may be gone.
    """
    if "{" not in template and "}" not in template:
        return template  # nothing stands for anything, and nothing is marked: asked of each rule
    values = placeholder_values(identity)
    levels = [
        (some[0] if len(some := values.get(level, ())) == 1 else "+") if level[:1] == "{" else level
        for level in template.split("/")
    ]
    return "/".join([level[1:] if is_marked(level) else level for level in levels])


def is_marked(level: str) -> bool:
    """Whether this level of a template stands for itself, and can't be written in a rule."""
    return len(level) > 1 and level[0] == "+"


class Effort:
    """So much work and no more, in steps of one or two microseconds."""

    __slots__ = ("left",)

    def __init__(self, steps: int) -> None:
        self.left = steps

    def takes(self, steps: int) -> bool:
        """Whether there are `steps` left, which are taken. If not, there are none from now on."""
        self.left = max(self.left - steps, 0)
        return self.left > 0


def generalised(
    templates: Collection[str],
    refused: Iterable[str] = (),
    may: Callable[[str], bool] = lambda _: True,
    effort: Effort | None = None,
) -> dict[str, str]:
    """What each template becomes when levels that vary become `+`.

    A level varies when at least three values of it were seen with all other levels equal, placeholders not
    counted; it stays as it is when the `+` would take in one of the `refused` templates, or `may` says no.
    Whoever names topics says how much work that is: at the end of `effort` all stays as it has become.
    """
    effort = effort or Effort(_ENDLESS)
    sources: dict[_Levels, list[str]] = {tuple(one.split("/")): [one] for one in templates}
    kept_out: defaultdict[int, list[str]] = defaultdict(list)
    for one in refused:
        if (levels := tuple(one.split("/"))) not in sources:
            kept_out[len(levels)].append(one)
    blocked: set[_Levels] = set()
    while True:
        by_position = _varying(sources, blocked, effort)
        # The level with the most values first, for it is the least likely to be a word with a meaning.
        for at in sorted(by_position, key=lambda at: (-_most(by_position[at].values()), at)):
            wider = {
                wide: group
                for wide, group in by_position[at].items()
                if not _takes_in(wide, kept_out, effort) and may("/".join(wide))
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
    templates: Collection[_Levels], blocked: Collection[_Levels], effort: Effort
) -> dict[int, dict[_Levels, list[_Levels]]]:
    """By position: the templates that are the same but for this level, under what they would become."""
    groups: defaultdict[int, defaultdict[_Levels, list[_Levels]]] = defaultdict(lambda: defaultdict(list))
    for levels in templates:
        if not effort.takes(len(levels)):
            return {}
        for at, level in enumerate(levels):
            # A first level with a $ is reached by no `+` [MQTT-4.7.2-1].
            if level not in {"+", "#"} and level[:1] != "{" and (at or level[:1] != "$"):
                groups[at][(*levels[:at], "+", *levels[at + 1 :])].append(levels)
    found: dict[int, dict[_Levels, list[_Levels]]] = {}
    for at, wider in groups.items():
        ready = {
            wide: group
            for wide, group in wider.items()
            if (len(group) >= VALUES_LEAST or wide in templates) and wide not in blocked
        }
        if ready:
            found[at] = ready
    return found


def _most(groups: Iterable[Sequence[_Levels]]) -> int:
    return max(map(len, groups))


def _takes_in(levels: _Levels, refused: Mapping[int, Sequence[str]], effort: Effort) -> bool:
    """Whether it covers one of these, by the number of their levels; also when there is no time to look."""
    wide, size = "/".join(levels), len(levels)
    # Without a `#` a filter covers none of a different size.
    sizes = [size] if levels[-1] != "#" else [one for one in refused if one >= size - 1]
    asked = [one for its_size in sizes for one in refused.get(its_size, ())]
    return not effort.takes(1 + _COMPARING * len(asked)) or any(covers(wide, one) for one in asked)
