"""`--json` and `--config FILE` before the noun or the verb, where people put what all commands have."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.cli.typer_app import Group

_WORDS = {"--json": 1, "--config": 2}
"""Options that commands have, and how many words each is."""


def after_the_verb(words: Sequence[str], program: Group) -> list[str]:
    """The arguments with those options moved after the command of `program`.

    The rest keeps its order. A command that has no such option says so itself.
    """
    rest, path, leading, group = list(words), list[str](), list[str](), program
    while rest:
        name, with_value, _ = rest[0].partition("=")
        if name in _WORDS:
            count = 1 if with_value else _WORDS[name]
            leading += rest[:count]
            del rest[:count]
            continue
        found = group.commands.get(rest[0])
        path.append(rest.pop(0))
        if not isinstance(found, Group):
            break
        group = found
    return [*path, *leading, *rest]
