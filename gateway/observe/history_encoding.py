"""The form in which the store keeps the history: one row per sample, one per series.

Owns the format alone. A sample's row has the ids and values of its series, compressed: some 1 KB for 200
series.
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
"""What one value takes, with the id of its series."""


class SeriesRow(NamedTuple):
    """A series."""

    series_id: int
    name: str
    labels: Labels


class Row(NamedTuple):
    """A sample: all values of one moment."""

    step_s: int
    """Seconds from one sample to the next, by which it belongs to one of the two rings."""
    number: int
    """The number of the sample in its ring; never given twice."""
    at: int
    """Unix milliseconds."""
    values: bytes


class Unsaved(NamedTuple):
    """What the store does not have yet; all of it is saved in one transaction, or nothing."""

    series: Sequence[SeriesRow]
    ended: Sequence[int]
    """Ids of series that were dropped."""
    rows: Sequence[Row]
    moved: Sequence[tuple[int, int, int]]
    """`step_s`, number and new time of rows that the store has: the clock was set back."""
    needed: Mapping[int, int]
    """By `step_s`, the first number that is still needed; the store drops what is before."""
    unsaved_from: tuple[int, int]
    """In the fine ring and in the minutes: the first number that the store lacks once this is saved."""


def packed(ids: array[int], values: array[float]) -> bytes:
    """Values and the ids of their series, little-endian."""
    if sys.byteorder == "big":
        ids.byteswap()
        values.byteswap()
    return zlib.compress(ids.tobytes() + values.tobytes())


def unpacked(data: bytes, most: int) -> dict[int, float] | None:
    """The values, `most` at most, by the ids of their series; None if the data is damaged."""
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
