"""What connections may cost: in one turn of the event loop, and each device in one second (promise 7).

Everything that costs is counted where it is done, by `gateway.connection.one_way_relay` and its two
directions. Two bounds follow. A connection does a slice at a time and then awaits its turn, so that no chunk,
however it is made up, holds the loop for longer than a few milliseconds. And a device has one budget for all
its connections: sixty of them cost what one does. What is over waits: unread if it comes from the device, and
in `gateway.connection.waiting_deliveries` if it comes for it from the bus.

Must not know clocks or tasks: `gateway.net.device_round_robin` says when a turn begins, ticks say when a
second does.

Effort is counted in what the copy of a small packet costs, about a microsecond, so that one bound on it means
time. An example: a chunk of 300 PUBLISH packets that are refused costs 300 times 12 or so. After 170 of them
`SLICE` is reached, the rest waits for the connection's next turn, and other devices come in between.
"""

from __future__ import annotations

from gateway.connection.process_counters import Counters
from gateway.mqtt.errors import LimitExceeded
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.limits import Limits

SLICE = 2_000
"""Effort after which a connection lets others go first."""
RUN_PACKETS = 4_096
"""Packets of a run after which a connection lets others go first. A run is packets in a row that are alike,
or short PUBACKs: they pass without being taken apart, and each costs next to nothing."""
TURN = 4_000
"""Effort of all connections in one turn of the event loop; above it what comes waits, device by device."""
EFFORT_TAKEN_APART = 10
"""For a packet that is looked at as a whole, and judged; beside that, one for every 4,096 bytes of it."""
EFFORT_FILTER = 30
"""For each filter of a SUBSCRIBE: it is asked of the rules, counted and recorded, and perhaps reported."""
EFFORT_TOO_MANY_PROPERTIES = 8_000
"""For a packet that has more properties than are read: as many were, in two microseconds each."""
HEADER_BYTES_FREE = 128
"""Bytes of a PUBLISH's topic and properties that cost nothing beyond the packet: no `header_effort`."""
EFFORT_CACHED = 1
"""For a PUBLISH on a topic whose verdict is cached."""
EFFORT_SEALED = 4
"""For a payload that is sealed or opened; beside that, one for every 256 bytes of it."""
TLS = 100_000
"""Effort of decrypting the TLS of one device in a second, as far as no application data comes of it."""
WAITING = 100_000
"""Effort of cutting into packets, in a second, what waits because one device does not take it."""
FREE = 65_536
"""Bytes that a device may hold whatever others do: a packet that comes in two chunks is no attack."""
_WAITING_SHARE = 4
"""Of its `unfinished_bytes_per_device` a device may hold one part in so many in waiting messages of QoS 0."""
SILENT = -1
_NO_BOUND = 2**62
_SWEEP_FROM = 1_024
"""Budgets from which on those are dropped that no longer matter."""


def header_effort(topic: int, header: int) -> int:
    """What a long header of a PUBLISH costs beyond its packet: its bytes, and those of its topic among them.

    A property of five bytes takes two microseconds to read; a topic is searched as one string.
    """
    return (topic >> 4) + (header - topic >> 2)


class Work:
    """What all connections of a process did in this turn of the event loop, and hold."""

    __slots__ = ("done", "full", "held", "held_most", "second")

    def __init__(self) -> None:
        self.done = 0
        """Effort."""
        self.full = False
        """Whether what comes now has to wait for a turn."""
        self.held = 0
        """Bytes of packets that have begun and not ended, and of deliveries that wait."""
        self.held_most = Limits().unfinished_bytes
        self.second = 0
        """The number of this second: `gateway.net.device_port` counts them."""

    def add(self, effort: int) -> None:
        """This was done."""
        self.done += effort
        if self.done >= TURN:
            self.full = True

    def begin(self) -> None:
        """A new turn begins."""
        self.done = 0
        self.full = False


