"""What single devices do, counted only while a rule or a metric asks for it.

Apart from the history, which has no room for a series per device: some numbers of each device, and their last
quarter of an hour. All of it begins anew with the process. Logins come as audit events; messages and bytes
are read from the devices' budgets every ten seconds, so that no message costs more for it.

Times are those of a clock that never goes back: one that is set makes no device silent, and none heard.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from gateway.alerts.readings_protocol import Labels
from gateway.connection.audit_vocabulary import Kind, Outcome
from gateway.observe.audit_event import AuditEvent

WRONG_LOGINS = "device_wrong_logins_total"
CONNECTS = "device_connects_total"
MESSAGES = "device_messages_total"
BYTES = "device_bytes_total"
NEW_ADDRESSES = "device_new_addresses_total"
MESSAGE_BYTES = "device_message_bytes"
SILENT_SECONDS = "device_silent_seconds"
NAMES = frozenset({WRONG_LOGINS, CONNECTS, MESSAGES, BYTES, NEW_ADDRESSES, MESSAGE_BYTES, SILENT_SECONDS})
"""The readings that are given here. Names of the history may begin with the same word: they are of all
devices together."""
SPAN_MAX = 900
"""Seconds that a rule on these readings may look back."""
_PAST_SECONDS = 30
"""Seconds between two points of the past."""

Passed: TypeAlias = Mapping[str, tuple[int, int]]
"""By device the messages and bytes that came from it since its budget was made."""


class DeviceReadings:
    """The readings of `NAMES`."""

    def __init__(
        self,
        now: Callable[[], int],
        steady: Callable[[], float],
        passed: Callable[[], Passed],
        devices: Callable[[], Iterable[str]],
    ) -> None:
        """`now` gives Unix milliseconds, `steady` seconds of a clock that never goes back.

        `passed` gives what came from each device, `devices` who may connect.
        """
        self._now = now
        self._steady = steady
        self._passed = passed
        self._devices = devices
        self._wanted: frozenset[str] = frozenset()
        self._labelled: tuple[str, ...] = ()
        self._known: frozenset[str] = frozenset()
        self._counts: dict[str, Counter[str]] = {}
        self._past: deque[tuple[float, Mapping[str, dict[str, int]]]] = deque()
        self._before: Passed = {}
        self._sizes: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._began = steady()
        self._changes = 0
        """How often something was counted or sampled."""

    def use(self, names: Iterable[str], labelled: Sequence[str] = ()) -> None:
        """Count what these readings need, and nothing else; all of them for metrics of `labelled` devices."""
        self._labelled = tuple(labelled)
        wanted = NAMES if labelled else NAMES.intersection(names)
        if wanted and not self._wanted:
            self._began, self._before = self._steady(), self._passed()
            self._known = frozenset(self._devices())
        elif not wanted:
            self._counts, self._sizes, self._before, self._heard = {}, {}, {}, {}
            self._past.clear()
        self._wanted = wanted

    def last_heard(self, device: str, at: int) -> None:
        """When the last process ended nothing had come from this device since `at`, Unix milliseconds."""
        if device in self._known:
            self._heard[device] = self._steady() - max(0, self._now() - at) / 1_000

    def devices_changed(self, touched: frozenset[str]) -> None:
        """These were added, changed or removed."""
        if not self._wanted:
            return
        self._changes += 1
        there = touched.intersection(self._devices())
        for device in touched - there:  # a new one may get its id
            self._forget(device)
        # A new device has been silent since it may connect, not since the process began.
        self._heard |= dict.fromkeys(there - self._known, self._steady())
        self._known = self._known - touched | there

    def _forget(self, device: str) -> None:
        self._heard.pop(device, None)
        self._sizes.pop(device, None)
        for counts in (self._counts, *(past for _, past in self._past)):
            for by_device in counts.values():
                by_device.pop(device, None)

    def __call__(self, event: AuditEvent) -> None:
        """A consumer of the audit: counts logins."""
        if not self._wanted or event.kind is not Kind.LOGIN or event.device is None:
            return
        name = CONNECTS if event.outcome is Outcome.DONE else WRONG_LOGINS
        self._count(name, event.device, event.count)

    def moved(self, device: str) -> None:
        """The device logged in from an address at which it was not seen before."""
        if self._wanted:
            self._count(NEW_ADDRESSES, device, 1)

    def _count(self, name: str, device: str, count: int) -> None:
        if device in self._known:  # anybody may claim any name
            self._changes += 1
            self._counts.setdefault(name, Counter())[device] += count

    def sample(self) -> None:
        """Read what has passed since the last time."""
        if not self._wanted:
            return
        now, passed = self._steady(), self._passed()
        self._changes += 1
        self._sizes = {}
        for device, (messages, size) in passed.items():
            if device not in self._known:
                continue
            before = self._before.get(device, (0, 0))
            if messages < before[0]:  # its budget was made anew
                before = (0, 0)
            if new := messages - before[0]:
                self._count(MESSAGES, device, new)
                self._count(BYTES, device, size - before[1])
                self._sizes[device] = (size - before[1]) / new
                self._heard[device] = now
        self._before = passed
        if not self._past or now - self._past[-1][0] >= _PAST_SECONDS:
            self._past.append((now, {name: dict(self._counts.get(name, {})) for name in self._wanted}))
            while len(self._past) > 1 and now - self._past[1][0] >= SPAN_MAX:
                self._past.popleft()

    def news(self) -> int:
        """A number that changes whenever a rule on these readings has to be evaluated again.

        It does not change with time alone, by which devices are silent for longer and counts drop out of the
        time that a rule looks back: these are exact to ten seconds, for to evaluate rules on some thousand
        devices every second would take more from messages than anything else that is watched.
        """
        return self._changes

    def latest(self, name: str) -> Mapping[Labels, float]:
        """The newest number of each device."""
        if name == MESSAGE_BYTES:
            return {_labels(device): size for device, size in self._sizes.items()}
        if name == SILENT_SECONDS:
            now, heard, began = self._steady(), self._heard, self._began
            return {_labels(one): now - heard.get(one, began) for one in self._known}
        return {_labels(device): float(count) for device, count in self._counts.get(name, {}).items()}

    def labelled(self, name: str) -> Mapping[str, float]:
        """The newest number of each device in `labelled` that may connect; a count begins at 0."""
        there = [device for device in self._labelled if device in self._known]
        if not there:
            return {}
        if name == MESSAGE_BYTES:
            return {device: self._sizes[device] for device in there if device in self._sizes}
        if name == SILENT_SECONDS:
            return {device: self._silent(device) for device in there}
        counts = self._counts.get(name, Counter())
        return {device: float(counts[device]) for device in there}

    def _silent(self, device: str) -> float:
        return self._steady() - self._heard.get(device, self._began)

    def since(self, name: str, seconds: int) -> Mapping[Labels, Sequence[tuple[int, float]]]:
        """The count of each device at the beginning of the time asked for, and now."""
        now, since = self._now(), self._steady() - seconds
        counts = next((counts for at, counts in reversed(self._past) if at <= since), {})
        before = counts.get(name, {})
        return {
            _labels(device): ((now - seconds * 1_000, float(before.get(device, 0))), (now, float(count)))
            for device, count in self._counts.get(name, {}).items()
        }


def _labels(device: str) -> Labels:
    return (("device", device),)
