"""Conditions of alerts: a small language over the readings, parsed once and evaluated once a second.

Why it can be trusted with what a file says (docs/adr/0017): it has no loops, no calls but `rate` and
`increase`, no names but those of the catalogue, and bounds on length and depth, so evaluating it always ends,
costs little and raises nothing. What makes no sense is refused when it is parsed: an unknown name or label,
the rate of what goes up and down, a word that the series does not have.

A condition is true for some of the series it compares, and each of those is an alert of its own:
`service_status == "down"` is true once for each service that is down. The two sides of `and`, `or` and a
comparison are matched by their labels, which have to be the same; labels that `=` pins to one value don't
count there, and a side without labels matches all of the other. Of a series that is not measured nothing is
true, not even after `not`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gateway.alerts.readings_protocol import Labels, Readings

_FINE_SPAN = 3_600
"""Seconds for which the history has points every ten seconds."""
_GAP_MAX = 25_000, 75_000
"""Milliseconds that may lie between two points of a series: within the last hour, where the history has one
every ten seconds; and before, where it has one a minute. If the first point lies further than this after the
start of the time asked for, the series may have begun there."""
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True)
class Selector:
    """The series of one name whose labels fit; with a `function`, what that makes of their last `seconds`."""

    name: str
    equal: Labels = ()
    unequal: Labels = ()
    function: str = ""
    seconds: int = 0

    def fits(self, labels: Labels) -> bool:
        """Whether a series with these labels is selected."""
        if not self.equal and not self.unequal:
            return True
        has = dict(labels)
        return all(has.get(label, "") == value for label, value in self.equal) and all(
            has.get(label, "") != value for label, value in self.unequal
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two operands, at least one of which is a series."""

    left: Selector | float
    sign: str
    right: Selector | float


@dataclass(frozen=True, slots=True)
class BoolOp:
    """`and`, or `or`."""

    left: Node
    right: Node
    either: bool
    """Whether it is `or`."""


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite, for the series that are measured."""

    of: Node


Node: TypeAlias = Comparison | BoolOp | Not


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was parsed."""

    text: str
    node: Node
    names: frozenset[str]
    """The names of the readings that it asks for."""
    single: bool
    """Whether it is of readings of a single series each, which are there as long as the gateway is: what is
    not measured can't be had just then. Of others a series may be gone for good, as with a device."""

    def __str__(self) -> str:
        return self.text

    def holds(self, readings: Readings, *, now: int, began: int) -> dict[Labels, float] | None:
        """For which labels it is true now, each with the number that makes it so.

        None: nobody knows, for it is of a single series, and that is not measured.

        `now`, and `began`, when the counters of this process began at 0, are Unix milliseconds. Never raises.
        """
        moment, node = _Moment(readings, now, began), self.node
        if isinstance(node, Comparison) and isinstance(node.left, Selector) and isinstance(node.right, float):
            # Most are of this shape, and there may be a series for each of ten thousand devices.
            compare, bound = COMPARE[node.sign], node.right
            numbers = _values(node.left, moment)
            if not numbers and self.single:
                return None
            return {_merged(labels): value for labels, value in numbers if compare(value, bound)}
        found = _evaluated(node, moment)
        if not found and self.single:
            return None
        return {one.labels: one.value for one in found.values() if one.true}


@dataclass(frozen=True, slots=True)
class _Moment:
    readings: Readings
    now: int
    began: int


@dataclass(frozen=True, slots=True)
class _Found:
    """What evaluating a part of the condition gave, for one set of labels."""

    true: bool
    value: float
    labels: Labels
    """All of them, those that `=` pins too."""


_ByKey: TypeAlias = dict[Labels, _Found]
"""By the labels without those that are pinned."""


