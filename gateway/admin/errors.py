"""Why an administrator does not get what was asked for."""

from __future__ import annotations

from collections.abc import Sequence


class Refused(Exception):
    """It can't be done, or may not. The text says why and what to do; nothing was changed."""

    def __init__(self, message: str, problems: Sequence[str] = (), *, senseless: bool = False) -> None:
        """`senseless`: nobody can mean what was asked for, whatever the state of things."""
        super().__init__(message)
        self.problems = list(problems)
        self.senseless = senseless
