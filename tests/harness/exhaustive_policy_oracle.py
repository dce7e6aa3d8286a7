"""Every identity and every topic over a small alphabet: brute force beside what `gateway.policy` decides.

Judged by the definition of a filter and not by any function of the gateway. The words of `WORDS` may stand in
rules. `d`, `l`, `m`, `c` and `x` may not, and so stand for all words that no rule has: for a device, two
values of a label, a client and a level of their own. The prefix of the service topics is `g`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import combinations, product

from hypothesis import strategies as st

WORDS = ("a", "b", "", "$", "g")
PLACEHOLDERS = ("{device}", "{client}", "{label.room}")
DEVICES = ("a", "b", "g", "d")
_VALUES = ("a", "b", "g", "d", "l")
LABELS = ((), *((one,) for one in _VALUES), *combinations(_VALUES, 2), ("l", "m"))
"""The values of the label: none, one or two. Where two are enough for two rules, three are."""
CLIENTS = ("a", "b", "g", "$", "d", "l", "c", "", "a/b")
PEOPLE = tuple(product(DEVICES, CLIENTS, LABELS))
TOPICS = tuple(
    levels
    for length in (1, 2, 3)
    for levels in product((*WORDS, "d", "l", "m", "c", "x"), repeat=length)
    if levels != ("",)
)

Levels = tuple[str, ...]
Person = tuple[str, str, tuple[str, ...]]
"""Device id, client id, and the values of the label `room`."""

templates = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(st.sampled_from([*WORDS, "a", "+", "+", *PLACEHOLDERS, "{device}"]), max_size=3),
    st.sampled_from([[], [], ["#"]]),
).filter(bool)
"""Topics of rules."""


def fits(levels: Levels, topic: Levels, *, first: bool = True) -> bool:
    """Whether a filter matches a topic, by the words of the standard (MQTT 5, 4.7.1, 4.7.2)."""
    hidden = first and topic[0][:1] == "$"
    if levels == ("#",):
        return not hidden  # nothing may be left of the topic: the parent is matched too
    if not levels or not topic:
        return levels == topic
    here = not hidden if levels[0] == "+" else levels[0] == topic[0]
    return here and fits(levels[1:], topic[1:], first=False)


def means(template: str, person: Person) -> list[Levels]:
    """The levels of a rule for somebody, once for each value of the label; none when it matches nothing."""
    device, client, rooms = person
    written = template.split("/")
    found = []
    for room in rooms or (None,):
        names = {"{device}": device, "{client}": client, "{label.room}": room}
        levels = tuple(names[level] if level[:1] == "{" else level for level in written)
        taken = [value for value, level in zip(levels, written, strict=True) if level[:1] == "{"]
        hidden = written[0][:1] == "{" and (levels[0] or "")[:1] == "$"
        if all(value and "/" not in value for value in taken) and not hidden:
            found.append(levels)
    return found


@lru_cache(100_000)
def _matched(levels: Levels) -> frozenset[Levels]:
    return frozenset(topic for topic in TOPICS if fits(levels, topic))


def people_for(filters: Iterable[str], people: Iterable[Person] = PEOPLE) -> list[Person]:
    """One of each group among them for whom these filters mean the same: who differ in what none names."""
    named = " ".join(filters)
    seen = [placeholder in named for placeholder in PLACEHOLDERS]
    groups = {
        tuple(name for name, is_named in zip(one, seen, strict=True) if is_named): one for one in people
    }
    return list(groups.values())


def topics_of(filters: list[str], person: Person) -> set[Levels]:
    """All topics that at least one of these matches, for this person."""
    return set().union(*(_matched(levels) for one in filters for levels in means(one, person)))


@lru_cache
def lawful(most_levels: int = 3, most_bytes: int = 65_535) -> frozenset[Levels]:
    """The topics within these bounds that are not the gateway's own."""
    return frozenset(
        topic
        for topic in TOPICS
        if len(topic) <= most_levels and len("/".join(topic)) <= most_bytes and topic[0] != "g"
    )
