"""What the gateway has to save and can't: logged once, again when that changes, and always shown by health.

Owns no data: whoever saves says how it went. A disk may be full for days, and what tries every second must
not log a line every second. Each thing that is saved by itself is called a part.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from gateway.observe.logs import get_logger
from gateway.system.aligned_timers import until_next_multiple_of

_CALM_SECONDS = 10.0
"""Between two log lines about one part: what changes faster is logged when these are over."""
_LOOK_SECONDS = 1.0

_log = get_logger()


@dataclass(slots=True)
class _Part:
    """How saving one thing goes."""

    reason: str = ""
    """Why it does not save; empty while it does."""
    logged: str = ""
    """The reason that was logged last; empty if it was that all is saved again."""
    logged_at: float = float("-inf")


class Saves:
    """The parts of a gateway that save, by name."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, failures: Counter[str] | None = None
    ) -> None:
        """`failures` counts failed saves, by part; it is a metric."""
        self._clock = clock
        self._failures: Counter[str] = Counter() if failures is None else failures
        self._parts: dict[str, _Part] = {}

    def expect(self, part: str) -> None:
        """`part` is going to save. Its failures are counted from 0 on: the first one is an increase."""
        self._failures[part] += 0

    def failed(self, part: str, error: Exception | str) -> None:
        """`part` was not saved; it is tried again. The error says where that is and what to do."""
        one = self._parts.setdefault(part, _Part())
        one.reason = str(error)
        self._failures[part] += 1
        self._log_change(part, one)

    def done(self, part: str) -> None:
        """`part` is saved."""
        one = self._parts.get(part)
        if one is not None:
            one.reason = ""
            self._log_change(part, one)

    async def run(self) -> None:
        """Log the state of parts that changed too fast to be logged each time, for ever."""
        while True:
            await until_next_multiple_of(_LOOK_SECONDS)
            for name, part in self._parts.items():
                self._log_change(name, part)

    def _log_change(self, name: str, part: _Part) -> None:
        if part.reason == part.logged or self._clock() - part.logged_at < _CALM_SECONDS:
            return
        part.logged, part.logged_at = part.reason, self._clock()
        if part.reason:
            _log.error("not saved", part=name, reason=f"{part.reason}; it is tried again")
        else:
            _log.info("saved again", part=name)

    def check(self) -> tuple[bool, str]:
        """Whether all is saved, and which parts are not and why."""
        faults: dict[str, list[str]] = {}
        for name, part in self._parts.items():
            if part.reason:
                faults.setdefault(part.reason, []).append(name)
        if not faults:
            return True, "all is saved"
        return False, "; ".join(f"{', '.join(names)}: {reason}" for reason, names in faults.items())
