"""The plan of the house: no circles, the field's words, and no text that names what is not there."""

from __future__ import annotations

import ast
import builtins
import functools
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "gateway").rglob("*.py"))
REPLACED = {
    "arrivals": "handshakes",
    "bearers": "bearer cache",
    "beat": "event loop delay, or tick",
    "behind": "after; end of",
    "bootstrap": "startup preparation",
    "bridge": "device connection",
    "census": "count connections",
    "company": "second client",
    "deliver": "downstream",
    "desk": "request handler",
    "door": "connection registry",
    "evidence": "usage summary",
    "example": "remembered header",
    "farewell": "disconnect device",
    "forward": "upstream",
    "fruitless": "bounded tls, unproductive",
    "hands": "handshake",
    "heap": "malloc",
    "inflight": "acknowledgement order",
    "instance": "representative case",
    "instances": "representative cases",
    "introduction": "startup banner",
    "judge": "authorizer",
    "judged": "decided",
    "lies": "is readable",
    "link": "device side, bus side",
    "meanings": "resolved topics",
    "naming": "placeholder inference",
    "observation": "usage record",
    "observations": "usage",
    "office": "token issuer",
    "principal": "rights holder",
    "principals": "rights holders",
    "provision": "startup preparation",
    "pulse": "last row ids",
    "pump": "relay",
    "reauthorization": "access changes",
    "rewrap": "reseal",
    "route": "cached verdict",
    "routes": "verdict cache",
    "secured": "tls",
    "senseless": "usage error",
    "settle": "terms, count up",
    "settled": "terms, unordered rights",
    "shapes": "messages",
    "shared": "context",
    "statement": "assertion",
    "statements": "assertions",
    "step": "access line, slice",
    "steps": "access list",
    "tell": "report, log",
    "telling": "reporting, logging",
    "tells": "reports, logs",
    "ticket": "waiter, hash request",
    "told": "reported, logged",
    "trust": "peer is authenticated",
    "upkeep": "background tasks, follower, saver",
    "welcome": "handle peer",
    "wish": "token request",
    "witness": "representative case",
    "witnesses": "representative cases",
}
"""A word, and what is said instead (ARCHITECTURE.md, Glossary)."""
TEXTS = [*SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "pyproject.toml"]


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


LINES_MAX, FUNCTION_MAX = 400, 60
LONG = {"Relay._run": "a call would cost as much as a packet"}
"""Functions over the bound, and why."""


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def functions(node: ast.AST, within: str = "") -> Iterator[tuple[str, int]]:
    """The qualified name of each function, and how many lines it has."""
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{within}.{part.name}" if within else part.name
            if not isinstance(part, ast.ClassDef):
                yield name, (part.end_lineno or 0) - part.lineno + 1
            yield from functions(part, name)


def test_files_and_functions_are_short():
    lines = {path: path.read_text("utf-8").count("\n") for path in SOURCES}
    assert {path: size for path, size in lines.items() if size > LINES_MAX} == {}
    long = {
        (path, name): size
        for path in SOURCES
        for name, size in functions(tree(path))
        if size > FUNCTION_MAX and name not in LONG
    }
    assert long == {}


