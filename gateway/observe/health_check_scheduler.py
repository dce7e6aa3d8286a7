"""The checks of health: when each is done, what it found, and since when. Answers come from memory.

Owns the schedule: every `interval` seconds each check is done, side by side, with a time-out of its own; one
that has just failed is done again soon, and one of the gateway itself is done early when somebody asks. A
check that raises or takes too long has failed. Must not know what is checked, nor who asks.

A check that reads memory alone is no coroutine, and is asked each time: what it says is never old. One that
takes time may have a passive check beside it, which says from memory that the part has failed since.
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
_AGAIN = 2.0
"""Seconds after which a check of the gateway itself that failed is done again."""
_EARLY = 1.0
"""Seconds for which an answer is new enough for whoever asks."""
_LOOK = 1.0
"""Seconds between two looks at which checks are due."""
_FOLDER = 0.2
"""Seconds that a look at the folder may take: one that hangs in the disk holds nobody up."""
_NOT_YET = "not checked yet"
_WARNING = "warning: "
"""How the message of a check begins that is not wholly well."""

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
class Report:
    """The answer of every check, by name."""

    live: bool
    """No vital check failed: restarting the process would not help."""
    ready: bool
    """No needed check failed: a device would be served now."""
    checks: Mapping[str, Finding]


@dataclass(slots=True, kw_only=True)
class _Entry:
    """One check, its schedule, and what it found."""

    ask: Check
    vital: bool
    needed: bool
    interval: float
    deadline: float
    foreign: bool
    """Of another service: it is asked as often as it says, and no sooner."""
    at_once: bool
    """It reads memory."""
    passive: Callable[[], CheckResult] | None = None
    """What others met of the part: read from memory between two checks."""
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
        """`now` gives Unix milliseconds. `changed` gets each change of a state, and a first not so well.

        `folder` gives the identity of the data folder (a hash of its device and inode), by which
        `gateway-admin status` knows its own gateway. It
        is asked each time, in a thread: one that was moved away has none, and its gateway is not that of the
        folder which has its path now.
        """
        self._now = now
        self._interval = interval
        self._deadline = deadline
        self._changed = changed
        self._folder = folder
        self._mark = ""
        self._looking: asyncio.Future[str] | None = None
        """The last look at the folder. While one hangs in the disk there is no other."""
        self._entries: dict[str, _Entry] = {}
        self._wake = asyncio.Event()
        self.changes = 0
        """How often what was found of a part became something different, or a part came or went."""

    async def folder(self) -> str:
        """The identity of the data folder, or "" without one; the last while it can't be looked at."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().run_in_executor(None, self._folder)
        await asyncio.wait({self._looking}, timeout=_FOLDER)
        if self._looking.done():
            self._mark = self._looking.result()
        return self._mark

    def add(
        self,
        name: str,
        check: Check,
        *,
        vital: bool,
        needed: bool = True,
        foreign: bool = False,
        interval: float | None = None,
        deadline: float | None = None,
    ) -> None:
        """Do `check` from now on, in the place of one with this name.

        A vital one (the event loop) makes `/health` fail and `/ready` too; another needed one (bus, store)
        only `/ready`: killing the process would not bring the bus back. One that is not needed (a broken edit
        of the policy, a `foreign` service) is shown: devices are served all the same.
        """
        self.changes += 1
        self._entries[name] = _Entry(
            ask=check,
            vital=vital,
            needed=needed,
            foreign=foreign,
            interval=self._interval if interval is None else interval,
            deadline=self._deadline if deadline is None else deadline,
            at_once=not inspect.iscoroutinefunction(_function_of(check)),
        )
        self._wake.set()

    def add_passive(self, name: str, check: Callable[[], CheckResult]) -> None:
        """Believe `check`, which reads memory, when it says that this part has failed since it was checked.

        Never that it is well again: only the check itself says that, and it is done at once.
        """
        self._entries[name].passive = check

    def remove(self, name: str) -> None:
        """Do it no more."""
        self.changes += 1
        entry = self._entries.pop(name, None)
        if entry is not None and entry.task is not None:
            entry.task.cancel()

    def report(self) -> Report:
        """What was found, without waiting."""
        now = asyncio.get_running_loop().time()
        found: dict[str, Finding] = {}
        for name, entry in self._entries.items():
            self._ask_memory(name, entry)
            idle = not (entry.at_once or entry.foreign) and entry.task is None
            if idle and entry.due - now < entry.interval - _EARLY:
                entry.due = now
                self._wake.set()
            found[name] = entry.found or self._not_yet(entry)
        return Report(
            live=all(found[name].ok for name, entry in self._entries.items() if entry.vital),
            # Without a single check nothing is known, and nothing known is not ready (promise 1).
            ready=bool(found)
            and all(found[name].ok for name, entry in self._entries.items() if entry.needed),
            checks=found,
        )

    def findings(self) -> Mapping[str, Finding]:
        """What was found of each part that was looked at."""
        for name, entry in self._entries.items():
            self._ask_memory(name, entry)
        return {name: entry.found for name, entry in self._entries.items() if entry.found is not None}

    async def run(self, start: Start) -> None:
        """Do all checks when they are due, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            for name, entry in list(self._entries.items()):
                self._ask_memory(name, entry)
                if not entry.at_once and entry.due <= loop.time() and entry.task is None:
                    entry.task = start(self._ask(name, entry))
            try:
                async with asyncio.timeout_at(next_moment(_LOOK, loop.time())):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _not_yet(self, entry: _Entry) -> Finding:
        now = self._now()
        state = State.UNHEALTHY if entry.needed or entry.vital else State.DEGRADED
        return Finding(state, ok=False, message=_NOT_YET, since=now, checked_at=now, duration_ms=0.0)

    def _ask_memory(self, name: str, entry: _Entry) -> None:
        if not entry.at_once:
            self._ask_passive(name, entry)
            return
        try:
            answer = entry.ask()
        except Exception as error:  # noqa: BLE001 - whatever it raises, it has failed
            answer = self._fault(name, error)
        if isinstance(answer, tuple):
            self._take(name, entry, answer, 0.0)

    def _ask_passive(self, name: str, entry: _Entry) -> None:
        if entry.passive is None or entry.found is None or not entry.found.ok:
            return
        answer = entry.passive()
        if not answer[0]:
            self._take(name, entry, answer, 0.0)
            entry.due = asyncio.get_running_loop().time()
            self._wake.set()

    async def _ask(self, name: str, entry: _Entry) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer: CheckResult
        try:
            async with asyncio.timeout(entry.deadline):
                asked = entry.ask()
                answer = await asked if inspect.isawaitable(asked) else asked
        except TimeoutError:
            answer = False, f"no answer within {entry.deadline:g} s"
        except Exception as error:  # noqa: BLE001 - as above
            answer = self._fault(name, error)
        finally:
            entry.task = None
        ended = loop.time()
        wait = entry.interval
        if not answer[0] and not entry.foreign:
            wait = min(wait, _AGAIN)
        entry.due = ended + wait
        if self._entries.get(name) is entry:
            self._take(name, entry, answer, (ended - began) * 1_000)

    def _fault(self, name: str, error: Exception) -> CheckResult:
        # Its text may say more than a reader of the health page may know.
        entry = self._entries.get(name)
        if entry is None or entry.found is None or entry.found.ok:
            _log.warning("health check failed", check=name, reason=error)
        return False, "the check failed; the log says why"

    def _take(self, name: str, entry: _Entry, answer: CheckResult, duration_ms: float) -> None:
        ok, message = answer
        state = State.UNHEALTHY if entry.needed or entry.vital or entry.foreign else State.DEGRADED
        if ok:
            state = State.DEGRADED if message.startswith(_WARNING) else State.HEALTHY
        before, now = entry.found, self._now()
        same = before is not None and before.state is state
        entry.found = Finding(
            state, ok, message, before.since if same and before else now, now, round(duration_ms, 3)
        )
        self.changes += not same
        if not same and (before is not None or state is not State.HEALTHY):
            self._changed(name, entry.found)


def _function_of(check: Check) -> Callable[..., object]:
    return check.func if isinstance(check, partial) else check
