"""The checks of health: when each is done, what it found, and since when. Answers come from memory.

Owns the schedule: every `interval` seconds each check is done, side by side, with a time-out of its own; one
that has just failed is done again soon, and one of the gateway itself is done early when somebody asks. A
check that raises or takes too long has failed. Must not know what is checked, nor who asks.

A check that reads memory alone is no coroutine, and is done each time somebody asks: what it found is never
old. One that takes time may have a passive check beside it, which says from memory that the part has failed
since it was checked.
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
"""Seconds after which a check of the gateway itself that failed is done again."""
_FRESH_SECONDS = 1.0
"""Seconds for which an answer is new enough for whoever asks."""
_LOOK_SECONDS = 1.0
"""Seconds between two looks at which checks are due."""
_FOLDER_SECONDS = 0.2
"""Seconds that a look at the folder may take: one that hangs in the disk holds nobody up."""
_NOT_YET = "not checked yet"
_WARNING = "warning: "
"""How the message of a check begins that passed, and yet somebody should look."""

_log = get_logger()


class State(StrEnum):
    """How the part of the gateway is, or the service, that a check is about."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """It works, and somebody should look; or devices are served without it."""
    UNHEALTHY = "unhealthy"


CheckResult: TypeAlias = tuple[bool, str]
"""Whether all is well, and words that anybody may read."""
Check: TypeAlias = Callable[[], CheckResult | Awaitable[CheckResult]]
Start: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task that somebody holds: `gateway.net.tasks.Tasks.start`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found last."""

    state: State
    ok: bool
    """Whether it passed: something degraded may have."""
    message: str
    since: int
    """Unix milliseconds: of the last change of its state."""
    checked_at: int
    duration_ms: float


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The answer of every check, by name."""

    live: bool
    """No vital check failed: restarting the process would not help."""
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
    """Of a service outside the gateway: it is done as often as its interval says, and no sooner."""
    at_once: bool
    """It reads memory alone."""
    passive: Callable[[], CheckResult] | None = None
    """Whether the part has failed since, by what its users met: read from memory between two checks."""
    found: Finding | None = None
    due: float = 0.0
    """By the clock of the loop."""
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
        """`now` gives Unix milliseconds. `changed` gets each change of a state, and a first bad one.

        `folder` gives the identity of the data folder (a hash of its device and inode), by which
        `gateway-admin status` knows its own gateway. It is called each time, in a thread: a folder that was
        moved away has none, and its gateway is not that of the folder which has its path now.
        """
        self._now = now
        self._interval = interval
        self._deadline = deadline
        self._changed = changed
        self._folder = folder
        self._folder_identity = ""
        self._looking: asyncio.Future[str] | None = None
        """The last look at the folder. While one hangs in the disk there is no other."""
        self._scheduled: dict[str, _ScheduledCheck] = {}
        self._wake = asyncio.Event()
        self.changes = 0
        """How often what was found of a part became something different, or a part came or went."""

    async def folder(self) -> str:
        """The identity of the data folder, or "" without one; the last while it can't be looked at."""
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
        """Do `check` from now on, in the place of one with this name.

        A vital one (the event loop) makes `/health` fail and `/ready` too; another needed one (bus, store)
        only `/ready`: killing the process would not bring the bus back. One that is not needed (a broken edit
        of the policy, a `external` service) is shown: devices are served all the same.
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
        """Believe `check`, which reads memory, when it says that this part has failed since it was checked.

        Never that it is well again: only the check itself says that, and it is done at once.
        """
        self._scheduled[name].passive = check

    def remove(self, name: str) -> None:
        """Do it no more."""
        self.changes += 1
        scheduled = self._scheduled.pop(name, None)
        if scheduled is not None and scheduled.task is not None:
            scheduled.task.cancel()

    def report(self) -> HealthReport:
        """What was found, without waiting."""
        now = asyncio.get_running_loop().time()
        found: dict[str, Finding] = {}
        for name, scheduled in self._scheduled.items():
            self._ask_memory(name, scheduled)
            idle = not (scheduled.at_once or scheduled.external) and scheduled.task is None
            if idle and scheduled.due - now < scheduled.interval - _FRESH_SECONDS:
                scheduled.due = now
                self._wake.set()
            found[name] = scheduled.found or self._not_yet(scheduled)
        return HealthReport(
            live=all(found[name].ok for name, scheduled in self._scheduled.items() if scheduled.vital),
            # Without a single check nothing is known, and nothing known is not ready (promise 1).
            ready=bool(found)
            and all(found[name].ok for name, scheduled in self._scheduled.items() if scheduled.needed),
            checks=found,
        )

    def findings(self) -> Mapping[str, Finding]:
        """What was found of each part that was looked at."""
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
