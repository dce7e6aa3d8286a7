"""Groups, which are named lists of filters: `acl/topics.toml`. Rules use them as `@name`.

Owns the file, and the replacement of a name by its filters. A group lists filters, which may have
placeholders, but no other groups. An unknown name in a rule is a problem: as a topic it would match nothing
that is meant.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.policy.engine.placeholders import rule_topic_fault
from gateway.policy.engine.rules import is_group, names_group
from gateway.policy.files.toml_document import Block, read

Groups = Mapping[str, tuple[str, ...]]
"""The filters of each group by its name, without the `@`."""

_NO_NAME = (
    "is no name of a group: a small letter, then small letters, digits, _ and -, 32 at most, as in "
    'name = "climate"'
)
_NESTED = "a group lists filters, not groups; write out what you mean"


def read_groups(path: Path, problems: list[str]) -> Groups:
    """The groups in the folder `path` that can be read; what is wrong with others is added to `problems`."""
    file = path / "topics.toml"
    if not os.path.lexists(file):  # Path.exists raises where the folder may not be searched
        return {}
    block = read(file, problems, missing="restore it or remove the link")
    if block is None:
        return {}
    block.only("group")
    if "group" not in block.values:
        block.problem("it has no group; write a [[group]], or remove the file")
    found: dict[str, tuple[str, ...]] = {}
    for inner in block.blocks("group"):
        inner.only("name", "topics")
        name = inner.text("name")
        if name and not is_group(f"@{name}"):
            inner.problem(f'"{name}" {_NO_NAME}', key="name")
        if name in found:
            inner.problem(f'there is a group "{name}" already; rename one of them', key="name")
        found[name] = tuple(_filters(inner))
    return found


def _filters(block: Block) -> Iterator[str]:
    for topic, line in block.strings("topics"):
        fault = rule_topic_fault(topic)
        if names_group(topic):
            block.problem(f'"{topic}": {_NESTED}', line=line)
        elif fault:
            block.problem(f'the topic "{topic}" {fault}', line=line)
        else:
            yield topic


def written_out(topic: str, line: int, block: Block, groups: Groups) -> Iterator[str]:
    """The filters of the group that `topic` names, or `topic` itself if it names none.

    An unknown group is added to the problems of `block`.
    """
    if not names_group(topic):
        yield topic
    elif topic[1:] in groups:
        yield from groups[topic[1:]]
    else:
        known = ", ".join(f"@{name}" for name in sorted(groups)) or "none"
        block.problem(
            f'there is no group "{topic}" in topics.toml (there: {known}); correct it, or write it there',
            line=line,
        )
