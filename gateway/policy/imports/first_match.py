"""Lists in which the first match decides, made into allows and denies where a deny beats every allow.

An allow that stands above a deny is stronger there and would be weaker here. So a deny is kept as it is
only where nothing above it allows any of its topics. Else it is cut down to what it takes from the
allows below it, or these are cut down themselves; where filters can't say that, the deny stays and what
is lost to it is listed: the policy gives less, never more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway.mqtt.topics import covers
from gateway.policy.imports.filter_algebra import meet, without
from gateway.policy.imports.intermediate_model import DEFAULT_ACCESS, Step


@dataclass(frozen=True, slots=True)
class Loss:
    """What a line allows there and no rule allows here."""

    topics: str
    allow: str
    """Place of the line that allows it there."""
    deny: str
    """Place of the line below it that denies it here, or that has to allow it too and may not."""


@dataclass(slots=True)
class Settled:
    """Allows and denies, each topic with the place of the line it comes from."""

    allows: dict[str, str] = field(default_factory=dict)
    denies: dict[str, str] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)


def settle(steps: Sequence[Step]) -> Settled:
    """The same rights, without an order. Steps that no rule can say are passed over."""
    settled = Settled()
    lines = [(step.allow, step.topic, step.place) for step in steps if step.topic is not None]
    # What each line still allows; a deny above it may cut it down.
    gives = [[topic] if allow else [] for allow, topic, _ in lines]
    for number, (allow, topic, place) in enumerate(lines):
        if allow or _covered(topic, settled.denies):
            continue
        above = [(stronger, lines[other][2]) for other in range(number) for stronger in gives[other]]
        if all(meet(topic, stronger) is None for stronger, _ in above):
            settled.denies[topic] = place
            continue
        for other in range(number + 1, len(lines)):
            gives[other] = _cut(topic, place, gives[other], above, settled)
    for (_, _, place), topics in zip(lines, gives, strict=True):
        for topic in topics:
            settled.allows.setdefault(topic, place)
    return settled


def both(one: Settled, other: Settled) -> Settled:
    """What both allow and neither denies.

    Where a placeholder meets a word, or another placeholder, nobody knows yet whether both allow the same:
    that is lost.
    """
    found = Settled(denies={**other.denies, **one.denies}, losses=[*one.losses, *other.losses])
    pairs: dict[str, str] = {}
    for mine, place in one.allows.items():
        for theirs, their_place in other.allows.items():
            topic = meet(mine, theirs)
            if topic is None:
                continue
            if topic == meet(theirs, mine):  # else each has its own level there
                narrow = _is_carried_by(theirs, their_place, mine, place)
                pairs[topic] = their_place if narrow else place
            else:
                found.losses.append(Loss(topic, place, their_place))
    # `#` and `a/#` meet twice when both lists have both.
    found.allows = {
        topic: place
        for topic, place in pairs.items()
        if not any(wider != topic and covers(wider, topic) for wider in pairs)
    }
    return found


def _is_carried_by(one: str, place: str, other: str, other_place: str) -> bool:
    """Whether the first of two lines is the one to look at for what both allow: what `other` allows is wider.

    Of two that allow the same it is the one that somebody wrote, and not the default.
    """
    if one == other:
        return other_place.endswith(DEFAULT_ACCESS) and not place.endswith(DEFAULT_ACCESS)
    return covers(other, one)


def _cut(
    deny: str, place: str, topics: list[str], above: list[tuple[str, str]], settled: Settled
) -> list[str]:
    """What a deny leaves of the topics below it; denies for what it takes and filters can't cut out."""
    left: list[str] = []
    for topic in topics:
        rest = without(topic, deny)
        if rest is not None:
            left += rest
            continue
        left.append(topic)
        taken = meet(deny, topic)
        for piece in _spared([] if taken is None else [taken], (stronger for stronger, _ in above)):
            if not _covered(piece, settled.denies):
                _deny(piece, place, above, settled)
    return left


def _spared(pieces: list[str], stronger: Iterable[str]) -> list[str]:
    """The pieces of a deny, less what stronger allows take out of it and filters can say."""
    for topic in stronger:
        cut = []
        for piece in pieces:
            rest = without(piece, topic)
            cut += [piece] if rest is None else rest
        pieces = cut
    return pieces


def _deny(piece: str, place: str, above: list[tuple[str, str]], settled: Settled) -> None:
    for topic, allow in above:
        lost = meet(piece, topic)
        if lost is not None and not _covered(lost, settled.denies):
            settled.losses.append(Loss(lost, allow, place))
    settled.denies[piece] = place


def _covered(topic: str, denies: Iterable[str]) -> bool:
    return any(covers(other, topic) for other in denies)
