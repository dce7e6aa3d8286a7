"""Counts that the gateway keeps by the minutes of the clock, asked for within one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_Answer = TypeVar("_Answer")


def in_one_minute(attempt: Callable[[int], _Answer]) -> _Answer:
    """What `attempt(number)` answers, made again with the next number when a minute ended in it.

    Wrong logins of the minute before count for less and less: one more may pass as soon as it is over.
    """
    number = 0
    while True:
        minute = time.time() // 60
        answer = attempt(number)
        if time.time() // 60 == minute:
            return answer
        number += 1
