"""What relays give out made into writes: as few as possible, without a copy of what is long.

Knows sizes alone.
"""

from __future__ import annotations

from gateway.connection.commands import Command, SendToBus, SendToDevice

_LONG = 8_192
"""Bytes that are not joined with what goes before them: a second write costs less than their copy."""


def sent(command: type[SendToBus | SendToDevice], pieces: list[bytes]) -> list[Command]:
    """One write for these pieces, or two if the last is long. Empties the list."""
    if len(pieces) == 1:
        commands: list[Command] = [command(pieces[0])]
    elif len(pieces[-1]) < _LONG:
        commands = [command(b"".join(pieces))]
    else:
        commands = [command(b"".join(pieces[:-1])), command(pieces[-1])]
    pieces.clear()
    return commands
