"""Cases that stand for all others: an identity and a topic that fit given rule filters and nothing else.

Knows rule filters (topic filters with placeholders) and the syntax of topics; what is allowed is decided by
`gateway.policy.engine.policy`, which is asked about the cases made here. An identity and a topic fit a rule
filter if it matches the topic once its placeholders are replaced by the identity's device id, labels and
client id.

Why one case stands for all. A rule only compares a level of a topic with a word, or with what a placeholder
stands for; `+` and `#` compare nothing. The levels of a representative case equal nothing unless they have
to. So a rule that matches it matches every identity and topic that fit the same filters with as many levels;
and if any of those escapes some other rules, so does this one. The question "is there an identity and a topic
that these rules match and those do not?" thus takes one look per number of levels, and beyond the longest
rule one level more or less makes no difference.

A label may have several values, but within one rule it has the same value wherever it stands. So the same
label in two filters may stand for two words, if a device has both values: the labels of each filter get names
of their own, and the case gets all the values that result. Giving both the same word would only make more
deny rules match.

The cases also keep to a tight `topic_length`: then the words made up for them are as short as possible. (Such
a word of one byte is one of the 62 letters and digits; if the policy uses all of them as levels, it takes two
bytes.)
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import combinations, count, product
from math import comb

from gateway.mqtt.topics import TOPIC_BYTES_MAX, matches
from gateway.policy.engine.identity import Device, Identity, is_device_id, is_label
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.placeholders import placeholder_values, resolved_topics

SplitFilter = tuple[Sequence[str], bool]
"""A rule filter as `gateway.mqtt.topics.split_filter` returns it: its levels without a final `#` (one `+` if
it is `#` alone), and whether it had one."""

_DEVICE, _CLIENT, _LABEL = "{device}", "{client}", "{label."
_WORD_MARK = "\0"
"""Put before a word that looks like a placeholder. No topic, and nothing a placeholder stands for, has it."""
_COMBINATIONS_MAX = 1_000
"""Choices of empty levels that are tried for one number of levels; if there are more, Undecided is raised."""


class Undecided(ValueError):
    """Too many cases would have to be asked about. The text says what to change."""


@dataclass(frozen=True, slots=True)
class RightsHolder:
    """Whose rights are in question: any device that has just these roles, or one particular device."""

    roles: tuple[str, ...]
    device: Device | None = None
    """The particular device, which may use any client id; None: any device with these roles."""

    @classmethod
    def of(cls, device: Device) -> RightsHolder:
        """This particular device."""
        return cls(device.roles, device)

    @property
    def fixed(self) -> Mapping[str, str] | None:
        """For a particular device, what `{device}` stands for; `filters` replaces its labels. Else None."""
        return None if self.device is None else {_DEVICE: self.device.device_id}

    def filters(self, rule_filter: str) -> list[str]:
        """A rule filter with the labels of the particular device filled in; else as written.

        One for each combination of its labels' values, and none if the device lacks one of the labels.
        `{device}` and `{client}` are kept. A value that looks like a placeholder is marked as a word.
        """
        if self.device is None or "{label." not in rule_filter:
            return [rule_filter]
        values = {
            f"{{label.{name}}}": tuple(f"{_WORD_MARK}{one}" if one[:1] == "{" else one for one in some)
            for name, some in self.device.labels.items()
        }
        return list(resolved_topics(rule_filter, {_DEVICE: (_DEVICE,), _CLIENT: (_CLIENT,), **values}))

    @property
    def own_words(self) -> set[str]:
        """The id and the label values of the particular device; else empty."""
        device = self.device
        if device is None:
            return set()
        return {device.device_id, *(value for some in device.labels.values() for value in some)}

    def shown(self, rule_filter: str) -> str:
        """One of `filters` as people see it: with the id of the particular device filled in."""
        if self.device is None:
            return rule_filter
        names = {_DEVICE: self.device.device_id}
        return _unmarked("/".join(names.get(one, one) for one in rule_filter.split("/")))


@dataclass(frozen=True, slots=True)
class RepresentativeCase:
    """An identity and a topic name that stand for all others that fit the same rule filters."""

    identity: Identity
    topic: str

    def fits(self, rule_filter: str) -> bool:
        """Whether a rule filter matches its topic for its identity."""
        resolved = resolved_topics(rule_filter, placeholder_values(self.identity))
        return any(matches(_unmarked(one), self.topic) for one in resolved)

    def named(self, rule_filters: Iterable[str]) -> list[str]:
        """What the placeholders in these rule filters stand for, in words."""
        used = {level for one in rule_filters for level in one.split("/") if level[:1] == "{"}
        labels = sorted(self.identity.labels.items())
        return [
            *([f'id "{self.identity.device_id}"'] if _DEVICE in used else []),
            *(f"label {name} = {_quoted(some)}" for name, some in labels if f"{{label.{name}}}" in used),
            *([f'client id "{self.identity.client_id}"'] if _CLIENT in used else []),
        ]


@dataclass(frozen=True, slots=True)
class _Common:
    """The topics that several filters have in common."""

    levels: list[str | None]
    """Each is a word, a placeholder, or None if any level will do. A label has its filter's number
    appended."""
    open_end: bool
    """Whether further levels may follow."""
    words: dict[str, str]
    """Placeholders that have to stand for a particular word."""
    groups: list[set[str]]
    """The other placeholders: all of a group have to stand for the same word, whichever it is."""


def overlap(filters: Sequence[SplitFilter], fixed: Mapping[str, str] | None = None) -> bool:
    """Whether some identity (or this one, see `RightsHolder.fixed`) and some topic fit them all."""
    return _common(filters, fixed) is not None


class RepresentativeCases:
    """Makes representative cases: they share a word with the given filters only where they have to.

    It has to be given all filters that the cases are matched against later, including those passed to `of`.
    """

    def __init__(self, filters: Iterable[SplitFilter], limits: Limits) -> None:
        self._taken: set[str] = set()
        self._empty: set[int] = set()
        """Positions, from 0, of the levels that are empty in some filter."""
        self._most_levels = limits.topic_levels
        self._most_bytes = min(limits.topic_length, TOPIC_BYTES_MAX)
        self._take(filters)

    def also(self, filters: Iterable[SplitFilter]) -> RepresentativeCases:
        """A copy that knows these filters, too."""
        more = copy(self)
        more._taken, more._empty = self._taken.copy(), self._empty.copy()  # noqa: SLF001
        more._take(filters)  # noqa: SLF001
        return more

    def _take(self, filters: Iterable[SplitFilter]) -> None:
        for levels, _ in filters:
            self._taken.update(levels)
            if "" in levels:
                self._empty.update(number for number, level in enumerate(levels) if not level)

    def of(
        self, holder: RightsHolder, filters: Sequence[SplitFilter], longest: int
    ) -> Iterator[RepresentativeCase]:
        """Cases for each number of levels that may make a difference, the fewest first: mostly one for each.

        With a tight `topic_length` there may be several for a number of levels, or none (`_short`). They fit
        all of `filters`; there are none if nothing does. `longest` is the number of levels of the longest
        filter that the cases should not fit, those with a final `#` left out. Raises Undecided.
        """
        common = _common(filters, holder.fixed)
        if common is None:
            return
        least = len(common.levels)
        most = max(least, longest + 1) if common.open_end else least
        names = self._names(common, holder)
        identity = _identity(holder, names)
        spare = self._spare(holder)
        for length in range(least, min(most, self._most_levels) + 1):
            levels = [*common.levels, *[None] * (length - least)]
            topic = "/".join([spare if level is None else names.get(level, level) for level in levels])
            if len(_unmarked(topic).encode()) <= self._most_bytes:
                yield RepresentativeCase(identity, _unmarked(topic))
            else:
                yield from self._short(common, levels, holder)

    def _names(self, common: _Common, holder: RightsHolder) -> dict[str, str]:
        """What each placeholder stands for; `{device}` and `{client}` are always among them."""
        names = {**(holder.fixed or {}), **common.words}
        used = {*names.values(), *holder.own_words}
        for group in (*common.groups, {_DEVICE}, {_CLIENT}):
            if group.isdisjoint(names):
                base = _base(group)
                word = next(
                    word
                    for number in count(1)
                    if (word := f"{base}-{number}") not in self._taken and word not in used
                )
                used.add(word)
                names |= dict.fromkeys(group, word)
        return names

    def _spare(self, holder: RightsHolder) -> str:
        """A word used nowhere. It cannot collide with those of `_names`, which end in -1, -2 and so on."""
        own = holder.own_words
        words = (f"x{number or ''}" for number in count())
        return next(word for word in words if word not in self._taken and word not in own)

    def _short(
        self, common: _Common, levels: list[str | None], holder: RightsHolder
    ) -> Iterator[RepresentativeCase]:
        """Cases with the shortest possible words, for when the usual ones make a topic too long."""
        names = {**(holder.fixed or {}), **common.words}
        letters = string.ascii_lowercase + string.digits + string.ascii_uppercase
        words = (
            word
            for length in count(1)
            for word in map("".join, product(letters, repeat=length))
            if word not in self._taken and word not in names.values() and word not in holder.own_words
        )
        spare = next(words)
        for group in common.groups:
            names |= dict.fromkeys(group, next(words))
        short = ["" if level is None else names.get(level, level) for level in levels]
        room = self._most_bytes - len(_unmarked("/".join(short)).encode())
        if room < 0:
            return
        # A level may be empty, which is as good as any word unless a rule has an empty level there. Of the
        # levels that are empty in some rule, fill as many as fit, and try every choice of them. A lone empty
        # level would be an empty topic.
        better_filled = [
            number
            for number, level in enumerate(levels)
            if level is None and (number in self._empty or len(levels) == 1)
        ]
        names = {**self._names(common, holder), **names}
        fitting = min(len(better_filled), room // len(spare))
        if comb(len(better_filled), fitting) > _COMBINATIONS_MAX:
            raise Undecided(
                f"topics of {self._most_bytes} bytes may have so many empty levels that it can't be decided; "
                "set topic_length higher in limits.toml, or topic_levels lower"
            )
        for filled in combinations(better_filled, fitting):
            topic = "/".join([spare if number in filled else level for number, level in enumerate(short)])
            yield RepresentativeCase(_identity(holder, names), _unmarked(topic))


def _common(filters: Sequence[SplitFilter], fixed: Mapping[str, str] | None) -> _Common | None:
    """The topics that all of them match; None if there are none, whatever the placeholders stand for."""
    first, *others = filters
    for other in others:
        if _apart(first[0], other[0]):
            return None
    filters = [(_numbered(levels, number), open_end) for number, (levels, open_end) in enumerate(filters)]
    least = max(len(levels) for levels, _ in filters)
    if any(len(levels) < least and not open_end for levels, open_end in filters):
        return None
    joined: list[str | None] = []
    groups: list[set[str]] = []
    for number in range(least):
        terms = {levels[number] for levels, _ in filters if number < len(levels)}
        wild = "+" in terms
        terms.discard("+")
        if not number and any(term[:1] == "$" for term in terms) and (wild or len(terms) > 1):
            return None  # [MQTT-4.7.2-1]: a first level `$…` matches only literally
        if any(term[:1] == "{" for term in terms):
            # Terms that have to be equal. A group may contain a word, too.
            touched = [group for group in groups if not group.isdisjoint(terms)]
            groups = [group for group in groups if group not in touched]
            groups.append(terms.union(*touched))
        elif len(terms) > 1:
            return None
        joined.append(min(terms, default=None))  # any of them, for they have to be equal
    words: dict[str, str] = {}
    unnamed = []
    for group in groups:
        placeholders = {term for term in group if term[:1] == "{"}
        if fixed is not None and any(name not in fixed and name != _CLIENT for name in placeholders):
            return None  # a label that `RightsHolder.filters` has not filled in: its value is unknown
        meant = (group - placeholders) | {fixed[name] for name in placeholders if fixed and name in fixed}
        if len(meant) > 1 or any(not _may_be(name, word) for word in meant for name in placeholders):
            return None
        for word in meant:
            words |= dict.fromkeys(placeholders, word)
        if not meant:
            unnamed.append(placeholders)
    open_end = all(open_end for _, open_end in filters)
    return _Common(joined, open_end, words, unnamed)


def _numbered(levels: Sequence[str], number: int) -> Sequence[str]:
    """The levels with a number appended to labels, which tells those of different filters apart."""
    if not any(level.startswith(_LABEL) for level in levels):
        return levels
    return [f"{level}{number}" if level.startswith(_LABEL) else level for level in levels]


def _label_of(placeholder: str) -> str:
    """The name in a label placeholder, which may have the number of its filter appended."""
    return placeholder[len(_LABEL) : placeholder.index("}")]


def _apart(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether both have different words at some level: a quick way to reject most pairs of filters."""
    for mine, its in zip(one, other, strict=False):
        if mine != its and mine != "+" != its and mine[:1] != "{" != its[:1]:
            return True
    return False


