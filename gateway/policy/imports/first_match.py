"""Turns access lists, in which the first match decides, into rules of which a deny beats every allow.

In Mosquitto an allow above a deny wins; in the gateway the deny would. So a deny is kept as it is only if
nothing above it allows any of its topics. Otherwise it is reduced to what it takes from the allows below it,
or these are reduced themselves. If no filters match exactly what is left, the deny stays, and what is lost to
it is listed: the policy gives less, never more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway.mqtt.topics import covers
from gateway.policy.imports.filter_algebra import difference, intersection
from gateway.policy.imports.intermediate_model import DEFAULT_ACCESS, AccessLine


@dataclass(frozen=True, slots=True)
class Loss:
    """Topics that a line allows in Mosquitto and no rule allows in the gateway."""

    topics: str
    """A filter, perhaps with placeholders."""
    allow_location: str
    """`file:line` of the line that allows them in Mosquitto."""
    deny_location: str
    """`file:line` of the line that takes them away in the gateway: a deny below it, or a line of a second
    access list that may not allow the same."""


@dataclass(slots=True)
class UnorderedRights:
    """Allows and denies of one action; a deny beats every allow, as in a role of the gateway."""

    allows: dict[str, str] = field(default_factory=dict)
    """By topic the location of the line that it comes from, `file:line`."""
    denies: dict[str, str] = field(default_factory=dict)
    """By topic the location of the line that it comes from, `file:line`."""
    losses: list[Loss] = field(default_factory=list)


def without_order(access_list: Sequence[AccessLine]) -> UnorderedRights:
    """The rights that an access list gives, without an order. Lines that no rule can express are skipped."""
    unordered = UnorderedRights()
    lines = [(line.allow, line.topic, line.location) for line in access_list if line.topic is not None]
    # The topics that each line still allows; a deny above it may reduce them.
    gives = [[topic] if allow else [] for allow, topic, _ in lines]
    for number, (allow, topic, location) in enumerate(lines):
        if allow or _covered(topic, unordered.denies):
            continue
        above = [(allowed, lines[other][2]) for other in range(number) for allowed in gives[other]]
        if all(intersection(topic, allowed) is None for allowed, _ in above):
            unordered.denies[topic] = location
            continue
        for other in range(number + 1, len(lines)):
            gives[other] = _cut(topic, location, gives[other], above, unordered)
    for (_, _, location), topics in zip(lines, gives, strict=True):
        for topic in topics:
            unordered.allows.setdefault(topic, location)
    return unordered


def allowed_by_both(one: UnorderedRights, other: UnorderedRights) -> UnorderedRights:
    """What two access lists both allow and neither denies.

    If one allows a placeholder at a level where the other has a word or a different placeholder, it is not
    known yet whether both allow the same topic: that becomes a loss.
    """
    found = UnorderedRights(denies={**other.denies, **one.denies}, losses=[*one.losses, *other.losses])
    pairs: dict[str, str] = {}
    for mine, location in one.allows.items():
        for theirs, their_location in other.allows.items():
            topic = intersection(mine, theirs)
            if topic is None:
                continue
            if topic == intersection(theirs, mine):  # else a placeholder of one meets a level of the other
                narrow = _is_the_one_to_name(theirs, their_location, mine, location)
                pairs[topic] = their_location if narrow else location
            else:
                found.losses.append(Loss(topic, location, their_location))
    # When both lists allow `#` and `a/#`, their intersections name `a/#` beside `#`.
    found.allows = {
        topic: location
        for topic, location in pairs.items()
        if not any(wider != topic and covers(wider, topic) for wider in pairs)
    }
    return found


def _is_the_one_to_name(one: str, location: str, other: str, other_location: str) -> bool:
    """Of two lines that allow the same topics, whether to name the one that allows `one` as their origin.

    That is the narrower one; if both allow the same, the one that is not a default access.
    """
    if one == other:
        return other_location.endswith(DEFAULT_ACCESS) and not location.endswith(DEFAULT_ACCESS)
    return covers(other, one)


def _cut(
    deny: str, location: str, topics: list[str], above: list[tuple[str, str]], unordered: UnorderedRights
) -> list[str]:
    """What a deny leaves of `topics`, which a line below it allows.

    What no filters can exclude becomes a deny in `unordered`. `above` has the topics that lines above the
    deny allow, each with its line's location.
    """
    left: list[str] = []
    for topic in topics:
        rest = difference(topic, deny)
        if rest is not None:
            left += rest
            continue
        left.append(topic)
        taken = intersection(deny, topic)
        for piece in _without([] if taken is None else [taken], (allowed for allowed, _ in above)):
            if not _covered(piece, unordered.denies):
                _deny(piece, location, above, unordered)
    return left


def _without(pieces: list[str], allows_above: Iterable[str]) -> list[str]:
    """The pieces of a deny without what lines above it allow, as far as filters can exclude that."""
    for topic in allows_above:
        cut = []
        for piece in pieces:
            rest = difference(piece, topic)
            cut += [piece] if rest is None else rest
        pieces = cut
    return pieces


def _deny(piece: str, location: str, above: list[tuple[str, str]], unordered: UnorderedRights) -> None:
    for topic, allow in above:
        lost = intersection(piece, topic)
        if lost is not None and not _covered(lost, unordered.denies):
            unordered.losses.append(Loss(lost, allow, location))
    unordered.denies[piece] = location


def _covered(topic: str, denies: Iterable[str]) -> bool:
    return any(covers(other, topic) for other in denies)
