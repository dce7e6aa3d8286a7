"""How an audit event is written in the trail: one line of JSON, with the same fields as the line in the log.

`seq` comes first: the entry's number, which is that of its leaf in the tree. `dropped` says how many events
before this one were dropped, for they found no room.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType

import msgspec

from gateway.connection.audit_vocabulary import Kind, Outcome
from gateway.observe.logs import VALUE_LENGTH, safe
from gateway.observe.terminal_escaping import printable

LONGEST = 65_535
"""Bytes: an entry has to fit into a bundle of C2SP's tlog-tiles."""
_SHORT = 200
"""Characters that are left of each value, if all together are too long."""


_PLAIN = frozenset({str, int, NoneType, Kind, Outcome})


class _Usual(msgspec.Struct, omit_defaults=True):
    """The fields that `gateway.observe.audit_dispatch` writes, in its order. No name is that of a secret."""

    seq: int
    time: object = None
    kind: object = None
    outcome: object = None
    reason: object = None
    device: object = None
    network: object = None
    address: object = None
    connection: object = None
    request_id: object = None
    topic: object = None
    action: object = None
    rule: object = None
    id: object = None
    kept_from: object = None
    suppressed: object = None


def entry_line(seq: int, fields: Mapping[str, object], dropped: int = 0) -> bytes:
    """The entry number `seq`, without a line feed at its end."""
    if not dropped:
        # Each login has an entry: making each value safe took as long as all else that is done for it.
        line = _plain_line(seq, fields)
        if line:
            return line
    entry: dict[str, object] = {"seq": seq}
    entry |= {name: safe(name, value) for name, value in fields.items() if value is not None}
    if dropped:
        entry["dropped"] = dropped
    line = _encoded(entry)
    if len(line) > LONGEST:
        short = {name: value[:_SHORT] if isinstance(value, str) else value for name, value in entry.items()}
        line = _encoded(short | {"shortened": True})
    return line


def _plain_line(seq: int, fields: Mapping[str, object]) -> bytes:
    """The entry, if nothing in it has to be masked, escaped or cut; empty if something may have to be."""
    if not _PLAIN.issuperset(map(type, fields.values())):
        return b""
    try:
        line = msgspec.json.encode(_Usual(seq, **fields))
    except (TypeError, ValueError):  # it has other fields as well, or holds half a surrogate pair
        return b""
    is_plain = line.isascii() and b"\x7f" not in line and b"://" not in line
    return line if is_plain and len(line) <= VALUE_LENGTH else b""


def _encoded(entry: Mapping[str, object]) -> bytes:
    text = msgspec.json.encode(entry)
    # As in the log: a terminal that shows the file stays a terminal.
    return text if text.isascii() and b"\x7f" not in text else printable(text.decode()).encode()
