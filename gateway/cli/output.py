"""What a command says and how it ends: text for people, one JSON object with `--json`, an exit code.

Results go to stdout. Errors go to stderr as text, and with `--json` to stdout as
`{"error", "problems"}` too, so that a script finds one object there in any case. Exit codes: 0 done,
1 refused or not found, 2 wrong usage. Times are UTC for people, Unix milliseconds in JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.admin.errors import Refused
from gateway.cli.closed_standard_streams import Unwritten
from gateway.observe.terminal_escaping import printable
from gateway.system.file_errors import FULL, not_written, who_may

if TYPE_CHECKING:
    from rich.console import RenderableType

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, errors included.")]


def json_time(unix_seconds: int) -> int:
    """A time in JSON: Unix milliseconds."""
    return unix_seconds * 1_000


class Failure(Exception):
    """The command can't do what was asked. The text says why and what to do."""

    def __init__(self, message: str, problems: Sequence[str] = (), *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.problems = list(problems)
        self.exit_code = exit_code


def wrong_usage(message: str) -> Failure:
    """The failure for an argument that makes no sense: exit code 2."""
    return Failure(message, exit_code=2)


def remark(text: str) -> None:
    """Print on stderr what is worth knowing but no error."""
    print(f"note: {printable(text)}", file=sys.stderr)


def shown_line(line: str) -> str:
    """A line as it is printed: tabs are between columns, and what would control a terminal is escaped."""
    return "\t".join(printable(column) for column in line.split("\t"))


class Nothing(str):
    """A line saying that there is nothing. It is no part of the result: a script's stdout stays empty."""

    __slots__ = ()


class Answer:
    """What the command prints when it is done."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def give(self, value: Mapping[str, object], *text: RenderableType) -> None:
        """Print `value` for a script, or `text` for people, a line each; colour only on a terminal.

        Raises Unwritten.
        """
        try:
            self._print(value, text)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unwritten(error.errno, error.strerror) from None

    def _print(self, value: Mapping[str, object], text: Sequence[RenderableType]) -> None:
        if self.as_json:
            print(json.dumps(value))
            return
        for line in text:
            if isinstance(line, Nothing) and not sys.stdout.isatty():
                remark(line)
            elif isinstance(line, str):
                print(shown_line(line))
            else:
                _draw(line)


def _draw(what: RenderableType) -> None:
    """Print a table. `rich` is imported here, so that a line of text need not wait for it."""
    from rich.console import Console

    Console(highlight=False).print(what)


@contextmanager
def answering(*, as_json: bool) -> Iterator[Answer]:
    """Run a command: whatever it raises becomes a message and an exit code, never a traceback.

    The gateway's own errors are written for the user and shown as they are; those that list
    `problems` are shown with all of them. Anything else is unexpected, and says so.
    """
    try:
        yield Answer(as_json=as_json)
    except (typer.Exit, typer.Abort, BrokenPipeError, Unwritten):
        raise
    except Exception as error:  # noqa: BLE001 - a command ends with one line, not with a traceback
        failure = _explained(error)
        _report(failure, as_json=as_json)
        raise typer.Exit(failure.exit_code) from None


def _explained(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, Refused):
        return Failure(str(error), error.problems, exit_code=2 if error.usage_error else 1)
    problems = getattr(error, "problems", None)
    if problems:
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        return Failure(f"{count} found", problems)
    if isinstance(error, PermissionError) and isinstance(error.filename, str):
        path = Path(error.filename)
        return Failure(f"{path} can't be used: {who_may(path, os.R_OK | os.W_OK)}")
    if isinstance(error, OSError) and error.errno in FULL and error.filename:
        return Failure(not_written(Path(error.filename), error))
    if isinstance(error, OSError) or type(error).__module__.startswith("gateway."):
        return Failure(str(error))
    return Failure(f"unexpected {type(error).__name__}: {error}")


def _report(failure: Failure, *, as_json: bool) -> None:
    print(f"error: {printable(str(failure))}", file=sys.stderr)
    for problem in failure.problems:
        print(f"  - {printable(problem)}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": str(failure), "problems": failure.problems}))
