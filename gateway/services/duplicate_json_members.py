"""Finds out whether a JSON object has a member twice.

Different readers use different ones of the two (RFC 8259, 4), so one could check a value and another act on
the other. Our decoder silently takes the last one. So what it decoded is compared with what was sent, by
length and by quotes: parsing everything a second time would double the cost of a long request. Must not know
requests.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from itertools import compress

import msgspec

BESIDE_BYTES_MAX = 4_096
"""Bytes of names, blanks and members that nobody reads, up to which an object is parsed to find a
duplicate."""
_MEMBER_BYTES_MIN = len('"v":1,')
"""Bytes of the shortest possible member: no name that is read is shorter than `v`."""


class TooMuchBeside(Exception):
    """Beside the members that are read there is more than `BESIDE_BYTES_MAX`."""


def has_a_name_twice(found: msgspec.Struct, given: bytes) -> bool:
    """Whether `given`, which was decoded into `found` and has no other members, has a member twice.

    All fields of `found` are Raw, empty for absent members. Example: `{"a":1, "a":2}` is decoded to the
    member `a` with the value `2`, whose shortest form has 7 bytes, not 14, and 2 quotes, not 4.
    """
    values = msgspec.structs.astuple(found)
    # The braces; for each member its name in quotes, a colon and its value; a comma after all but one.
    least = 1 + sum(map(len, values)) + sum(compress(_beside_values(type(found)), values))
    if len(given) - least < _MEMBER_BYTES_MIN:
        return False
    # A name has two quotes however it is written; the quotes inside of values are counted there.
    return given.count(b'"') != 2 * sum(map(bool, values)) + b"".join(values).count(b'"')


@functools.cache
def _beside_values(kind: type[msgspec.Struct]) -> tuple[int, ...]:
    """By field, the bytes of a member without its value, in its shortest form."""
    return tuple(len(name) + len('"":,') for name in kind.__struct_fields__)


def has_one_of_them_twice(names: Iterable[str], given: bytes, longest: bytes) -> bool:
    """The same for an object that also has other members: whether it has one of `names` twice.

    `longest` is the longest of their values. Raises TooMuchBeside, and ValueError if `given` is not JSON.
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