def words(name: str) -> set[str]:
    """`_TokenOffice` is token and office; `find_route` find and route."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")
    return {part for part in parts if part}


LEVELS = {"debug", "info", "warning", "error", "critical"}
PUBLIC = {"keys_rewrap_retained_messages", "rewrap"}
"""The command is called so, and was before."""


def defined(path: Path) -> Iterator[str]:
    """The names that a module gives: its own, those of classes, functions and fields of log lines."""
    if "versions" not in path.parts:  # a migration that was released stays as it was
        yield path.stem
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            yield from (keyword.arg or "" for keyword in node.keywords)


def test_nothing_is_called_by_a_word_that_was_replaced():
    wrong = {
        (path, name): REPLACED[word]
        for path in SOURCES
        for name in set(defined(path)) - (PUBLIC if path.stem in PUBLIC else set())
        for word in words(name) & REPLACED.keys()
    }
    assert wrong == {}


BOUND_MISNAMED = re.compile(r"_?(?:MAX|MIN)_.*|.*_(?:MOST|LEAST)")


def constants(path: Path) -> Iterator[str]:
    """The names in capitals that a module or one of its classes gives."""
    for node in ast.walk(tree(path)):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets if isinstance(node, ast.Assign | ast.AnnAssign) else ():
            yield from (one.id for one in ast.walk(target) if isinstance(one, ast.Name) and one.id.isupper())


def test_the_name_of_a_bound_ends_in_max_or_min():
    found = {(path, name) for path in SOURCES for name in constants(path) if BOUND_MISNAMED.fullmatch(name)}
    assert found == set()


WORN_OUT = {
    r"judg(e|es|ed|ing)": "decide, refuse, check",
    r"turns? of (the )?(event )?loop": "iteration",
    r"fruitless": "unproductive",
}
"""What no docstring and no comment says any more, and what is said instead."""


def test_no_text_says_a_word_that_was_replaced():
    texts = {path: prose(path) for path in SOURCES}
    found = {
        (path, instead)
        for path, text in texts.items()
        for words, instead in WORN_OUT.items()
        if re.search(rf"\b{words}\b", text, re.IGNORECASE)
    }
    assert found == set()


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


FILES = {"gateway.toml", "gateway.db", "gateway.example", "gateway.conf", "gateway.lock", "gateway.running"}


def docstrings(tree: ast.AST) -> set[tuple[int, int]]:
    """Where they begin, those of names included: strings that stand for themselves."""
    bodies = [node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list)]
    return {
        (one.lineno, one.col_offset)
        for body in bodies
        for one in body
        if isinstance(one, ast.Expr)
        and isinstance(one.value, ast.Constant)
        and isinstance(one.value.value, str)
    }


@functools.cache
def split(path: Path) -> tuple[str, str]:
    """What people read of a file, of a program its docstrings and comments; and the rest of it."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return (text, "" if path.suffix == ".md" else text)
    read = docstrings(tree(path))
    prose, code = [], []
    for one in tokenize.generate_tokens(io.StringIO(text).readline):
        is_read = one.type == tokenize.COMMENT or one.start in read
        (prose if is_read else code).append(one.string)
    return "\n".join(prose), "\n".join(code)


def prose(path: Path) -> str:
    return split(path)[0]


def test_every_module_that_a_text_names_is_there():
    missing = {
        (path, name)
        for path in TEXTS
        for name in {
            *MENTIONED.findall(prose(path)),
            *(f"gateway.{name}" for name in SHORT.findall(prose(path))),
        }
        if ".".join(name.split(".")[:2]) not in FILES and not exists(name)
    }
    assert missing == set()


TICKED = re.compile(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(\))?`")
WORD = re.compile(r"[A-Za-z_]\w*")
KINDS = (
    "gateway/**/*.py",
    "tests/**/*.py",
    "bench/**/*.py",
    "docs/*.py",
    "acl/**/*.toml",
    "deploy/*",
    "*.toml",
)
METRIC = re.compile(r"gateway_(\w+?)(?:_total)?")
FOREIGN = {
    "disruption_marker",  # a field of Linux's struct vmclock_abi
    "uv",  # which locks the dependencies
    "tasmota32",  # of Tasmota, as the next three
    "MqttFingerprint",
    "USE_MQTT_TLS",
    "USE_MQTT_TLS_CA_CERT",
    "use_username_as_clientid",  # of mosquitto.conf
    "x_file",
    "X_FILE",
    "x_y",
    "X_Y",
}
"""Names of others, and forms of names."""


@functools.cache
def code() -> dict[Path, str]:
    """All that may give a name, with its text."""
    return {path: path.read_text("utf-8") for kind in KINDS for path in ROOT.glob(kind) if path.is_file()}


@functools.cache
def words_of(path: Path) -> frozenset[str]:
    return frozenset(WORD.findall(split(path)[1]))


@functools.cache
def named_otherwise() -> set[str]:
    """Names that stand in no code: of Python's own modules and functions, of files and folders, of others."""
    files = {part for path in code() for part in (path.stem, *path.relative_to(ROOT).parts)}
    return files | FOREIGN | set(sys.stdlib_module_names) | set(dir(builtins))


@functools.cache
def is_name(word: str) -> bool:
    """Whether it is a word of any code: a name that a text has from there is among them.

    A file is taken apart, which takes long, only if the word is somewhere in it.
    """
    return word in named_otherwise() or any(
        word in text and word in words_of(path) for path, text in code().items()
    )


def test_every_name_in_a_text_is_a_name_in_the_code():
    missing = {
        (path, name)
        for path in TEXTS
        for name in TICKED.findall(prose(path))
        for word in WORD.findall(name)
        if not is_name(word)
        and not is_name(word.lower())  # a setting
        and not word.startswith("TLS_")
        and not ((metric := METRIC.fullmatch(word)) and is_name(metric[1]))
    }
    assert missing == set()


def test_no_command_of_a_guide_puts_a_password_where_ps_shows_it():
    guides = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*")]
    shown = re.compile(r"mosquitto_passwd .*-b\b")
    found = {
        path.name: line
        for path in guides
        if path.is_file()
        for line in path.read_text(errors="replace").splitlines()
        if shown.search(line)
    }
    assert found == {}
