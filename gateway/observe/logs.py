"""The log: one JSON line per event on stderr, or a short line of text, coloured on a terminal.

Owns the shape of a line, and what is masked in it; `gateway.observe.log_writer` writes it. Knows
nothing of MQTT: callers bind `device`, `address`, `client_id`, `reason` and the like.

Nothing secret gets out by accident: values whose name suggests a secret are masked, bytes are
never shown, objects appear by their `repr` (which our type for secrets masks), and user info in
URLs is cut out. Nothing a peer sends can break a line, forge one, or make one longer than a bound.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any, TextIO

import msgspec
import structlog

from gateway.observe.log_writer import LogWriter
from gateway.observe.terminal_escaping import printable

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""What LOG_LEVEL may say."""

MASK = "********"

VALUE_LENGTH = 1_024
"""Characters of one value in a line; a topic alone may have 65,535."""
_TRACEBACK_LENGTH = 16_384
"""Characters of a traceback."""
_ITEMS = 32
"""Items of a list or mapping in a line."""
_DEPTH = 4
"""Levels of lists and mappings within one another."""

_SECRET_NAME = re.compile(
    r"(?i:pass(word|wd|phrase)|secret|token|credential|authorization|private|(^|[_.\s-])keys?($|[_.\s-]))|Key"
)
_URL_USER = re.compile(r"(?<=://)[^/\s]*@")

_COLOUR = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}


def configure(level: str, stream: TextIO | None = None, *, form: str | None = None) -> None:
    """Send every log line of this process to `stream` (stderr), from `level` (a key of LEVELS) on.

    Without a `form` it is text on a terminal and JSON elsewhere. Other libraries log through `logging`; what
    they say from WARNING on joins the same lines.
    """
    global _sink  # noqa: PLW0603 - structlog is configured for the whole process, too
    sink = _sink = _Sink(sys.stderr if stream is None else stream, form)
    structlog.configure(
        processors=[
            structlog.processors.format_exc_info,
            _shape,
            sink.render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level.lower()]),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_OtherLibraries()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def dropped() -> int:
    """How many lines were dropped, for nobody read them in time, since the log was configured."""
    return 0 if _sink is None else _sink.dropped


