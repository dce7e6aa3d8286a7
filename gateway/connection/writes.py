"""Joins what relays give out into as few writes as possible, without copying a last piece that is long."""

from __future__ import annotations

from gateway.connection.commands import Command, SendToBus, SendToDevice

LONG_BYTES = 8_192
"""Bytes from which on copying costs more than what avoids it: a second write, or processing the packet before
them by itself."""


def sent(command: type[SendToBus | SendToDevice], pieces: list[bytes]) -> list[Command]:
    """One write for these pieces, or two if the last is long. Empties the list."""
    if len(pieces) == 1:
        commands: list[Command] = [command(pieces[0])]
    elif len(pieces[-1]) < LONG_BYTES:
        commands = [command(b"".join(pieces))]
    else:
        commands = [command(b"".join(pieces[:-1])), command(pieces[-1])]
    pieces.clear()
    return commands
