"""The plan of the house: no circles, the field's words, and no text that names what is not there."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "gateway").rglob("*.py"))
REPLACED = {
    "arrivals": "handshakes",
    "bearers": "bearer cache",
    "bridge": "device connection",
    "deliver": "downstream",
    "desk": "request handler",
    "door": "connection registry",
    "forward": "upstream",
    "heap": "malloc",
    "inflight": "acknowledgement order",
    "instance": "witness",
    "instances": "witnesses",
    "introduction": "startup banner",
    "judge": "authorizer",
    "link": "device side, bus side",
    "naming": "placeholder inference",
    "office": "token issuer",
    "provision": "bootstrap",
    "pump": "relay",
    "route": "cached verdict",
    "routes": "verdict cache",
    "shapes": "messages",
    "shared": "context",
    "statement": "assertion",
    "statements": "assertions",
    "upkeep": "background tasks, follower, saver",
}
"""A word, and what is said instead (ARCHITECTURE.md, Glossary)."""
TEXTS = [*SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "pyproject.toml"]


def circles(graph: grimp.ImportGraph) -> Iterator[list[str]]:
    """Groups of modules that import one another, round and round."""
    for module in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            chain = graph.find_shortest_chain(imported, module)
            if chain is not None and module <= imported:
                yield [module, *chain]


def test_no_modules_import_one_another_not_even_for_their_types():
    graph = grimp.build_graph("gateway", exclude_type_checking_imports=False, cache_dir=None)
    assert list(circles(graph)) == []


def words(name: str) -> set[str]:
    """`_TokenOffice` is token and office; `find_route` find and route."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")
    return {part for part in parts if part}


def defined(path: Path) -> Iterator[str]:
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_called_by_a_word_that_was_replaced(path):
    wrong = {name: REPLACED[word] for name in defined(path) for word in words(name) & REPLACED.keys()}
    assert wrong == {}


MENTIONED = re.compile(r"\bgateway(?:\.[a-z_]+)+(?:\.[A-Z]\w*)?")
ROOMS = sorted(path.name for path in (ROOT / "gateway").iterdir() if (path / "__init__.py").exists())
SHORT = re.compile(rf"`((?:{'|'.join(ROOMS)})\.[a-z_.]+(?:[A-Z]\w*)?)`")


def exists(name: str) -> bool:
    """Whether this is a module of ours, or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        if path.with_suffix(".py").exists():
            return end == len(parts) or parts[end] in path.with_suffix(".py").read_text("utf-8")
        if (path / "__init__.py").exists():
            return end == len(parts) or parts[end] in (path / "__init__.py").read_text("utf-8")
    return False


FILES = {"gateway.toml", "gateway.db", "gateway.example", "gateway.lock", "gateway.running"}


def prose(path: Path) -> str:
    """What people read: of a program its docstrings and comments."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join(one.string for one in tokens if one.type in {tokenize.COMMENT, tokenize.STRING})


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_that_a_text_names_is_there(path):
    text = prose(path)
    named = {*MENTIONED.findall(text), *(f"gateway.{name}" for name in SHORT.findall(text))}
    missing = {name for name in named if ".".join(name.split(".")[:2]) not in FILES and not exists(name)}
    assert missing == set()
