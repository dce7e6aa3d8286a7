"""What relays give out made into writes: as few as possible, without a copy of a last piece that is long.

Knows sizes alone.
"""

from __future__ import annotations

from gateway.connection.commands import Command, SendToBus, SendToDevice

LONG = 8_192
"""Bytes whose copy costs more than what saves it: a look at the packet before them, or a second write."""


def sent(command: type[SendToBus | SendToDevice], pieces: list[bytes]) -> list[Command]:
    """One write for these pieces, or two if the last is long. Empties the list."""
    if len(pieces) == 1:
        commands: list[Command] = [command(pieces[0])]
    elif len(pieces[-1]) < LONG:
        commands = [command(b"".join(pieces))]
    else:
        commands = [command(b"".join(pieces[:-1])), command(pieces[-1])]
    pieces.clear()
    return commands
