"""`--json` and `--config FILE` before the noun or the verb, where people put what all commands have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.cli.typer_app import Command, Group

_WORDS = {"--json": 1, "--config": 2}
"""Options that commands have, and how many words each is."""


def after_the_verb(words: Sequence[str], find: Callable[[str], Command | Group | None]) -> list[str]:
    """The arguments with those options moved after the command; `find` gives a command by its name.

    The rest keeps its order. A command that has no such option says so itself.
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
