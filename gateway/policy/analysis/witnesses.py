"""One identity and one topic that fit some topic templates and are otherwise like nothing in the policy.

Knows templates (filters with placeholders) and the language of topics; what is allowed is judged by
`gateway.policy.engine.policy`, which is asked about what is made here.

Why one witness answers for all. All that a rule does with a level of a topic is to compare it with a word,
or with what a placeholder stands for; `+` and `#` compare nothing. The witness equals nothing that it need
not equal. So a rule that matches it matches every other identity and topic that fit the same templates with
as many levels; and if any of those escapes some rules, this one does. "Is there anybody, and a topic, that
these rules match and those do not?" takes one question for each number of levels, and beyond the longest
rule one level more or less changes nothing.

A label may have several values, and within one rule it has one value at all its places. So the same label in
two templates may stand for two words, where one person has both: each template's labels are of their own, and
the witness has all the values that came of it. Equal where they need not be, they would only fit more
denies.

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

from gateway.mqtt.topics import MAX_BYTES, matches
from gateway.policy.engine.connection_limits import Limits
from gateway.policy.engine.identity import Device, Identity, is_device_id, is_label
from gateway.policy.engine.placeholders import meanings, placeholder_values

Template = tuple[Sequence[str], bool]
"""A filter with placeholders, as from `split_filter`: its levels, and whether anything may follow them."""

_DEVICE, _CLIENT, _LABEL = "{device}", "{client}", "{label."
_WORD = "\0"
"""Begins a level that is a word though it looks like a placeholder. No topic and no name has it."""
_SHORT_MOST = 1_000
"""Ways to choose which levels are empty that are tried for one question. All are tried, or none."""


class Undecided(ValueError):
    """There are too many witnesses to ask about. The text says what to change."""


@dataclass(frozen=True, slots=True)
class RoleHolder:
    """Who is asked about: any device that has just these roles, or one as it is stored."""

    roles: tuple[str, ...]
    device: Device | None = None
    """`{client}` is left open for one device, too."""

    @classmethod
    def of(cls, device: Device) -> RoleHolder:
        """A device as it is stored."""
        return cls(device.roles, device)

    @property
    def fixed(self) -> Mapping[str, str] | None:
        """What a placeholder stands for, when it is one device; labels are written out by `topics`."""
        return None if self.device is None else {_DEVICE: self.device.device_id}

    def topics(self, topics: str) -> list[str]:
        """The topics of a rule for this device, `{device}` and `{client}` as they are; for a role as written.

        One for each value of a label, and none where it has no value. A value that looks like a placeholder
        is marked as a word.
        """
        if self.device is None or "{label." not in topics:
            return [topics]
        values = {
            f"{{label.{name}}}": tuple(f"{_WORD}{one}" if one[:1] == "{" else one for one in some)
            for name, some in self.device.labels.items()
        }
        return list(meanings(topics, {_DEVICE: (_DEVICE,), _CLIENT: (_CLIENT,), **values}))

    @property
    def names(self) -> set[str]:
        """All that is a name of this device."""
        device = self.device
        if device is None:
            return set()
        return {device.device_id, *(value for some in device.labels.values() for value in some)}

    def shown(self, topics: str) -> str:
        """A topic of these as it is shown: with the id of the device."""
        if self.device is None:
            return topics
        names = {_DEVICE: self.device.device_id}
        return _unmarked("/".join(names.get(one, one) for one in topics.split("/")))


@dataclass(frozen=True, slots=True)
class Witness:
    """Somebody, and a topic name."""

    identity: Identity
    topic: str

    def fits(self, topics: str) -> bool:
        """Whether the topic of a rule matches it."""
        meant = meanings(topics, placeholder_values(self.identity))
        return any(matches(_unmarked(one), self.topic) for one in meant)

    def named(self, topics: Iterable[str]) -> list[str]:
        """What the placeholders in these topics of rules stand for, in words."""
        used = {level for one in topics for level in one.split("/") if level[:1] == "{"}
        labels = sorted(self.identity.labels.items())
        return [
            *([f'id "{self.identity.device_id}"'] if _DEVICE in used else []),
            *(f"label {name} = {_quoted(some)}" for name, some in labels if f"{{label.{name}}}" in used),
            *([f'client id "{self.identity.client_id}"'] if _CLIENT in used else []),
        ]


@dataclass(frozen=True, slots=True)
class _Common:
    """What some templates have in common."""

    levels: list[str | None]
    """A word, a placeholder, or None where any level is good. A label ends with its template's number."""
    open_end: bool
    words: dict[str, str]
    """The placeholders that have to stand for a word."""
    groups: list[set[str]]
    """The others: those of a group have to stand for the same."""


def overlap(templates: Sequence[Template], fixed: Mapping[str, str] | None = None) -> bool:
    """Whether some identity (or this one, see `RoleHolder.fixed`) and some topic fit them all."""
    return _common(templates, fixed) is not None