def _evaluated(node: Node, moment: _Moment) -> _ByKey:
    if isinstance(node, Not):
        return {
            key: _Found(not one.true, one.value, one.labels)
            for key, one in _evaluated(node.of, moment).items()
        }
    if isinstance(node, BoolOp):
        left, right = _evaluated(node.left, moment), _evaluated(node.right, moment)
        return _either(left, right) if node.either else _joined(left, right, lambda a, b: a.true and b.true)
    compare = COMPARE[node.sign]
    left, right = _numbers(node.left, moment), _numbers(node.right, moment)
    return _joined(left, right, lambda a, b: compare(a.value, b.value), measured=node)


def _numbers(operand: Selector | float, moment: _Moment) -> _ByKey:
    if isinstance(operand, float):
        return {(): _Found(true=True, value=operand, labels=())}
    pinned = {label for label, _ in operand.equal}
    return {
        tuple(pair for pair in labels if pair[0] not in pinned): _Found(true=True, value=value, labels=labels)
        for labels, value in _values(operand, moment)
    }


def _values(operand: Selector, moment: _Moment) -> list[tuple[Labels, float]]:
    if not operand.function:
        return [one for one in moment.readings.latest(operand.name).items() if operand.fits(one[0])]
    divisor = operand.seconds if operand.function == "rate" else 1
    return [
        (labels, (_grown_before(operand, labels, points, moment) + growth(points)) / divisor)
        for labels, points in moment.readings.since(operand.name, operand.seconds).items()
        if points and operand.fits(labels)
    ]


def growth(points: Sequence[tuple[int, float]]) -> float:
    """How much a counter has grown from the first of these points to the last.

    One that began again at 0, with a new process, has grown by what it shows then.
    """
    grown, before = 0.0, points[0][1]
    for _, value in points[1:]:
        grown += value - before if value >= before else value
        before = value
    return grown


def _grown_before(
    operand: Selector, labels: Labels, points: Sequence[tuple[int, float]], moment: _Moment
) -> float:
    """How much it has grown from the start of the time asked for to its first point after that.

    If the series began there that is its first number: for example, the first refused login makes a series.
    """
    first_at, first = points[0]
    start = moment.now - operand.seconds * 1_000
    if first_at >= moment.began >= start:
        return first
    if first_at - start <= _GAP_MAX[operand.seconds > _FINE_SPAN]:
        return 0.0
    # All that there is: after a clock that was set far ahead no point may lie within a day of this one.
    older = moment.readings.since(operand.name, moment.now // 1_000).get(labels, ())
    last = next((value for at, value in reversed(older) if at < first_at), None)
    return first if last is None else growth([(0, last), (first_at, first)])


def _joined(
    left: _ByKey,
    right: _ByKey,
    true: Callable[[_Found, _Found], bool],
    *,
    measured: Comparison | None = None,
) -> _ByKey:
    """What both sides have; if one has no labels, what the other has."""
    if len(left) == 1 and () in left:
        pairs = [(key, left[()], one) for key, one in right.items()]
    elif len(right) == 1 and () in right:
        pairs = [(key, one, right[()]) for key, one in left.items()]
    else:
        pairs = [(key, left[key], right[key]) for key in left if key in right]
    of_right = measured is not None and isinstance(measured.left, float)
    return {
        key: _Found(true(a, b), b.value if of_right else a.value, _merged(a.labels, b.labels))
        for key, a, b in pairs
    }


def _either(left: _ByKey, right: _ByKey) -> _ByKey:
    """What either side has. If one has no labels and is true, it is true for all labels of the other."""
    found: _ByKey = {}
    for key in dict.fromkeys([*left, *right]):
        if key == () and (any(left) or any(right)):
            continue
        sides = [one for one in (left.get(key, left.get(())), right.get(key, right.get(()))) if one]
        true = [one for one in sides if one.true]
        labels = _merged(*(one.labels for one in true or sides))
        found[key] = _Found(bool(true), (true or sides)[0].value, labels)
    return found


def _merged(*labels: Labels) -> Labels:
    """All of these labels, without any that has two values."""
    values: dict[str, set[str]] = {}
    for label, value in (pair for one in labels for pair in one):
        values.setdefault(label, set()).add(value)
    return tuple(sorted((label, next(iter(one))) for label, one in values.items() if len(one) == 1))
