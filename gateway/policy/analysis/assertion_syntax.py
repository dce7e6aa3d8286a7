"""Assertions about a policy: `no role:guest subscribe locks/#`.

Owns their syntax. `gateway.policy.analysis.prover` decides whether one holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.policy.engine.identity import is_device_id
from gateway.policy.engine.placeholders import rule_topic_fault
from gateway.policy.engine.rules import Action

ANY = "any"
_FORM = re.compile(r"\s*(\S+)\s+((?:[^\s,]+\s*,\s*)*[^\s,]+)\s+(\S+)\s+(\S.*?)\s*", re.DOTALL)
_FILTER = r"""("[^"]*"|'[^']*'|[^\s,"']+)"""
_FILTERS = re.compile(rf"{_FILTER}(?:\s+except\s+{_FILTER})*")
_HOW = (
    'write "no WHO ACTION FILTER" or "only WHO ACTION FILTER", as in "no role:guest subscribe locks/#"; '
    "WHO is role:NAME, device:ID or any"
)


class AssertionFault(ValueError):
    """This is not an assertion, or not one that could be true or false. The text says what to write."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """`no`: none of these may do this on any topic of the filter. `only`: no role but these may."""

    text: str
    """As written."""
    only: bool
    """Whether it begins with `only`, not with `no`."""
    roles: tuple[str, ...]
    """Names of roles, or `any`."""
    devices: tuple[str, ...]
    """Ids of devices."""
    action: Action
    topics: str
    """The filter, in which placeholders mean what they mean in rules; or `@name` for a group."""
    excepted: tuple[str, ...]
    """Filters of topics that it says nothing about."""


def parse(text: str) -> Assertion:
    """Parse an assertion. Raises AssertionFault."""
    found = _FORM.fullmatch(text)
    if found is None or found[1] not in {"no", "only"}:
        raise AssertionFault(_HOW)
    quantifier, who, action, rest = found.groups()
    roles, devices = [], []
    for one in re.split(r"\s*,\s*", who):
        kind, _, name = one.partition(":")
        if one == ANY:
            roles.append(ANY)
        elif kind == "role" and is_device_id(name):
            roles.append(name)
        elif kind == "device" and is_device_id(name):
            devices.append(name)
        else:
            raise AssertionFault(f'"{one}" is nobody; {_HOW}')
    if action not in set(Action):
        raise AssertionFault(f'unknown action "{action}"; known: {", ".join(Action)}')
    if not _FILTERS.fullmatch(rest):
        # A spelling mistake must not become a topic that nobody uses, of which anything can be proved.
        raise AssertionFault(
            f'"{rest}" is not FILTER, and not FILTER except FILTER; write one statement for each filter, and '
            "quotes around one with blanks, commas or quotes"
        )
    written = re.split(rf"{_FILTER}(?:\s+except\s+)?", rest)[1::2]
    topics, *excepted = [one[1:-1] if one[0] in "\"'" else one for one in written]
    for topic in (topics, *excepted):
        if fault := rule_topic_fault(topic):
            raise AssertionFault(f'the topic "{topic}" {fault}')
    only = quantifier == "only"
    if only and (devices or ANY in roles):
        raise AssertionFault('"only" takes roles: it says that no other role may, as in "only role:admin …"')
    return Assertion(
        text.strip(), only, tuple(roles), tuple(devices), Action(action), topics, tuple(excepted)
    )
