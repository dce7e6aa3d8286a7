"""Whether a member stands twice in a JSON object.

Each reader may take a different one for what it says (RFC 8259, 4), so what one judged need not be what
another acts on. The decoder takes the last one and says nothing. What it found is compared with what was
sent, by length and by quotes: to read everything again would double what a long request costs. Must not know
requests.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from itertools import compress

import msgspec

BESIDE_BYTES_MAX = 4_096
"""Bytes of keys, blanks and members that nobody reads, which are taken apart to find a name twice."""
_MEMBER_BYTES_MIN = len('"v":1,')
"""Bytes of the shortest member: no name that is read is shorter."""


class TooMuchBeside(Exception):
    """More stands beside what is read than is taken apart."""


def has_a_name_twice(found: msgspec.Struct, given: bytes) -> bool:
    """Whether a member stands twice in `given`, which was decoded into `found` and has no other members.

    `found` has fields of Raw alone, empty for what is not there. Example: `{"a":1, "a":2}` is found as `a`
    with the value `2`, whose shortest text has 7 bytes, not 14, and 2 quotes, not 4.
    """
    values = msgspec.structs.astuple(found)
    # Braces; of each member its key in quotes, a colon, its value, and of all but one a comma.
    least = 1 + sum(map(len, values)) + sum(compress(_beside_values(type(found)), values))
    if len(given) - least < _MEMBER_BYTES_MIN:
        return False
    # A key has two quotes however it is spelt, and those inside of values are counted there.
    return given.count(b'"') != 2 * sum(map(bool, values)) + b"".join(values).count(b'"')


@functools.cache
def _beside_values(kind: type[msgspec.Struct]) -> tuple[int, ...]:
    """By field, what a member takes at least beside its value."""
    return tuple(len(name) + len('"":,') for name in kind.__struct_fields__)


def has_one_of_them_twice(names: Iterable[str], given: bytes, longest: bytes) -> bool:
    """The same for an object with other members too: whether one of `names` stands there twice.

    `longest` is the longest of their values. Raises TooMuchBeside, and ValueError when `given` is no JSON.
    """
    if len(given) > BESIDE_BYTES_MAX:
        given = given.replace(longest, b"0", 1)
    known = frozenset(names)
    if b"\\" not in given and all(given.count(f'"{name}"'.encode()) < 2 for name in known):
        return False
    if len(given) > BESIDE_BYTES_MAX:
        raise TooMuchBeside
    outermost: list[str] = []

    def keep(pairs: list[tuple[str, object]]) -> None:
        # The outermost object ends last.
        outermost[:] = [name for name, _ in pairs if name in known]

    json.loads(given, object_pairs_hook=keep)
    return len(outermost) != len(set(outermost))
