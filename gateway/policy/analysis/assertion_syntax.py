"""What can be claimed of a policy: `no role:guest subscribe locks/#`.

Owns the syntax of an assertion. Whether one holds is for `gateway.policy.analysis.prover`.
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
    """This is no assertion, or none that could be true or false. The text says what to write."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """`no`: none of these may do this on any topic of the filter. `only`: no other role may."""

    text: str
    only: bool
    roles: tuple[str, ...]
    """Names, or `any`."""
    devices: tuple[str, ...]
    action: Action
    topics: str
    """The filter. A placeholder in it stands for the same as in the rules."""
    excepted: tuple[str, ...]
    """Filters of topics that it says nothing about."""


def parse(text: str) -> Assertion:
    """Read one. Raises AssertionFault."""
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
        # A mistake in spelling must not become a topic that nobody uses, and so a proof.
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
