"""Lists of things: a table on a terminal, else a line each with tabs between the columns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.cli.output import Nothing
from gateway.observe.terminal_escaping import printable

if TYPE_CHECKING:
    from rich.table import Table


def first_of(names: Sequence[str], most: int) -> str:
    """The first `most` of these names, and how many more there are; `-` if there are none."""
    shown = ", ".join(names[:most]) or "-"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    state: int,
    colour: Callable[[str], str],
    empty: str = "",
) -> list[Table | str]:
    """The rows, for `Answer.give`.

    On a terminal the column with the number `state` has the colour that `colour` gives its text. `empty` is
    shown if there are no rows. The first column, an id, is never cut; the others break anywhere.
    """
    if not rows and empty:
        return [Nothing(empty)]
    if not sys.stdout.isatty():
        return ["\t".join(row) for row in rows]
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        if number == 0:
            made.add_column(heading, no_wrap=True, min_width=max(len(row[0]) for row in rows))
        else:
            made.add_column(heading, overflow="fold")
    for row in rows:
        # Text, not markup: a label may have brackets in it.
        cells = [Text(printable(cell)) for cell in row]
        cells[state] = Text(row[state], colour(row[state]))
        made.add_row(*cells)
    return [made]
