"""Reads the text of a condition, and refuses what makes no sense.

    condition  = both { "or" both }
    both       = one { "and" one }
    one        = "not" one | "(" condition ")" | operand ( > | >= | < | <= | == | != ) operand
    operand    = number | time | "word" | series | ( "rate" | "increase" ) "(" series "," time ")"
    series     = name [ "{" label ( = | != ) "value" { "," ... } "}" ]

A time is a number and a unit (ms, s, m, h or d), and is compared as seconds. A word stands for a number that
has a name: `service_status{service="bus"} == "down"`. `increase` is how much a counter has grown in that
time, `rate` the same per second.

It is read from left to right, without going back: time and memory grow with the length of the text, which is
bounded, as is the depth of its brackets. What the condition then means is for `gateway.alerts.conditions`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence

from gateway.alerts.conditions import COMPARE, BoolOp, Comparison, Condition, Node, Not, Selector
from gateway.alerts.readings_protocol import Catalogue

LENGTH_MAX = 1_000
"""Characters of a condition."""
_DEPTH_MAX = 16
"""Brackets and `not` within one another."""
_PREFIX = "gateway_"
"""May stand before a name, as in Prometheus."""

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<time>\d+(?:\.\d+)?(?:ms|[smhd])\b)
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![A-Za-z_\d.]))
      | (?P<word>"[^"\n\\]*")
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<sign>>=|<=|==|!=|[><=(){},])
      | (?P<wrong>\S+)
    )""",
    re.VERBOSE,
)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_WORDS = frozenset({"and", "or", "not"})
_FUNCTIONS = frozenset({"rate", "increase"})


class NoCondition(ValueError):
    """The text is no condition; the message says what is wrong with it and what to write."""


def condition_of(text: str, catalogue: Catalogue) -> Condition:
    """The condition that `text` is. Raises NoCondition."""
    if len(text) > LENGTH_MAX:
        raise NoCondition(f"it is longer than {LENGTH_MAX:,} characters; make two alerts of it")
    reader = _Reader(text, catalogue)
    node = reader.condition(0)
    reader.end()
    _keys_of(node, catalogue)
    single = not any(catalogue[name].labels for name in reader.names)
    return Condition(text, node, frozenset(reader.names), single)


