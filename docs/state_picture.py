"""The picture of a connection's states in ARCHITECTURE.md, made from their table.

python docs/state_picture.py        writes it anew, between the two comments
"""

from __future__ import annotations

import re
from pathlib import Path

from gateway.connection.transition_table import TABLE, State

PAGE = Path(__file__).resolve().parents[1] / "ARCHITECTURE.md"
_BETWEEN = re.compile(r"(?<=<!-- docs/state_picture.py -->\n).*?(?=<!-- -->\n)", re.DOTALL)


def picture() -> str:
    """An arrow for each two states, with the events that lead there. Nearly all may lead to the end."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for state, rows in TABLE.items():
        for event, row in rows.items():
            for after in row.after.values():
                arrows.setdefault((state, after), []).append(event.__name__)
    lines = [f"    [*] --> {_name(State.AWAIT_CONNECT)}"]
    for (state, after), events in arrows.items():
        why = "" if after is State.CLOSED else f": {', '.join(events)}"
        lines.append(f"    {_name(state)} --> {_name(after)}{why}")
    return "\n".join(["```mermaid", "stateDiagram-v2", "    direction LR", *lines, "```", ""])


def _name(state: State) -> str:
    return state.value.replace(" ", "_")


def with_picture(page: str) -> str:
    """This page with the picture as it is now."""
    return _BETWEEN.sub(lambda _: picture(), page, count=1)


if __name__ == "__main__":
    PAGE.write_text(with_picture(PAGE.read_text("utf-8")), "utf-8")
