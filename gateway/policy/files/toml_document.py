"""A TOML file as blocks that know their lines, and a list of everything that is wrong with them.

Owns reading a file and checking its form: which keys, which types, on which line. What the values mean is for
the readers of the files in `acl/`, and of monitoring.toml. `tomllib` gives values but not their lines, so a
small scanner finds the lines in text that tomllib has accepted.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.system.file_errors import why

_PIECE = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\n\[\]{}=,]"
    r"|[^\n\[\]{}=,\"'\#]+",
    re.DOTALL,
)
_LINE_IN_ERROR = re.compile(r"\(at line (\d+), ")
_BYTES_MAX = 4_194_304
"""Longest file that is read, in bytes: room for about 50,000 rules."""


class PolicyError(Exception):
    """Files, mostly of `acl/`, can't be used. `problems` has each reason as `file:line: what is wrong`."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(slots=True)
class _Lines:
    """The lines of a block, from 1."""

    line: int = 1
    """Where the block begins."""
    keys: dict[str, int] = field(default_factory=dict)
    """The line of each key."""
    items: dict[str, list[int]] = field(default_factory=dict)
    """By key of a list, the lines of its strings."""


@dataclass(slots=True)
class Block:
    """A table of a file, or the whole file: its values and their lines."""

    values: dict[str, object]
    file: str
    """Path of the file."""
    problems: list[str]
    """Problems of this block are added here; the list is shared with other blocks and files."""
    lines: _Lines
    _inner: dict[str, list[_Lines]] = field(default_factory=dict)
    """The lines of the blocks inside, by their name. Only the whole file has them."""

    @property
    def line(self) -> int:
        """The line at which the block begins, from 1."""
        return self.lines.line

    def beside(self, name: str) -> Path:
        """The file of this name in the same folder."""
        return Path(self.file).parent / name

    def problem(self, text: str, *, key: str = "", line: int | None = None) -> None:
        """Add a problem: at `line`, else at the line of `key`, else at the beginning of the block."""
        where = line if line is not None else self.lines.keys.get(key, self.line)
        self.problems.append(f"{self.file}:{where}: {text}")

    def only(self, *known: str) -> None:
        """Report every key that is not among `known`: a misspelt key must not pass for an absent one."""
        for key in self.values:
            if key not in known:
                self.problem(f'unknown key "{key}"; known here: {", ".join(known)}', key=key)

    def blocks(self, name: str) -> list[Block]:
        """The tables written as `[[name]]`."""
        found = self.values.get(name, [])
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            self.problem(f'"{name}" is written as a block of its own: [[{name}]]', key=name)
            return []
        locations = self._inner.get(name, [])
        if len(locations) != len(found):  # written inline, as allow = [{…}]
            locations = [_Lines(self.lines.keys.get(name, self.line))] * len(found)
        return [
            Block(values, self.file, self.problems, location)
            for values, location in zip(found, locations, strict=True)
        ]

    def table(self, name: str) -> Block | None:
        """The table written as `[name]`; None when it is absent, or not a table, which is a problem."""
        found = self.values.get(name)
        if found is None:
            return None
        if not isinstance(found, dict):
            self.problem(f'"{name}" is written as a block of its own: [{name}]', key=name)
            return None
        location = next(iter(self._inner.get(name, [])), _Lines(self.lines.keys.get(name, self.line)))
        return Block(found, self.file, self.problems, location)

    def location(self, key: str) -> str:
        """The location of a key: `file:line`."""
        return f"{self.file}:{self.lines.keys.get(key, self.line)}"

    def text(self, key: str, default: str | None = None) -> str:
        """A string; `default` if it is absent. A wrong type, or no value and no default, is a problem."""
        value = self.values.get(key, default)
        if isinstance(value, str):
            return value
        self.problem(f'"{key}" is missing' if value is None else f'"{key}" has to be a string', key=key)
        return ""

    def strings(self, key: str) -> Iterator[tuple[str, int]]:
        """The strings of a list, each with its line. A missing or empty list is a problem."""
        value = self.values.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
            self.problem(f'"{key}" has to be a list of one or more strings: {key} = ["…"]', key=key)
            return
        locations = self.lines.items.get(key, [])
        if len(locations) != len(value):
            locations = [self.lines.keys.get(key, self.line)] * len(value)
        yield from zip(value, locations, strict=True)

    def number(self, key: str, default: int, *, least: int, most: int | None = None) -> int:
        """An integer from `least` to `most`; `default` if it is absent. Anything else is a problem."""
        value = self.values.get(key, default)
        # bool is an int to Python.
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
        if number is not None and least <= number and (most is None or number <= most):
            return number
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
        self.problem(f'"{key}" has to be a whole number, {bounds}', key=key)
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        """A boolean; `default` if it is absent. Anything else is a problem."""
        value = self.values.get(key, default)
        if isinstance(value, bool):
            return value
        self.problem(f'"{key}" has to be true or false', key=key)
        return default


