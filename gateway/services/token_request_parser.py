"""What a request for a token may ask for: a shorter life, and fewer rights.

Owns the syntax and its meaning. Must not know what the device is allowed: that is for `token_issuer`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.mqtt.topics import covers, filter_fault, unshared
from gateway.policy.engine.rules import Action
from gateway.services.refusal import Code, Refusal

FILTERS_MAX = 64
"""Filters of one request, for all actions together: each is compared with all rights of the device."""

_TIME = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_TTL = '"ttl" has to be a number of seconds, or text such as "15m": at least a second.'
_SHAPE = (
    '"permissions" has to be an object with lists of filters: '
    '{"publish": [], "subscribe": [], "encrypt": [], "decrypt": []}; what is left out is not allowed.'
)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """How a token is to be narrower than the rights of its device. None: as wide as possible."""

    ttl: int | None = None
    """Its life in seconds."""
    permissions: Mapping[str, tuple[str, ...]] | None = None
    """Topic filters by action."""


ALL_RIGHTS = TokenRequest()


def read_token_request(ttl: object, permissions: object) -> TokenRequest:
    """Parse both from decoded JSON; None for what is absent. Raises Refusal."""
    return TokenRequest(
        None if ttl is None else _seconds(ttl), None if permissions is None else _permissions(permissions)
    )


def excess(requested: Mapping[str, Sequence[str]], allowed: Mapping[str, Sequence[str]]) -> str:
    """The first requested filter, with its action, that `allowed` does not cover; empty if there is none."""
    return next(
        (
            f"{action} {one}"
            for action, filters in requested.items()
            for one in filters
            if not any(covers(granted, one) for granted in allowed[action])
        ),
        "",
    )


def _seconds(ttl: object) -> int:
    if isinstance(ttl, str) and (said := _TIME.fullmatch(ttl)):
        return int(said[1]) * _UNITS[said[2]]
    if isinstance(ttl, int) and not isinstance(ttl, bool) and ttl >= 1:
        return ttl
    raise Refusal(Code.INVALID_REQUEST, _TTL)


def _permissions(given: object) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(given, dict) or not given.keys() <= {*Action}:
        raise Refusal(Code.INVALID_REQUEST, _SHAPE)
    found = {}
    for action in Action:
        filters = given.get(action.value, [])
        if not isinstance(filters, list) or not all(isinstance(one, str) for one in filters):
            raise Refusal(Code.INVALID_REQUEST, _SHAPE)
        found[action.value] = tuple(dict.fromkeys(filters))
    if sum(map(len, found.values())) > FILTERS_MAX:
        raise Refusal(Code.INVALID_REQUEST, f'"permissions" may have {FILTERS_MAX} filters in all.')
    for one in (one for filters in found.values() for one in filters):
        if fault := filter_fault(one):
            raise Refusal(Code.INVALID_REQUEST, f'A filter of "permissions" {fault}.')
        if unshared(one) != one:
            words = 'Name the filter after $share/<group>/ in "permissions": it may be shared then too.'
            raise Refusal(Code.INVALID_REQUEST, words)
    return found
