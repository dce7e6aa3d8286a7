"""The form in which the store keeps the history: a row a moment, its values packed, and a row a series.

Owns the format alone. A row has the ids and the values of its series, compressed: some 1 KB for 200 of them.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, in the order of the metric's own labels."""

_BYTES = 12
"""Of one value, with the id of its series."""


class SeriesRow(NamedTuple):
    """A series."""

    series_id: int
    name: str
    labels: Labels


class Row(NamedTuple):
    """All values of one moment."""

    step_s: int
    """Seconds that it stands for."""
    number: int
    """Counts the moments of this step; never given twice."""
    at: int
    """Unix milliseconds."""
    values: bytes


class Unsaved(NamedTuple):
    """What the store does not have yet; all of it is saved in one transaction, or nothing."""

    series: Sequence[SeriesRow]
    ended: Sequence[int]
    """Ids of series that are no more."""
    rows: Sequence[Row]
    moved: Sequence[tuple[int, int, int]]
    """Step, number and new time of rows that the store has: the clock was set back."""
    needed: Mapping[int, int]
    """By step the first number that is needed; the store drops what is before."""
    marks: tuple[int, int]
    """Of the fine ring and of the minutes: the first number that the store lacks once this is saved."""


def packed(ids: array[int], values: array[float]) -> bytes:
    """Values and the ids of their series, little-endian."""
    if sys.byteorder == "big":
        ids.byteswap()
        values.byteswap()
    return zlib.compress(ids.tobytes() + values.tobytes())


def unpacked(data: bytes, most: int) -> dict[int, float] | None:
    """At most so many values by the id of their series; None when it is damaged."""
    reader = zlib.decompressobj()
    try:
        raw = reader.decompress(data, most * _BYTES + 1)
    except zlib.error:
        return None
    count, rest = divmod(len(raw), _BYTES)
    if rest or count > most or not reader.eof:
        return None
    ids, values = array("I"), array("d")
    ids.frombytes(raw[: 4 * count])
    values.frombytes(raw[4 * count :])
    if sys.byteorder == "big":
        ids.byteswap()
        values.byteswap()
    return dict(zip(ids, values, strict=True))
