"""Strings for a TOML file."""

from __future__ import annotations

import re

_ESCAPED = re.compile(
    '["\\\\\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]'
)


def quoted(text: str) -> str:
    """The text as a TOML basic string. Characters that could move a cursor or fake a line are escaped."""
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    found = match[0]
    return f"\\{found}" if found in '"\\' else f"\\u{ord(found):04x}"
