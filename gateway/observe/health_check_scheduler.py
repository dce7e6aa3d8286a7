"""The checks of health: when each is done, what it found, and since when.

Whoever asks never waits for a check.

Owns the schedule: each check is done every `interval` seconds, at the same time as others, with a time-out of
its own. One of the gateway itself is done again soon when it has just failed, and early when somebody asks
for a report; what is asked all the time (metrics, the history) asks for the last one. A check that raises or
takes too long has failed. Must not know what is checked, nor who asks.

A check that only reads memory is no coroutine, and is done each time somebody asks: what it found is never
old. One that takes time may have a passive check beside it, which can say, from memory, that the part has
failed since it was checked.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, TypeAlias

from gateway.observe.logs import get_logger
from gateway.system.aligned_timers import next_moment

DEADLINE = 5.0
"""Seconds that a check may take."""
_RETRY_SECONDS = 2.0
"""After these a check of the gateway itself that failed is done again."""
_FRESH_SECONDS = 1.0
"""Seconds for which a finding is new enough for whoever asks; when older, its check is done again early."""
_LOOK_SECONDS = 1.0
"""Seconds between two looks at which checks are due."""
_FOLDER_SECONDS = 0.2
"""The longest wait for a look at the data folder: a disk that hangs holds nobody up for longer."""
_NOT_YET = "not checked yet"
_WARNING = "warning: "
"""What the message begins with if a check passed, but somebody should see to what it found."""

_log = get_logger()


class State(StrEnum):
    """The state of what a check is about: a part of the gateway, or a service."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """It works, but somebody should see to it; or a part of the gateway fails that devices can do without. (A
    service outside of the gateway that fails is unhealthy.)"""
    UNHEALTHY = "unhealthy"


CheckResult: TypeAlias = tuple[bool, str]
"""Whether all is well, and a message that anybody may read."""
Check: TypeAlias = Callable[[], CheckResult | Awaitable[CheckResult]]
Start: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task and keeps a reference to it: `gateway.net.tasks.Tasks.start`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found last."""

    state: State
    ok: bool
    """Whether the check passed. If it passed with a warning, the state is degraded all the same."""
    message: str
    since: int
    """When the state last changed, in Unix milliseconds (so is `checked_at`)."""
    checked_at: int
    duration_ms: float


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What every check found, by name, and what follows from it."""

    live: bool
    """No vital check failed. While one fails, restarting the process may help."""
    ready: bool
    """No needed check failed: a device would be served now."""
    checks: Mapping[str, Finding]


@dataclass(slots=True, kw_only=True)
class _ScheduledCheck:
    """One check, its schedule, and what it found."""

    ask: Check
    vital: bool
    needed: bool
    interval: float
    deadline: float
    external: bool
    """Whether it is of a service outside the gateway: then it is never done before its interval is over."""
    at_once: bool
    """Whether it only reads memory."""
    passive: Callable[[], CheckResult] | None = None
    """Says between two checks, from memory, whether users of the part have met a failure."""
    found: Finding | None = None
    due: float = 0.0
    """When it is done next, by the clock of the loop."""
    task: asyncio.Task[None] | None = None


class Health:
    """All checks."""

    def __init__(
        self,
        *,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        interval: float = 30.0,
        deadline: float = DEADLINE,
        folder: Callable[[], str] = str,
        changed: Callable[[str, Finding], None] = lambda _name, _found: None,
    ) -> None:
        """`now` gives Unix milliseconds. `interval` and `deadline` are seconds, for checks without their own.

        `changed` is called with each finding whose state is new, and with a first one that is not healthy.
        `folder` gives the identity of the data folder (a hash of its device and inode), by which
        `gateway-admin status` recognises its own gateway. It is called each time somebody asks, in a thread:
        if the folder was moved away, this gateway is not that of a new folder at the old path.
        """
        self._now = now
        self._interval = interval
        self._deadline = deadline
        self._changed = changed
        self._folder = folder
        self._folder_identity = ""
        self._looking: asyncio.Future[str] | None = None
        """The last look at the folder. While the disk hangs no second one is begun."""
        self._scheduled: dict[str, _ScheduledCheck] = {}
        self._wake = asyncio.Event()
        self.changes = 0
        """How often a state became a different one, or a check was added or removed."""

    async def folder(self) -> str:
        """The identity of the data folder, "" if there is none; the last one while the disk hangs."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().run_in_executor(None, self._folder)
        await asyncio.wait({self._looking}, timeout=_FOLDER_SECONDS)
        if self._looking.done():
            self._folder_identity = self._looking.result()
        return self._folder_identity

    def add(
        self,
        name: str,
        check: Check,
        *,
        vital: bool,
        needed: bool = True,
        external: bool = False,
        interval: float | None = None,
        deadline: float | None = None,
    ) -> None:
        """Do `check` from now on; it replaces one with this name.

        If a `vital` one fails (the event loop), `/health` does, and `/ready` too; if one fails that is only
        `needed` (bus, store), only `/ready` does: killing the process would not bring the bus back. One that
        is neither (a policy that can't be used, an `external` service) is only shown: devices are served all
        the same.
        """
        self.changes += 1
        self._scheduled[name] = _ScheduledCheck(
            ask=check,
            vital=vital,
            needed=needed,
            external=external,
            interval=self._interval if interval is None else interval,
            deadline=self._deadline if deadline is None else deadline,
            at_once=not inspect.iscoroutinefunction(_function_of(check)),
        )
        self._wake.set()

    def add_passive(self, name: str, check: Callable[[], CheckResult]) -> None:
        """Have `check`, which only reads memory, say between two checks that this part has failed.

        Only the check itself says that the part is well again; it is done at once when `check` has failed.
        """
        self._scheduled[name].passive = check

    def remove(self, name: str) -> None:
        """Do this check no more."""
        self.changes += 1
        scheduled = self._scheduled.pop(name, None)
        if scheduled is not None and scheduled.task is not None:
            scheduled.task.cancel()

    def report(self) -> HealthReport:
        """What was found, without waiting, for somebody who asks: what is old is checked again soon."""
        now = asyncio.get_running_loop().time()
        for scheduled in self._scheduled.values():
            idle = not (scheduled.at_once or scheduled.external) and scheduled.task is None
            if idle and scheduled.due - now < scheduled.interval - _FRESH_SECONDS:
                scheduled.due = now
                self._wake.set()
        return self.last_report()

    def last_report(self) -> HealthReport:
        """What was found, without waiting and without a check: for what asks again and again by itself."""
        found: dict[str, Finding] = {}
        for name, scheduled in self._scheduled.items():
            self._ask_memory(name, scheduled)
            found[name] = scheduled.found or self._not_yet(scheduled)
        return HealthReport(
            live=all(found[name].ok for name, scheduled in self._scheduled.items() if scheduled.vital),
            # Without a single check nothing is known, and so the gateway is not ready (promise 1).
            ready=bool(found)
            and all(found[name].ok for name, scheduled in self._scheduled.items() if scheduled.needed),
            checks=found,
        )

    def findings(self) -> Mapping[str, Finding]:
        """What was found by each check that was done at least once."""
        for name, scheduled in self._scheduled.items():
            self._ask_memory(name, scheduled)
        return {
            name: scheduled.found
            for name, scheduled in self._scheduled.items()
            if scheduled.found is not None
        }

    async def run(self, start: Start) -> None:
        """Do all checks when they are due, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            for name, scheduled in list(self._scheduled.items()):
                self._ask_memory(name, scheduled)
                if not scheduled.at_once and scheduled.due <= loop.time() and scheduled.task is None:
                    scheduled.task = start(self._ask(name, scheduled))
            try:
                async with asyncio.timeout_at(next_moment(_LOOK_SECONDS, loop.time())):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _not_yet(self, scheduled: _ScheduledCheck) -> Finding:
        now = self._now()
        state = State.UNHEALTHY if scheduled.needed or scheduled.vital else State.DEGRADED
        return Finding(state, ok=False, message=_NOT_YET, since=now, checked_at=now, duration_ms=0.0)

    def _ask_memory(self, name: str, scheduled: _ScheduledCheck) -> None:
        if not scheduled.at_once:
            self._ask_passive(name, scheduled)
            return
        try:
            answer = scheduled.ask()
        except Exception as error:  # noqa: BLE001 - whatever it raises, it has failed
            answer = self._fault(name, error)
        if isinstance(answer, tuple):
            self._take(name, scheduled, answer, 0.0)

    def _ask_passive(self, name: str, scheduled: _ScheduledCheck) -> None:
        if scheduled.passive is None or scheduled.found is None or not scheduled.found.ok:
            return
        answer = scheduled.passive()
        if not answer[0]:
            self._take(name, scheduled, answer, 0.0)
            scheduled.due = asyncio.get_running_loop().time()
            self._wake.set()

    async def _ask(self, name: str, scheduled: _ScheduledCheck) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer: CheckResult
        try:
            async with asyncio.timeout(scheduled.deadline):
                asked = scheduled.ask()
                answer = await asked if inspect.isawaitable(asked) else asked
        except TimeoutError:
            answer = False, f"no answer within {scheduled.deadline:g} s"
        except Exception as error:  # noqa: BLE001 - as above
            answer = self._fault(name, error)
        finally:
            scheduled.task = None
        ended = loop.time()
        wait = scheduled.interval
        if not answer[0] and not scheduled.external:
            wait = min(wait, _RETRY_SECONDS)
        scheduled.due = ended + wait
        if self._scheduled.get(name) is scheduled:
            self._take(name, scheduled, answer, (ended - began) * 1_000)

    def _fault(self, name: str, error: Exception) -> CheckResult:
        # Its text may say more than a reader of the health page may know.
        scheduled = self._scheduled.get(name)
        if scheduled is None or scheduled.found is None or scheduled.found.ok:
            _log.warning("health check failed", check=name, reason=error)
        return False, "the check failed; the log says why"

    def _take(self, name: str, scheduled: _ScheduledCheck, answer: CheckResult, duration_ms: float) -> None:
        ok, message = answer
        state = (
            State.UNHEALTHY if scheduled.needed or scheduled.vital or scheduled.external else State.DEGRADED
        )
        if ok:
            state = State.DEGRADED if message.startswith(_WARNING) else State.HEALTHY
        before, now = scheduled.found, self._now()
        same = before is not None and before.state is state
        scheduled.found = Finding(
            state, ok, message, before.since if same and before else now, now, round(duration_ms, 3)
        )
        self.changes += not same
        if not same and (before is not None or state is not State.HEALTHY):
            self._changed(name, scheduled.found)


def _function_of(check: Check) -> Callable[..., object]:
    return check.func if isinstance(check, partial) else check
