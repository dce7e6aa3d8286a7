"""What is typed or read from stdin: the answer to a question, secrets, passphrases, tokens.

Secrets are never taken from the command line, where any user of the machine sees them.
"""

from __future__ import annotations

import getpass
import sys
from codecs import BOM_UTF8
from typing import Annotated

import typer

from gateway.cli.output import Failure, wrong_usage

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

_LONGEST_TOKEN = 65_536  # bytes: more than any token has
_LONGEST_PASSPHRASE = 4_096  # bytes


def demand_yes(question: str, otherwise: str) -> None:
    """Ask on the terminal. Raises Failure: with `otherwise` if the answer is no; if there is no terminal."""
    if not sys.stdin.isatty():
        raise wrong_usage("there is no terminal to ask on: say --yes")
    if not typer.confirm(question, err=True):
        raise Failure(otherwise)


def read_secret() -> bytes:
    """The secret that a device is to have. Raises Failure."""
    from gateway.admin.secret_rules import LONGEST, secret_fault

    secret = _typed("Secret: ") if sys.stdin.isatty() else _line(LONGEST)
    if fault := secret_fault(secret):
        raise wrong_usage(f"the secret on stdin {fault}")
    return secret


def read_passphrase(*, from_stdin: bool, new: bool) -> bytes:
    """The passphrase of a backup; a new one is typed twice, and may not be short. Raises Failure."""
    from gateway.keys.wrapping import PASSPHRASE_MIN

    if sys.stdin.isatty():
        given = _typed("Passphrase: ")
        if new and _typed("Once more: ") != given:
            raise Failure("the passphrases differ: nothing was written")
    elif from_stdin:
        given = _line(_LONGEST_PASSPHRASE)
    else:
        raise wrong_usage("there is no terminal to ask for the passphrase: give it with --passphrase-stdin")
    if len(given) > _LONGEST_PASSPHRASE:
        raise wrong_usage(f"the passphrase is longer than {_LONGEST_PASSPHRASE:,} bytes")
    if new and len(given.decode(errors="replace")) < PASSPHRASE_MIN:
        raise wrong_usage(
            f"the passphrase is shorter than {PASSPHRASE_MIN} characters: whoever has the file can guess as "
            "long as they like"
        )
    return given


def read_token() -> bytes:
    """A token. Raises Failure if stdin is a terminal."""
    if sys.stdin.isatty():
        # A terminal's line ends after 4,096 bytes, and a token may be longer.
        raise wrong_usage("there is no token on stdin: put `< FILE` after the command")
    return sys.stdin.buffer.read(_LONGEST_TOKEN).removeprefix(BOM_UTF8).strip()


def _typed(prompt: str) -> bytes:
    """What is typed without being shown. Ctrl-D ends the command as Ctrl-C does."""
    try:
        return getpass.getpass(prompt).encode("utf-8", "surrogateescape")
    except EOFError:
        raise typer.Abort from None


def _line(longest: int) -> bytes:
    """All of stdin without the line end; if it is longer than `longest` bytes, so is what this returns."""
    given = sys.stdin.buffer.read(len(BOM_UTF8) + longest + 3).removeprefix(BOM_UTF8)
    return given.removesuffix(b"\n").removesuffix(b"\r")