def read(path: Path, problems: list[str], *, missing: str) -> Block | None:
    """The whole file as a block; None if it can't be read, and then the reason is added to `problems`.

    `missing` says, in such a reason, what to do if there is no such file.
    """
    file = str(path)
    try:
        raw = _content(path)
    except FileNotFoundError:
        problems.append(f"{file}: there is no such file; {missing}")
        return None
    except OSError as error:
        problems.append(f"{file}: it can't be read ({why(path, error)}); make it readable for the gateway")
        return None
    if raw is None:
        problems.append(
            f"{file}: it is no ordinary file of at most {_BYTES_MAX:,} bytes; replace or remove it"
        )
        return None
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
        values = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problems.append(f"{file}:{line}: it is not UTF-8; save it as UTF-8")
    except tomllib.TOMLDecodeError as error:
        found = _LINE_IN_ERROR.search(str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        problems.append(f"{file}:{line}: it is not valid TOML: {_LINE_IN_ERROR.split(str(error))[0].strip()}")
    except ValueError:  # int() refuses more than 4,300 digits, which TOML allows
        problems.append(f"{file}:1: it has a number that is too long; no setting needs more than 19 digits")
    except RecursionError:
        problems.append(f"{file}:1: it nests too deeply; rules need no nesting")
    else:
        inner = _scan(text)
        return Block(values, file, problems, inner.pop("")[0], inner)
    return None


def _content(path: Path) -> bytes | None:
    """The bytes of the file; None if it is not a regular file, or too long. Raises OSError.

    A pipe to which nobody writes would block the reader for ever, and with it every later change of the
    policy; a device or a huge file would fill the memory.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        raw = file.read(_BYTES_MAX + 1)
    return raw if len(raw) <= _BYTES_MAX else None


def _scan(text: str) -> dict[str, list[_Lines]]:
    """The lines of every block of a valid TOML text, by the name in its header; "" for the whole file."""
    current = _Lines()
    found = {"": [current]}
    line, depth = 1, 0
    words: list[str] = []  # of the statement, up to its `=`
    key: str | None = None
    for match in _PIECE.finditer(text + "\n"):
        piece = match[0]
        if piece == "\n" and depth == 0:
            if words and key is None:
                current = _header(words, line, found)
            words, key = [], None
        elif piece[0] == "#":
            pass
        elif key is None:
            if piece == "=":
                key = "".join(words)
                current.keys[key] = line
                current.items[key] = []
            elif piece.strip():
                words.append(piece.strip().strip("\"'"))
        elif piece in "[{":
            depth += 1
        elif piece in "]}":
            depth -= 1
        elif piece[0] in "\"'" and depth == 1:
            current.items[key].append(line)
        line += piece.count("\n")
    return found


def _header(words: list[str], line: int, found: dict[str, list[_Lines]]) -> _Lines:
    name = "".join(words).strip("[]")
    block = _Lines(line)
    found.setdefault(name, []).append(block)
    return block
