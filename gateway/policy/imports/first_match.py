"""Access lists, in which the first match decides, made into allows and denies where a deny beats every allow.

An allow that stands above a deny is stronger than it in Mosquitto, and would be weaker in the gateway. So a
deny is kept as it is only where nothing above it allows any of its topics. Else it is cut down to what it
takes from the allows below it, or these are cut down themselves; where no filters match just what is left,
the deny stays and what is lost to it is listed: the policy gives less, never more.
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
    """Of the line that allows them in Mosquitto."""
    deny_location: str
    """Of the line that takes them away in the gateway: one below it that denies, or one of a second access
    list that may not allow the same."""


@dataclass(slots=True)
class UnorderedRights:
    """Allows and denies of one action; a deny beats every allow, as in a role of the gateway."""

    allows: dict[str, str] = field(default_factory=dict)
    """By topic the location of the line that it comes from, `file:line`."""
    denies: dict[str, str] = field(default_factory=dict)
    """By topic the location of the line that it comes from, `file:line`."""
    losses: list[Loss] = field(default_factory=list)


def without_order(access_list: Sequence[AccessLine]) -> UnorderedRights:
    """The rights that an access list gives, without an order. Lines that no rule can express are left out."""
    unordered = UnorderedRights()
    lines = [(line.allow, line.topic, line.location) for line in access_list if line.topic is not None]
    # What each line still allows; a deny above it may cut it down.
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

    Where one allows a placeholder at a level, and the other a word or another placeholder, nobody knows yet
    whether both allow the same: that is lost.
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
    """Whether the line that allows `one` is the one to name for what two lines both allow: `other` is wider.

    Of two that allow the same it is the one that somebody wrote, and not the default access.
    """
    if one == other:
        return other_location.endswith(DEFAULT_ACCESS) and not location.endswith(DEFAULT_ACCESS)
    return covers(other, one)


def _cut(
    deny: str, location: str, topics: list[str], above: list[tuple[str, str]], unordered: UnorderedRights
) -> list[str]:
    """What a deny leaves of the topics below it; what no filters can leave out becomes a deny in `unordered`.

    `above` has the topics that lines above the deny allow, each with its line's location.
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
    """The pieces of a deny without what allows above it allow, as far as filters can leave that out."""
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
