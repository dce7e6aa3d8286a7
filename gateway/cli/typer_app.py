"""How both programs are put together, begin and end: help, wrong usage, an interruption.

Owns what happens around a command, which is the same for all. Must not know any of them.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperOption
from typer.exceptions import TyperException
from typer.main import get_command

from gateway.cli.closed_standard_streams import discard_output, open_those_closed

_LOOKS: dict[str, Any] = {
    "no_args_is_help": True,
    "context_settings": {"help_option_names": ["-h", "--help"]},
    "rich_markup_mode": "markdown",
    "pretty_exceptions_enable": False,
    "pretty_exceptions_show_locals": False,
}
_INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""
Command: TypeAlias = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Deferred:
    """A command by the names of its module in `gateway.cli` and of its function: imported when needed."""

    module: str
    function: str

    def load(self) -> Command:
        """The function."""
        found: Command = getattr(importlib.import_module(f"gateway.cli.{self.module}"), self.function)
        return found


@dataclass(frozen=True, slots=True)
class Group:
    """The commands of one noun, by name, in the order of the help; or nouns below it, which are groups."""

    help: str
    commands: Mapping[str, Command | Deferred | Group]

    def narrowed(self, words: Sequence[str]) -> Group:
        """With the one command alone that `words` begin with; whole, where they begin with none."""
        found = self.commands.get(words[0]) if words else None
        if found is None:
            return self
        return Group(self.help, {words[0]: found.narrowed(words[1:]) if isinstance(found, Group) else found})


def program(name: str, group: Group) -> typer.Typer:
    """The program `name` with all its commands, and `--version`."""
    app = _mounted(group)
    _add_version(app, name)
    return app


def _mounted(group: Group) -> typer.Typer:
    app = typer.Typer(help=group.help, **_LOOKS)
    for name, command in group.commands.items():
        if isinstance(command, Group):
            app.add_typer(_mounted(command), name=name)
        else:
            app.command(name)(command.load() if isinstance(command, Deferred) else command)
    return app


def _add_version(app: typer.Typer, name: str) -> None:
    """Give the command `name` an option `--version`."""

    def show(wanted: bool) -> None:
        if wanted:
            from importlib.metadata import version

            print(f"{name} {version('mqtt-security-gateway')}")
            raise typer.Exit

    option = typer.Option("--version", help="Print the version.", is_eager=True, callback=show)

    def options(*, show_version: bool = False) -> None:
        pass

    options.__annotations__["show_version"] = Annotated[bool, option]
    app.callback()(options)


def run(app: typer.Typer) -> None:
    """Run the program and end the process. With --json wrong usage is printed as a JSON object, too."""
    open_those_closed()
    _show_flags_as_flags()
    try:
        code = _exit_code(app)
        sys.stdout.flush()
    except OSError as error:  # of standard output: commands explain their own
        discard_output()
        if not isinstance(error, BrokenPipeError):
            print(f"error: the answer can't be written: {error.strerror}", file=sys.stderr)
        code = 1
    sys.exit(code)


def _exit_code(app: typer.Typer) -> int:
    try:
        ended = get_command(app).main(standalone_mode=False)
    except TyperException as error:
        from typer.rich_utils import rich_format_error  # which takes as long to import as all of typer

        # pydantic puts these words before the message of any check.
        error.message = error.message.replace("Value error, ", "", 1)
        rich_format_error(error)  # type: ignore[arg-type]
        if "--json" in sys.argv:
            print(json.dumps({"error": error.format_message(), "problems": []}))
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    return ended if isinstance(ended, int) else 0


def _show_flags_as_flags() -> None:
    """A flag takes no value: no `<bool>` after it in the help, that of `--help` included."""
    shown = TyperOption.display_type_rich

    def display_type_rich(self: TyperOption, *args: Any, **named: Any) -> str | None:  # noqa: ANN401
        return None if self.is_flag else shown(self, *args, **named)

    TyperOption.display_type_rich = display_type_rich  # type: ignore[method-assign]