class Meter:
    """One direction of all connections of a device: what passed since the last charge, and what is left."""

    __slots__ = (
        "budget",
        "bytes",
        "bytes_left",
        "effort",
        "effort_left",
        "messages",
        "messages_left",
        "work",
    )

    def __init__(self, budget: Budget, work: Work) -> None:
        self.budget = budget
        self.work = work
        self.messages = 0
        """PUBLISH packets, whatever was decided about them."""
        self.bytes = 0
        self.effort = 0
        self.messages_left = self.bytes_left = self.effort_left = _NO_BOUND

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be read in this second."""
        return (
            self.messages > self.messages_left
            or self.bytes > self.bytes_left
            or self.effort > self.effort_left
        )

    @property
    def is_spent(self) -> bool:
        """Whether not even this second has anything left, for what was too much before."""
        return self.messages_left <= 0 or self.bytes_left <= 0 or self.effort_left < 0

    @property
    def is_used(self) -> bool:
        """Whether something passed since it was last charged."""
        return bool(self.messages or self.bytes or self.effort)

    def charge(self) -> None:
        """Take what passed from what is left."""
        self.messages_left -= self.messages
        self.bytes_left -= self.bytes
        self.effort_left -= self.effort
        self.messages = self.bytes = self.effort = 0


class Budget:
    """What one device may cost in a second and hold, over all its connections."""

    __slots__ = (
        "bytes",
        "connections",
        "dropped_at",
        "filters",
        "from_bus",
        "from_device",
        "held",
        "held_most",
        "messages",
        "over_at",
        "owed",
        "quiet",
        "second",
        "seconds",
        "tls",
        "used",
        "waiting",
        "waiting_effort_left",
    )

    def __init__(self, limits: Limits, work: Work) -> None:
        self.connections = 0
        self.from_device = Meter(self, work)
        """What comes from the device."""
        self.from_bus = Meter(self, work)
        """What comes for it from the bus: bounded in effort only, for others decide how much it is."""
        self.tls = Meter(self, work)
        """What undoing its TLS costs, in effort: apart, for a long record costs before it is whole."""
        self.held = 0
        """Bytes of packets that have begun and not ended, both directions, and of deliveries that wait."""
        self.waiting = 0
        """Those of deliveries alone: a packet that comes from the device takes nothing of their room."""
        self.messages = self.bytes = 0
        """All that came from it since this was made, as far as it is counted up."""
        self.filters = 0
        """Of sessions that end with their connection: the others are counted where they are kept."""
        self.second = -1
        """The number of the last one that began for it; -1 before that."""
        self.owed = False
        """Whether this second had less than a whole one, for what was too much before."""
        self.used = False
        """Whether anything had passed when it was last counted up."""
        self.quiet = SILENT
        """Seconds from its last message to `second`, SILENT if none came."""
        self.seconds = 0
        """How many went by to `second`, by its own count."""
        self.over_at: int | None = None
        """`seconds_now` when it was last over what it may send."""
        self.dropped_at: int | None = None
        """The same for when a delivery to it was last dropped."""
        self.waiting_effort_left = 0
        """What is left of this second for cutting deliveries that wait into packets."""
        self.fill(limits)

    def fill(self, limits: Limits) -> None:
        """A new second begins: what was too much in the last is carried on, what was left over is not."""
        from_device, from_bus, tls = self.from_device, self.from_bus, self.tls
        self.owed = (
            from_device.messages_left < 0
            or from_device.bytes_left < 0
            or from_device.effort_left < 0
            or from_bus.effort_left < 0
            or tls.effort_left < 0
        )
        from_device.messages_left = limits.messages_per_second + _debt(from_device.messages_left)
        from_device.bytes_left = limits.bytes_per_second + _debt(from_device.bytes_left)
        from_device.effort_left = limits.effort_per_second + _debt(from_device.effort_left)
        from_bus.effort_left = limits.heard_effort_per_second + _debt(from_bus.effort_left)
        tls.effort_left = TLS + _debt(tls.effort_left)
        self.waiting_effort_left = WAITING
        self.held_most = limits.unfinished_bytes_per_device
        from_bus.work.held_most = limits.unfinished_bytes

    def count_up(self, counters: Counters) -> None:
        """Add up what passed since the last time."""
        from_device, from_bus, tls = self.from_device, self.from_bus, self.tls
        self.used = False
        # Most have nothing to count in most seconds, and there may be thousands of them.
        if from_device.messages or from_device.bytes or from_device.effort:  # `is_used`, without the call
            counters.messages_from_devices += from_device.messages
            counters.bytes_from_devices += from_device.bytes
            self.messages += from_device.messages
            self.bytes += from_device.bytes
            if from_device.messages:
                self.quiet = 0
            self.used = True
            from_device.charge()
        if from_bus.messages or from_bus.bytes or from_bus.effort:
            counters.messages_to_devices += from_bus.messages
            self.used = True
            from_bus.charge()
        if tls.effort:
            self.used = True
            tls.charge()

    def tick(self, second: int, limits: Limits, counters: Counters) -> None:
        """A tick of second `Tick.second`; -1: the next. Its device's other connections may have begun it."""
        self.count_up(counters)
        if second < 0 or second != self.second:
            passed = second - self.second if self.second >= 0 and second >= 0 else 1
            self.second = second
            self.seconds += passed
            if self.quiet != SILENT:
                self.quiet += passed
            self.fill(limits)

    @property
    def may_rest(self) -> bool:
        """Whether the next seconds change nothing in it: nothing passed in the last, and nothing is owed."""
        meters = (self.from_device, self.from_bus, self.tls)
        return not self.used and not self.owed and not any(one.is_used or one.is_spent for one in meters)

    @property
    def seconds_since_message(self) -> int:
        """Seconds since a message came from it, SILENT if none did."""
        if self.from_device.messages:
            return 0
        return self.quiet if self.quiet == SILENT else self.quiet + self._rested

    @property
    def seconds_now(self) -> int:
        """Seconds that went by, those of a rest included."""
        return self.seconds + self._rested

    @property
    def _rested(self) -> int:
        """Seconds since the last one that began for it."""
        return max(0, self.from_device.work.second - self.second) if self.second >= 0 else 0

    def room(self, work: Work) -> int:
        """Bytes that messages of QoS 0 may still take while they wait for the device.

        No more than half of what is free in all: many devices that take nothing leave room for one more.
        """
        free = (work.held_most - work.held - self.held) // 2
        share = self.held_most // _WAITING_SHARE
        return max(min(FREE, share) - self.waiting, min(share - self.waiting, free))

    def hold(self, size: int, work: Work) -> None:
        """Keep `size` bytes more of a packet that has not ended, or waits. LimitExceeded: no room is left."""
        self.held += size
        work.held += size
        if self.held > self.held_most:
            raise LimitExceeded(
                "the device has as many bytes of packets unfinished, or not taken, as it may",
                Reason.QUOTA_EXCEEDED,
            )
        if work.held > work.held_most and self.held > FREE:
            raise LimitExceeded(
                "the gateway holds as many bytes of packets unfinished, or not taken, as it may",
                Reason.QUOTA_EXCEEDED,
            )