class Witnesses:
    """Makes witnesses that share a word with the given templates only where they must.

    All templates whose matching is asked about have to be given, those that `of` is called with too.
    """

    def __init__(self, templates: Iterable[Template], limits: Limits) -> None:
        self._taken: set[str] = set()
        self._empty: set[int] = set()
        """Where a template has an empty level."""
        self._most_levels = limits.topic_levels
        self._most_bytes = min(limits.topic_length, MAX_BYTES)
        self._take(templates)

    def also(self, templates: Iterable[Template]) -> Witnesses:
        """The same for these templates too."""
        more = copy(self)
        more._taken, more._empty = self._taken.copy(), self._empty.copy()  # noqa: SLF001
        more._take(templates)  # noqa: SLF001
        return more

    def _take(self, templates: Iterable[Template]) -> None:
        for levels, _ in templates:
            self._taken.update(levels)
            if "" in levels:
                self._empty.update(number for number, level in enumerate(levels) if not level)

    def of(self, holder: RoleHolder, templates: Sequence[Template], longest: int) -> Iterator[Witness]:
        """A witness for each number of levels that may matter, the fewest first; none if nothing fits all.

        `longest` has the levels of the longest rule without `#` that the witness should escape. Raises
        Undecided.
        """
        common = _common(templates, holder.fixed)
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
                yield Witness(identity, _unmarked(topic))
            else:
                yield from self._short(common, levels, holder)

    def _names(self, common: _Common, holder: RoleHolder) -> dict[str, str]:
        """What each placeholder stands for, `{device}` and `{client}` in any case."""
        names = {**(holder.fixed or {}), **common.words}
        used = {*names.values(), *holder.names}
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

    def _spare(self, holder: RoleHolder) -> str:
        """A level that is nothing else; names of placeholders have a hyphen and a number."""
        named = holder.names
        words = (f"x{number or ''}" for number in count())
        return next(word for word in words if word not in self._taken and word not in named)

    def _short(self, common: _Common, levels: list[str | None], holder: RoleHolder) -> Iterator[Witness]:
        """The shortest names there are, where the usual ones are too long for a topic."""
        names = {**(holder.fixed or {}), **common.words}
        letters = string.ascii_lowercase + string.digits + string.ascii_uppercase
        words = (
            word
            for length in count(1)
            for word in map("".join, product(letters, repeat=length))
            if word not in self._taken and word not in names.values() and word not in holder.names
        )
        spare = next(words)
        for group in common.groups:
            names |= dict.fromkeys(group, next(words))
        short = ["" if level is None else names.get(level, level) for level in levels]
        room = self._most_bytes - len(_unmarked("/".join(short)).encode())
        if room < 0:
            return
        # A level may be empty, which is as good as any name where no rule asks for an empty one.
        asked = [
            number
            for number, level in enumerate(levels)
            if level is None and (number in self._empty or len(levels) == 1)
        ]
        names = {**self._names(common, holder), **names}
        most = min(len(asked), room // len(spare))
        if comb(len(asked), most) > _SHORT_MOST:
            raise Undecided(
                f"topics of {self._most_bytes} bytes may have so many empty levels that it can't be decided; "
                "set topic_length higher in limits.toml, or topic_levels lower"
            )
        for chosen in combinations(asked, most):
            topic = "/".join([spare if number in chosen else level for number, level in enumerate(short)])
            yield Witness(_identity(holder, names), _unmarked(topic))


def _common(templates: Sequence[Template], fixed: Mapping[str, str] | None) -> _Common | None:
    """What all of them match; None when there is no such topic, whoever it is."""
    first, *others = templates
    for other in others:
        if _apart(first[0], other[0]):
            return None
    templates = [(_numbered(levels, number), open_end) for number, (levels, open_end) in enumerate(templates)]
    least = max(len(levels) for levels, _ in templates)
    if any(len(levels) < least and not open_end for levels, open_end in templates):
        return None
    joined: list[str | None] = []
    groups: list[set[str]] = []
    for number in range(least):
        terms = {levels[number] for levels, _ in templates if number < len(levels)}
        wild = "+" in terms
        terms.discard("+")
        if not number and any(term[:1] == "$" for term in terms) and (wild or len(terms) > 1):
            return None  # [MQTT-4.7.2-1]: a word alone reaches such topics
        if any(term[:1] == "{" for term in terms):
            # Terms that have to be equal. A word stands in a group as itself.
            touched = [group for group in groups if not group.isdisjoint(terms)]
            groups = [group for group in groups if group not in touched]
            groups.append(terms.union(*touched))
        elif len(terms) > 1:
            return None
        joined.append(min(terms, default=None))
    words: dict[str, str] = {}
    unnamed = []
    for group in groups:
        placeholders = {term for term in group if term[:1] == "{"}
        if fixed is not None and any(name not in fixed and name != _CLIENT for name in placeholders):
            return None  # a label, which `RoleHolder.topics` writes out where the device has it
        meant = (group - placeholders) | {fixed[name] for name in placeholders if fixed and name in fixed}
        if len(meant) > 1 or any(not _may_be(name, word) for word in meant for name in placeholders):
            return None
        for word in meant:
            words |= dict.fromkeys(placeholders, word)
        if not meant:
            unnamed.append(placeholders)
    open_end = all(open_end for _, open_end in templates)
    return _Common(joined, open_end, words, unnamed)


def _numbered(levels: Sequence[str], number: int) -> Sequence[str]:
    """With the labels of one template told from those of others."""
    if not any(level.startswith(_LABEL) for level in levels):
        return levels
    return [f"{level}{number}" if level.startswith(_LABEL) else level for level in levels]


def _label_of(placeholder: str) -> str:
    """The name of a label, whose template may be told by a number."""
    return placeholder[len(_LABEL) : placeholder.index("}")]


def _apart(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether a word stands against a word: what tells most rules of a policy and a filter apart, quickly."""
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
    return topic.replace(_WORD, "")


def _quoted(words: Iterable[str]) -> str:
    return " and ".join(f'"{word}"' for word in words)


def _identity(holder: RoleHolder, names: Mapping[str, str]) -> Identity:
    client_id = _unmarked(names[_CLIENT])
    if holder.device is not None:
        return Identity(names[_DEVICE], holder.roles, holder.device.labels, client_id)
    labels: dict[str, tuple[str, ...]] = {}
    for name, word in names.items():
        if name not in {_DEVICE, _CLIENT}:
            some = labels.get(_label_of(name), ())
            labels[_label_of(name)] = some if word in some else (*some, word)
    return Identity(names[_DEVICE], holder.roles, labels, client_id)