def get_logger(**values: object) -> structlog.typing.FilteringBoundLogger:
    """A logger that has `values` in each of its lines."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger.bind(**values) if values else logger


def log_always(event: str, **values: object) -> None:
    """Write a line at the level `info`, whatever LOG_LEVEL says: for what has to leave the machine."""
    _unfiltered.info(event, **values)


class _Sink:
    """Where lines end. A reader that went away (EPIPE, closed stream) costs the line, never the gateway."""

    def __init__(self, stream: TextIO | None, form: str | None) -> None:
        # Python itself says None when the process started with file descriptor 2 closed.
        self._stream = stream
        is_terminal = stream is not None and not stream.closed and stream.isatty()
        self.render = _json
        if form == "text" or (is_terminal and not form):
            self.render = _on_terminal if is_terminal else _plain
        descriptor = _descriptor_of(stream)
        self._writer = None if descriptor is None else LogWriter(descriptor, self._dropped_line)

    @property
    def dropped(self) -> int:
        """Lines that found no room."""
        return 0 if self._writer is None else self._writer.dropped

    def _dropped_line(self, dropped: int) -> str:
        line = {"reason": "nobody read them in time", "dropped": dropped, "event": "log lines dropped"}
        return self.render(None, "warning", _shape(None, "warning", line)) + "\n"

    def msg(self, line: str) -> None:
        if self._writer is not None:
            self._writer.write(line + "\n")
        elif self._stream is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # There is nowhere left to say so: this is the place where everything is said.
                return

    debug = info = warning = error = critical = msg


_sink: _Sink | None = None
"""What this process logs to."""
_unfiltered: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
    None, wrapper_class=structlog.make_filtering_bound_logger(0)
)


def _descriptor_of(stream: TextIO | None) -> int | None:
    # A copy: if somebody closes the stream, its number is given to the next file opened, perhaps a database.
    try:
        return None if stream is None else os.dup(stream.fileno())
    except (OSError, ValueError):  # it is in memory, or closed
        return None


class _OtherLibraries(logging.Handler):
    """Lines of other libraries, in our shape."""

    def emit(self, record: logging.LogRecord) -> None:
        level = max(known for known in LEVELS.values() if known <= max(record.levelno, LEVELS["debug"]))
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # their format and their arguments do not fit
            message = str(record.msg)
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        get_logger().log(level, message, logger=record.name, exc_info=exc_info)


def _shape(_: object, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """The fixed fields first, then what the caller bound, each made safe."""
    line: dict[str, Any] = {
        "ts": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": method,
        "event": _text(str(event.pop("event", "")), VALUE_LENGTH),
    }
    for name, value in event.items():
        if name == "exception":
            line[name] = _text(str(value), _TRACEBACK_LENGTH)
        elif value is not None:
            line.setdefault(name, safe(name, value))
    return line


@lru_cache(maxsize=256)
def is_secret_name(name: str) -> bool:
    """Whether a value of this name is masked; `key_id` names a key and is not one."""
    if name == "key_id":
        return False
    return _SECRET_NAME.search(name) is not None


@lru_cache(maxsize=256, typed=True)
def _word(member: Enum) -> str:
    """What a member of an enum is called in a line."""
    return member.name.lower()


def safe(name: str, value: object) -> object:
    """A value as JSON can say it and a reader may see it: masked by its name, and bounded."""
    if (
        type(value) is str
        and len(value) <= VALUE_LENGTH
        and value.isascii()
        and "://" not in value
        and not is_secret_name(name)
    ):
        return value  # the shortcut for most values: an entry of the audit trail has seven such
    return _safe(name, value, _DEPTH)


def _safe(name: str, value: object, depth: int) -> object:
    """`value` as JSON can say it and a reader may see it."""
    if is_secret_name(name):
        return MASK
    match value:
        case Enum():
            return _word(value)
        case int() if not -(2**63) <= value < 2**63:
            return str(value)
        case bool() | int() | float() | None:
            return value
        case str():
            return _text(value, VALUE_LENGTH)
        case bytes() | bytearray() | memoryview():
            # A payload or a password: its length says enough.
            return f"<{len(value)} bytes>"
        case BaseException() | os.PathLike():
            return _text(str(value), VALUE_LENGTH)
        case Mapping() | list() | tuple() | set() | frozenset() if not depth:
            # Its repr would show values that are masked by the names they have within it.
            return "..."
        case Mapping():
            return {
                _text(str(key), VALUE_LENGTH): _safe(str(key), item, depth - 1)
                for key, item in list(value.items())[:_ITEMS]
            }
        case list() | tuple() | set() | frozenset():
            return [_safe("", item, depth - 1) for item in list(value)[:_ITEMS]]
        case _:
            return _text(repr(value), VALUE_LENGTH)


def _text(text: str, length: int) -> str:
    if "://" in text:
        text = _URL_USER.sub(f"{MASK}@", text)
    if not text.isascii():
        # Half a surrogate pair can't be encoded.
        text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > length:
        return f"{text[:length]}... ({len(text)} characters)"
    return text


def _json(_: object, __: str, line: Mapping[str, object]) -> str:
    # What JSON leaves as it is (DEL, C1, U+2028, overrides) can only stand inside its strings,
    # where \uXXXX says the same character.
    return printable(msgspec.json.encode(line).decode())


def _plain(_: object, __: str, line: Mapping[str, Any]) -> str:
    return _text_line(line, line["ts"], f"{line['level']:<8}")


def _on_terminal(_: object, __: str, line: Mapping[str, Any]) -> str:
    level = line["level"]
    time_of_day = line["ts"][11:23]
    level_column = f"{level:<8}"
    if not os.environ.get("NO_COLOR"):
        time_of_day = f"\x1b[2m{time_of_day}\x1b[0m"
        level_column = f"\x1b[{_COLOUR[level]}m{level_column}\x1b[0m"
    return _text_line(line, time_of_day, level_column)


def _text_line(line: Mapping[str, Any], time: str, level_column: str) -> str:
    values = " ".join(
        f"{printable(name)}={_console_value(value)}"
        for name, value in line.items()
        if name not in ("ts", "level", "event", "exception")
    )
    text = f"{time} {level_column} {printable(line['event'])}" + (f"  {values}" if values else "")
    if "exception" in line:
        trace = [printable(part) for part in line["exception"].split("\n")]
        text = "\n    ".join([text, *trace])
    return text


def _console_value(value: object) -> str:
    if isinstance(value, str) and value and not re.search(r"[\s\"=]", value):
        return printable(value)
    return printable(_json({}, "", {"": value})[4:-1])
