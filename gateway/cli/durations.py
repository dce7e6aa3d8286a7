"""Times that are given on the command line, such as `90s`, `15m`, `24h`, `14d`."""

from __future__ import annotations

from gateway.cli.output import wrong_usage


def seconds_of(option: str, text: str, *, such_as: str = "24h", least: int = 1) -> int:
    """The seconds that `text`, the value of `option`, means; `least` or more. Raises Failure."""
    from pydantic import TypeAdapter

    from gateway.config.settings import Seconds

    try:
        seconds = int(TypeAdapter(Seconds).validate_python(text)) if text.isascii() else -1
    except ValueError:
        seconds = -1
    if seconds < least:
        raise wrong_usage(f"{option} {text!r} is not a time: a number and s, m, h or d, such as {such_as}")
    return seconds