def _may_be(placeholder: str, word: str) -> bool:
    """Whether this word may be a device id, a label's value or a client id."""
    if placeholder == _DEVICE:
        return is_device_id(word)
    if placeholder == _CLIENT:
        return bool(word)
    return is_label(_label_of(placeholder), word)


def _base(group: set[str]) -> str:
    """What the name of a group begins with: a valid device id, and so valid for any placeholder."""
    if _DEVICE in group:
        return "device"
    labels = sorted(group - {_CLIENT})
    return _label_of(labels[0]) if labels else "client"


def _unmarked(topic: str) -> str:
    return topic.replace(_WORD_MARK, "")


def _quoted(words: Iterable[str]) -> str:
    return " and ".join(f'"{word}"' for word in words)


def _identity(holder: RightsHolder, names: Mapping[str, str]) -> Identity:
    client_id = _unmarked(names[_CLIENT])
    if holder.device is not None:
        return Identity(names[_DEVICE], holder.roles, holder.device.labels, client_id)
    labels: dict[str, tuple[str, ...]] = {}
    for name, word in names.items():
        if name not in {_DEVICE, _CLIENT}:
            some = labels.get(_label_of(name), ())
            labels[_label_of(name)] = some if word in some else (*some, word)
    return Identity(names[_DEVICE], holder.roles, labels, client_id)
