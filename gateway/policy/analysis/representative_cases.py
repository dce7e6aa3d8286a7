"""One identity and one topic that fit some rule filters and are otherwise like nothing in the policy.

Knows rule filters (topic filters with placeholders) and the syntax of topics; what is allowed is decided by
`gateway.policy.engine.policy`, which is asked about the witnesses of this module. An identity and a topic fit
a rule filter that matches the topic when its placeholders stand for the identity's names.

Why one witness answers for all. All that a rule does with a level of a topic is to compare it with a word,
or with what a placeholder stands for; `+` and `#` compare nothing. The witness equals nothing that it need
not equal. So a rule that matches it matches every other identity and topic that fit the same filters with as
many levels; and if any of those fits none of some other rules, this one does not either. "Is there an
identity, and a topic, that these rules match and those do not?" takes one question for each number of levels,
and beyond the longest rule one level more or less changes nothing.

A label may have several values, and within one rule it has one value at all its places. So the same label in
two filters may stand for two words, where one device has both: the labels of each filter are named apart, and
the witness has all the values that came of it. Giving both the same word would only make more deny rules
match.

A tight `topic_length` is kept too: then the names are as short as can be. (A name of one byte is one of the
62 letters and digits; where the policy has all of them as levels, a name takes two bytes.)
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
from gateway.policy.engine.placeholders import meanings, placeholder_values

SplitFilter = tuple[Sequence[str], bool]
"""A rule filter as from `split_filter`: its levels, and whether anything may follow them."""

_DEVICE, _CLIENT, _LABEL = "{device}", "{client}", "{label."
_WORD_MARK = "\0"
"""Begins a level that is a word though it looks like a placeholder. No topic and no name has it."""
_COMBINATIONS_MAX = 1_000
"""Choices of empty levels that are tried for one question; Undecided if there are more."""


class Undecided(ValueError):
    """There are too many witnesses to ask about. The text says what to change."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose rights are in question: any device that has just these roles, or one as it is stored."""

    roles: tuple[str, ...]
    device: Device | None = None
    """The client id stays free even when the device is given."""

    @classmethod
    def of(cls, device: Device) -> Principal:
        """A device as it is stored."""
        return cls(device.roles, device)

    @property
    def fixed(self) -> Mapping[str, str] | None:
        """What a placeholder stands for, when it is one device; labels are written out by `filters`."""
        return None if self.device is None else {_DEVICE: self.device.device_id}

    def filters(self, rule_filter: str) -> list[str]:
        """A rule filter as it is for this device, `{device}` and `{client}` left in; for a role as written.

        One for each value of a label, and none where it has no value. A value that looks like a placeholder
        is marked as a word.
        """
        if self.device is None or "{label." not in rule_filter:
            return [rule_filter]
        values = {
            f"{{label.{name}}}": tuple(f"{_WORD_MARK}{one}" if one[:1] == "{" else one for one in some)
            for name, some in self.device.labels.items()
        }
        return list(meanings(rule_filter, {_DEVICE: (_DEVICE,), _CLIENT: (_CLIENT,), **values}))

    @property
    def own_words(self) -> set[str]:
        """The id of this device and the values of its labels; none for a role."""
        device = self.device
        if device is None:
            return set()
        return {device.device_id, *(value for some in device.labels.values() for value in some)}

    def shown(self, rule_filter: str) -> str:
        """One of `filters` as it is shown: with the id of the device."""
        if self.device is None:
            return rule_filter
        names = {_DEVICE: self.device.device_id}
        return _unmarked("/".join(names.get(one, one) for one in rule_filter.split("/")))


@dataclass(frozen=True, slots=True)
class Witness:
    """An identity, and a topic name."""

    identity: Identity
    topic: str

    def fits(self, rule_filter: str) -> bool:
        """Whether a rule filter matches its topic for its identity."""
        meant = meanings(rule_filter, placeholder_values(self.identity))
        return any(matches(_unmarked(one), self.topic) for one in meant)

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
    """What some filters have in common."""

    levels: list[str | None]
    """A word, a placeholder, or None where any level is good. A label ends with its filter's number."""
    open_end: bool
    words: dict[str, str]
    """The placeholders that have to stand for a word."""
    groups: list[set[str]]
    """The other placeholders: those of a group have to stand for the same."""


def overlap(filters: Sequence[SplitFilter], fixed: Mapping[str, str] | None = None) -> bool:
    """Whether some identity (or this one, see `Principal.fixed`) and some topic fit them all."""
    return _common(filters, fixed) is not None