class _Reader:
    """Takes a text apart, token by token."""

    def __init__(self, text: str, catalogue: Catalogue) -> None:
        self._tokens = [
            (match.lastgroup or "", match[match.lastgroup or 0]) for match in _TOKEN.finditer(text)
        ]
        self._at = 0
        self._catalogue = catalogue
        self.names: set[str] = set()

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _take(self, *signs: str) -> str:
        """Take the next token if it is one of these, and return its text; else an empty one."""
        kind, text = self._next()
        if kind in {"sign", "name"} and text in signs:
            self._at += 1
            return text
        return ""

    def _demand(self, sign: str, where: str) -> None:
        if not self._take(sign):
            raise NoCondition(f"{where} needs {sign!r}, not {self._found()}")

    def _found(self) -> str:
        return repr(self._next()[1]) if self._next()[1] else "its end"

    def end(self) -> None:
        """Nothing may be left."""
        if self._next()[0] != "end":
            raise NoCondition(f"{self._found()} can't stand there; between comparisons stands and, or")

    def condition(self, depth: int) -> Node:
        node = self._both(depth)
        while self._take("or"):
            node = BoolOp(node, self._both(depth), either=True)
        return node

    def _both(self, depth: int) -> Node:
        node = self._one(depth)
        while self._take("and"):
            node = BoolOp(node, self._one(depth), either=False)
        return node

    def _one(self, depth: int) -> Node:
        if depth > _DEPTH_MAX:
            raise NoCondition(f"it is nested more than {_DEPTH_MAX} deep")
        if self._take("not"):
            return Not(self._one(depth + 1))
        if self._take("("):
            node = self.condition(depth + 1)
            self._demand(")", "a part in brackets")
            return node
        return self._comparison()

    def _comparison(self) -> Comparison:
        left = self._operand()
        sign = self._take(*COMPARE)
        if not sign:
            raise NoCondition(
                f"after {_shown(left)} a comparison is needed ({' '.join(COMPARE)}), not {self._found()}"
            )
        right = self._operand()
        return Comparison(self._number(left, sign, right), sign, self._number(right, sign, left))

    def _number(
        self, one: Selector | float | str, sign: str, other: Selector | float | str
    ) -> Selector | float:
        """The operand, a word as the number that it stands for beside `other`."""
        if isinstance(one, float) and not isinstance(other, Selector):
            raise NoCondition(f"{_shown(one)} {sign} {_shown(other)} compares nothing that is measured")
        if not isinstance(one, str):
            return one
        if not isinstance(other, Selector):
            raise NoCondition(f'"{one}" is compared with {_shown(other)}, which is nothing that is measured')
        words = self._catalogue[other.name].words
        if not words or other.function:
            raise NoCondition(f'{_shown(other)} is a number: compare it with one, not with "{one}"')
        if sign not in {"==", "!="}:
            raise NoCondition(f'{_shown(other)} is compared with "{one}" by == or !=, not by {sign}')
        if one not in words:
            raise NoCondition(f'{other.name} is never "{one}"; it is one of {_listed(words)}')
        return words[one]

    def _operand(self) -> Selector | float | str:
        kind, text = self._next()
        self._at += 1
        if kind == "number":
            if not math.isfinite(float(text)):
                raise NoCondition(f"the number {text} is too large")
            return float(text)
        if kind == "time":
            return _seconds(text)
        if kind == "word":
            return text[1:-1]
        if kind == "name" and text not in _WORDS:
            return self._call(text) if text in _FUNCTIONS and self._next()[1] == "(" else self._series(text)
        self._at -= 1
        raise NoCondition(f"a name, a number or a word is needed, not {self._found()}")

    def _call(self, function: str) -> Selector:
        self._demand("(", function)
        kind, name = self._next()
        if kind != "name":
            raise NoCondition(f"{function}() is of a series, as in {function}(logins_refused_total, 5m)")
        self._at += 1
        series = self._series(name)
        if not self._catalogue[series.name].grows:
            raise NoCondition(
                f"{function}() is of what is counted, and {series.name} goes up and down: compare it as it is"
            )
        self._demand(",", f"{function}({name}")
        kind, text = self._next()
        if kind != "time":
            raise NoCondition(f"{function}() needs a time with its unit, such as 5m, not {self._found()}")
        self._at += 1
        seconds = _seconds(text)
        most = self._catalogue[series.name].span_most
        if not 1 <= seconds <= most or seconds != int(seconds):
            limit = f"{most // 3_600}h" if most >= 3_600 else f"{most // 60}m"
            raise NoCondition(
                f"{function}() of {series.name} looks back whole seconds, from 1s to {limit}, not {text}"
            )
        self._demand(")", f"{function}({name}, {text}")
        return Selector(series.name, series.equal, series.unequal, function, int(seconds))

    def _series(self, written: str) -> Selector:
        name = written.removeprefix(_PREFIX)
        if name not in self._catalogue:
            raise NoCondition(f"there is no metric {written}{_meant(name, self._catalogue)}")
        self.names.add(name)
        equal: list[tuple[str, str]] = []
        unequal: list[tuple[str, str]] = []
        if self._take("{"):
            while not self._take("}"):
                self._matcher(name, equal, unequal)
                if not self._take(","):
                    self._demand("}", f"{name}{{…")
                    break
        return Selector(name, tuple(equal), tuple(unequal))

    def _matcher(self, name: str, equal: list[tuple[str, str]], unequal: list[tuple[str, str]]) -> None:
        kind, label = self._next()
        known = self._catalogue[name].labels
        if kind != "name" or label not in known:
            has = f"its labels: {', '.join(known)}" if known else "it has no labels"
            raise NoCondition(f"{name} has no label {label or 'there'}; {has}")
        self._at += 1
        sign = self._take("=", "!=")
        kind, value = self._next()
        if not sign or kind != "word":
            raise NoCondition(
                f'after the label {label} stands = or != and a value in quotes, as in {label}="…"'
            )
        self._at += 1
        (equal if sign == "=" else unequal).append((label, value[1:-1]))


def _seconds(text: str) -> float:
    number = text.rstrip("mshd")
    return float(number) * _SECONDS[text[len(number) :]]


def _listed(words: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _meant(name: str, catalogue: Catalogue) -> str:
    near = difflib.get_close_matches(name, catalogue, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(operand: Selector | float | str) -> str:
    if isinstance(operand, Selector):
        return f"{operand.function}({operand.name}, …)" if operand.function else operand.name
    return f'"{operand}"' if isinstance(operand, str) else f"{operand:g}"


def _keys_of(node: Node, catalogue: Catalogue) -> frozenset[str]:
    """The labels that distinguish what this is true for: those that `=` does not pin to a value.

    Raises NoCondition if two sides have different ones, so that nothing on one matches anything on the other.
    """
    if isinstance(node, Not):
        return _keys_of(node.of, catalogue)
    if isinstance(node, BoolOp):
        left, right = _keys_of(node.left, catalogue), _keys_of(node.right, catalogue)
    else:
        left, right = _free(node.left, catalogue), _free(node.right, catalogue)
    if left and right and left != right:
        raise NoCondition(
            f"one side is told apart by {', '.join(sorted(left))}, the other by {', '.join(sorted(right))}: "
            f'pin what is not common to both, as in {{{min(right - left or left - right)}="…"}}'
        )
    return left | right


def _free(operand: Selector | float, catalogue: Catalogue) -> frozenset[str]:
    if isinstance(operand, float):
        return frozenset()
    return frozenset(catalogue[operand.name].labels) - {label for label, _ in operand.equal}