def _debt(left: int) -> int:
    return left if left < 0 else 0  # noqa: FURB136 - five times for each connection and second; `min` is a call


class Budgets:
    """The budgets of the devices that are connected, or were: leaving and coming back gains nothing."""

    __slots__ = ("_budgets", "_sweep_at", "work")

    def __init__(self) -> None:
        self.work = Work()
        self._budgets: dict[str, Budget] = {}
        self._sweep_at = _SWEEP_FROM

    def join(self, device_id: str, limits: Limits) -> Budget:
        """The budget of a device, of which one connection more lives."""
        budget = self._budgets.get(device_id)
        if budget is None:
            if len(self._budgets) >= self._sweep_at:
                self._sweep()
            budget = self._budgets[device_id] = Budget(limits, self.work)
        if not budget.connections:
            budget.quiet = SILENT
        budget.connections += 1
        return budget

    def passed(self) -> dict[str, tuple[int, int]]:
        """By device the messages and bytes that came from it since its budget was made."""
        return {name: (one.messages, one.bytes) for name, one in self._budgets.items()}

    def _sweep(self) -> None:
        self._budgets = {name: one for name, one in self._budgets.items() if one.connections}
        # Twice what is left: each sweep is paid for by as many new ones.
        self._sweep_at = max(_SWEEP_FROM, 2 * len(self._budgets))