class Witnesses:
    """Makes witnesses that share a word with the given filters only where they must.

    All filters whose matching is asked about have to be given, those that `of` is called with too.
    """

    def __init__(self, filters: Iterable[SplitFilter], limits: Limits) -> None:
        self._taken: set[str] = set()
        self._empty: set[int] = set()
        """Numbers of the levels that are empty in some filter."""
        self._most_levels = limits.topic_levels
        self._most_bytes = min(limits.topic_length, TOPIC_BYTES_MAX)
        self._take(filters)

    def also(self, filters: Iterable[SplitFilter]) -> Witnesses:
        """The same for these filters too."""
        more = copy(self)
        more._taken, more._empty = self._taken.copy(), self._empty.copy()  # noqa: SLF001
        more._take(filters)  # noqa: SLF001
        return more

    def _take(self, filters: Iterable[SplitFilter]) -> None:
        for levels, _ in filters:
            self._taken.update(levels)
            if "" in levels:
                self._empty.update(number for number, level in enumerate(levels) if not level)

    def of(self, principal: Principal, filters: Sequence[SplitFilter], longest: int) -> Iterator[Witness]:
        """A witness for each number of levels that may matter, the fewest first; none if nothing fits all.

        `longest` is the number of levels of the longest rule filter without `#` that the witness should not
        fit. Raises Undecided.
        """
        common = _common(filters, principal.fixed)
        if common is None:
            return
        least = len(common.levels)
        most = max(least, longest + 1) if common.open_end else least
        names = self._names(common, principal)
        identity = _identity(principal, names)
        spare = self._spare(principal)
        for length in range(least, min(most, self._most_levels) + 1):
            levels = [*common.levels, *[None] * (length - least)]
            topic = "/".join([spare if level is None else names.get(level, level) for level in levels])
            if len(_unmarked(topic).encode()) <= self._most_bytes:
                yield Witness(identity, _unmarked(topic))
            else:
                yield from self._short(common, levels, principal)

    def _names(self, common: _Common, principal: Principal) -> dict[str, str]:
        """What each placeholder stands for, `{device}` and `{client}` always."""
        names = {**(principal.fixed or {}), **common.words}
        used = {*names.values(), *principal.own_words}
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

    def _spare(self, principal: Principal) -> str:
        """A word used nowhere. It cannot collide with those of `_names`, which end in -1, -2 and so on."""
        own = principal.own_words
        words = (f"x{number or ''}" for number in count())
        return next(word for word in words if word not in self._taken and word not in own)

    def _short(self, common: _Common, levels: list[str | None], principal: Principal) -> Iterator[Witness]:
        """The shortest names there are, where the usual ones are too long for a topic."""
        names = {**(principal.fixed or {}), **common.words}
        letters = string.ascii_lowercase + string.digits + string.ascii_uppercase
        words = (
            word
            for length in count(1)
            for word in map("".join, product(letters, repeat=length))
            if word not in self._taken and word not in names.values() and word not in principal.own_words
        )
        spare = next(words)
        for group in common.groups:
            names |= dict.fromkeys(group, next(words))
        short = ["" if level is None else names.get(level, level) for level in levels]
        room = self._most_bytes - len(_unmarked("/".join(short)).encode())
        if room < 0:
            return
        # A level may be empty, which is as good as any name where no rule wants an empty one. Of those that
        # some rule wants empty fill as many as fit, and try every choice. A lone empty level would be an
        # empty topic.
        wanted_empty = [
            number
            for number, level in enumerate(levels)
            if level is None and (number in self._empty or len(levels) == 1)
        ]
        names = {**self._names(common, principal), **names}
        fitting = min(len(wanted_empty), room // len(spare))
        if comb(len(wanted_empty), fitting) > _COMBINATIONS_MAX:
            raise Undecided(
                f"topics of {self._most_bytes} bytes may have so many empty levels that it can't be decided; "
                "set topic_length higher in limits.toml, or topic_levels lower"
            )
        for filled in combinations(wanted_empty, fitting):
            topic = "/".join([spare if number in filled else level for number, level in enumerate(short)])
            yield Witness(_identity(principal, names), _unmarked(topic))


def _common(filters: Sequence[SplitFilter], fixed: Mapping[str, str] | None) -> _Common | None:
    """What all of them match; None when there is no such topic, whoever it is."""
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
            # Terms that have to be equal. A word stands in a group as itself.
            touched = [group for group in groups if not group.isdisjoint(terms)]
            groups = [group for group in groups if group not in touched]
            groups.append(terms.union(*touched))
        elif len(terms) > 1:
            return None
        joined.append(min(terms, default=None))  # any one: they have to be equal
    words: dict[str, str] = {}
    unnamed = []
    for group in groups:
        placeholders = {term for term in group if term[:1] == "{"}
        if fixed is not None and any(name not in fixed and name != _CLIENT for name in placeholders):
            return None  # a label, so it did not go through `Principal.filters`: nobody knows what it is
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
    """With the labels of one filter distinguished by a number from those of others."""
    if not any(level.startswith(_LABEL) for level in levels):
        return levels
    return [f"{level}{number}" if level.startswith(_LABEL) else level for level in levels]


def _label_of(placeholder: str) -> str:
    """The name of a label, which may be followed by the number of its filter."""
    return placeholder[len(_LABEL) : placeholder.index("}")]


def _apart(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two different literal levels face each other: the quick rejection of most pairs of filters."""
    for mine, its in zip(one, other, strict=False):
        if mine != its and mine != "+" != its and mine[:1] != "{" != its[:1]:
            return True
    return False


def _may_be(placeholder: str, word: str) -> bool:
    """Whether somebody may have this as device id, label or client id."""
    if placeholder == _DEVICE:
        return is_device_id(word)
    if placeholder == _CLIENT:
        return bool(word)
    return is_label(_label_of(placeholder), word)


def _base(group: set[str]) -> str:
    """What to call it. All such names are legal device ids, so they are legal for all placeholders."""
    if _DEVICE in group:
        return "device"
    labels = sorted(group - {_CLIENT})
    return _label_of(labels[0]) if labels else "client"


def _unmarked(topic: str) -> str:
    return topic.replace(_WORD_MARK, "")


def _quoted(words: Iterable[str]) -> str:
    return " and ".join(f'"{word}"' for word in words)


def _identity(principal: Principal, names: Mapping[str, str]) -> Identity:
    client_id = _unmarked(names[_CLIENT])
    if principal.device is not None:
        return Identity(names[_DEVICE], principal.roles, principal.device.labels, client_id)
    labels: dict[str, tuple[str, ...]] = {}
    for name, word in names.items():
        if name not in {_DEVICE, _CLIENT}:
            some = labels.get(_label_of(name), ())
            labels[_label_of(name)] = some if word in some else (*some, word)
    return Identity(names[_DEVICE], principal.roles, labels, client_id)
