"""`--json` and `--config FILE` before the noun or the verb: where people put what holds for all commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.cli.typer_app import Command, Group

_WORDS = {"--json": 1, "--config": 2}
"""Options of each command, and how many words they are."""


def after_the_verb(words: Sequence[str], find: Callable[[str], Command | Group | None]) -> list[str]:
    """The arguments with those options behind the command that they belong to; `find` gives it by its name.

    The rest stays in its order. A command that has no such option says so itself.
    """
    rest, path, leading = list(words), list[str](), list[str]()
    while rest:
        name, with_value, _ = rest[0].partition("=")
        if name in _WORDS:
            count = 1 if with_value else _WORDS[name]
            leading += rest[:count]
            del rest[:count]
            continue
        found = find(rest[0])
        path.append(rest.pop(0))
        if not isinstance(found, Group):
            break
        find = found.commands.get
    return [*path, *leading, *rest]
