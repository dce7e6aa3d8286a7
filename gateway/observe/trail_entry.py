"""What stands in the trail of an audit event: one line of JSON, with the same fields as the line in the log.

`seq` comes first, the entry's number, which is its place in the tree. `dropped` says how many events before
this one found no place.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.observe.logs import safe
from gateway.observe.terminal_escaping import printable

LONGEST = 65_535
"""Bytes: an entry has to fit into a bundle of C2SP's tlog-tiles."""
_SHORT = 200
"""Characters of a value that is cut, because all together are too long."""


def entry_line(seq: int, fields: Mapping[str, object], dropped: int = 0) -> bytes:
    """The entry number `seq`, without a line feed at its end."""
    entry: dict[str, object] = {"seq": seq}
    entry |= {name: safe(name, value) for name, value in fields.items() if value is not None}
    if dropped:
        entry["dropped"] = dropped
    line = _encoded(entry)
    if len(line) > LONGEST:
        short = {name: value[:_SHORT] if isinstance(value, str) else value for name, value in entry.items()}
        line = _encoded(short | {"shortened": True})
    return line


def _encoded(entry: Mapping[str, object]) -> bytes:
    text = msgspec.json.encode(entry)
    # As in the log: a terminal that shows the file stays a terminal.
    return text if text.isascii() and b"\x7f" not in text else printable(text.decode()).encode()
