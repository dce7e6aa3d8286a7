"""The guides in docs/: their blocks of code, and the commands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = sorted(path.name for path in DOCS.glob("*.md"))


def blocks(guide: str, language: str) -> list[str]:
    """Its blocks of code in this language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / guide).read_text("utf-8"), re.DOTALL)


def commands(guide: str, language: str = "sh") -> Iterator[str]:
    """The commands of its shell blocks, without what is a setting and no command."""
    for block in blocks(guide, language):
        for line in block.replace("\\\n", "").strip().splitlines():
            if not re.match(r"[A-Z_]+=\S*$", line):
                yield line
