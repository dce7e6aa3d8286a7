"""Why an administrator does not get what was asked for."""

from __future__ import annotations

from collections.abc import Sequence


class Refused(Exception):
    """It can't be done, or may not. The text says why and what to do; nothing was changed."""

    def __init__(self, message: str, problems: Sequence[str] = (), *, usage_error: bool = False) -> None:
        """`usage_error`: what was asked for makes no sense, whatever the state of the gateway."""
        super().__init__(message)
        self.problems = list(problems)
        self.usage_error = usage_error
