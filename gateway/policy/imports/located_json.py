"""A JSON text as objects that know their lines, and a list of what is wrong with them.

Keys are case-insensitive, as in cJSON, Mosquitto's JSON parser. Knows nothing of what they mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from gateway.policy.files.toml_document import PolicyError

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\n]', re.DOTALL)
"""What is needed to find the lines of objects: strings (to skip them), braces, ends of lines."""


class Located:
    """One JSON object: its values, and where it begins.

    If a value has a different type than asked for, that is added to the list of problems.
    """

    def __init__(self, values: dict[str, object], location: str, problems: list[str]) -> None:
        self._values = values
        self._problems = problems
        self.location = location
        """Where the object begins, as `file:line`."""

    @property
    def values(self) -> Mapping[str, object]:
        """All values, with their keys in lower case."""
        return self._values

    def problem(self, text: str) -> None:
        """Add a problem of this object."""
        self._problems.append(f"{self.location}: {text}")

    def unknown(self, *known: str) -> list[str]:
        """The keys that are not among these."""
        return [key for key in self._values if key not in {name.lower() for name in known}]

    def has(self, key: str) -> bool:
        """Whether there is such a key."""
        return key.lower() in self._values

    def text(self, key: str, default: str | None = None) -> str:
        """A string; without a default it has to be present and not empty."""
        value = self._values.get(key.lower(), default)
        if isinstance(value, str) and (value or default is not None):
            return value
        self.problem(f'"{key}" has to be a string')
        return ""

    def number(self, key: str, default: int) -> int:
        """A whole number."""
        value = self._values.get(key.lower(), default)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self.problem(f'"{key}" has to be a whole number')
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._values.get(key.lower(), default)
        if isinstance(value, bool):
            return value
        self.problem(f'"{key}" has to be true or false')
        return default

    def object(self, key: str) -> Located | None:
        """An object; None if it is absent."""
        value = self._values.get(key.lower())
        if value is None or isinstance(value, Located):
            return value
        self.problem(f'"{key}" has to be an object')
        return None

    def objects(self, key: str) -> list[Located]:
        """A list of objects; empty if it is absent."""
        value = self._values.get(key.lower(), [])
        if isinstance(value, list) and all(isinstance(one, Located) for one in value):
            return value
        self.problem(f'"{key}" has to be a list of objects')
        return []


def parse(raw: bytes, file: str, problems: list[str]) -> Located:
    """The object that the text consists of. Raises PolicyError if it is not a JSON object."""
    lines: Iterator[int] = iter(())

    def located(pairs: list[tuple[str, object]]) -> Located:
        values = {key.lower(): value for key, value in pairs}
        found = Located(values, f"{file}:{next(lines)}", problems)
        if len(values) != len(pairs):
            found.problem("a key is there twice; which one counts is not certain: remove one")
        return found

    try:
        text = raw.decode("utf-8-sig")
        lines = _lines(text)
        whole = json.loads(text, object_pairs_hook=located)
    except UnicodeDecodeError:
        raise PolicyError([f"{file}: it is not UTF-8"]) from None
    except json.JSONDecodeError as error:
        raise PolicyError([f"{file}:{error.lineno}: it is not valid JSON: {error.msg}"]) from None
    except (RecursionError, ValueError):
        raise PolicyError([f"{file}: it nests too deeply, or has a number that is too long"]) from None
    if not isinstance(whole, Located):
        raise PolicyError([f"{file}:1: it has to be one object"])
    return whole


def _lines(text: str) -> Iterator[int]:
    """The line at which each object begins, in the order of `object_pairs_hook`: as they end."""
    line = 1
    begun: list[int] = []
    for match in _TOKEN.finditer(text):
        if match[0] == "{":
            begun.append(line)
        elif match[0] == "}" and begun:
            yield begun.pop()
        else:
            line += match[0].count("\n")
