"""Text from outside made safe to show: one line stays one line, and a terminal stays a terminal.

Owns which characters are escaped. Topics and client ids may hold anything the standard allows, so a
line feed in one could forge a log line, an escape sequence rewrite a terminal (CWE-117, CWE-150),
and a bidirectional override show a reader a different text than the machine saw.
"""

from __future__ import annotations

import re

# C0, DEL, C1 (0x9b alone is a CSI), line and paragraph separators, directional marks and overrides,
# the byte order mark, and halves of surrogate pairs, which UTF-8 can't carry. All below U+10000,
# so that \uXXXX spells every one of them, in JSON too.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""`text` with every unsafe character written as `\uXXXX`."""
    if text.isprintable():  # as most is: none of those is, and to ask takes a tenth of the search for them
        return text
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
