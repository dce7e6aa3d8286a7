"""What the gateway has to save and can't: logged once, again when it changes, and always in health.

Owns no data: whoever saves says how it went. A disk that is full stays full for days, and what tries each
second must not write a line every second.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from gateway.observe.logs import get_logger
from gateway.system.aligned_timers import until_next_multiple_of

_CALM_SECONDS = 10.0
"""Between two lines about one part: what changes to and fro faster is logged when this is over."""
_LOOK_SECONDS = 1.0

_log = get_logger()


@dataclass(slots=True)
class _Part:
    """How saving one thing goes."""

    reason: str = ""
    """Why it does not save; empty while it does."""
    logged: str = ""
    """The reason that the log has last; empty when it has that all is well."""
    logged_at: float = float("-inf")


class Saves:
    """The parts of a gateway that save, by name."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, failures: Counter[str] | None = None
    ) -> None:
        """`failures` counts what was not saved, by part."""
        self._clock = clock
        self._failures: Counter[str] = Counter() if failures is None else failures
        self._parts: dict[str, _Part] = {}

    def expect(self, part: str) -> None:
        """`part` is going to save. Its failures are counted from 0 on: the first one is an increase."""
        self._failures[part] += 0

    def failed(self, part: str, error: Exception | str) -> None:
        """`part` was not saved; it is kept, and tried again. The error names the place and what to do."""
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
        """Log what was held back while it changed to and fro, for ever."""
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
