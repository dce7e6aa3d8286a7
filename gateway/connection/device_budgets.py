"""What connections may cost: in one iteration of the event loop, and each device in one second (promise 7).

Everything that costs is counted where it is done: most by `gateway.connection.one_way_relay` and its two
directions, TLS by `gateway.net.tls_decryption_cost`. Two bounds follow. A connection does a slice at a time
and then awaits its turn, so that no chunk, whatever it holds, blocks the loop for longer than a few
milliseconds. And a device has one budget for all its connections: sixty of them may cost no more than one.
What exceeds the budget waits for the next second: unread if it comes from the device, and in
`gateway.connection.waiting_deliveries` if it comes from the bus. If more was spent in a second than the
budget allowed, the next second begins with a debt.

Must not know clocks or tasks: `gateway.net.device_round_robin` says when an iteration begins, ticks say when
a second does.

The unit of effort is what copying a small packet costs, about a microsecond, so that a bound on it bounds
time. An example: a chunk of 300 PUBLISH packets that are refused costs 300 times 10. After 200 of them
`SLICE_EFFORT` is reached, the rest waits for the connection's next turn, and other devices come in between.
"""

from __future__ import annotations

from gateway.connection.process_counters import Counters
from gateway.mqtt.errors import LimitExceeded
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.limits import Limits

SLICE_EFFORT = 2_000
"""Effort after which a connection awaits its next turn."""
RUN_PACKETS = 4_096
"""Packets of a run after which a connection awaits its next turn. A run is packets in a row that are alike,
or short PUBACKs: they pass without being decoded, and each costs next to nothing."""
ITERATION_EFFORT = 4_000
"""Effort of all connections in one iteration of the event loop; above it devices take turns."""
EFFORT_DECODED = 10
"""For a packet that is decoded and decided about, plus one for every 4,096 bytes of it."""
EFFORT_FILTER = 30
"""For each filter of a SUBSCRIBE: it is decided by the rules, counted, recorded, and perhaps reported."""
EFFORT_TOO_MANY_PROPERTIES = 8_000
"""For a packet with too many properties: before that was clear so many were read, in 2 microseconds each."""
HEADER_BYTES_FREE = 128
"""Bytes of a PUBLISH's topic and properties up to which there is no `header_effort`."""
EFFORT_CACHED = 1
"""For a PUBLISH on a topic whose verdict is cached."""
EFFORT_SEALED = 4
"""For a payload that is sealed or opened, plus one for every 256 bytes of it."""
TLS_EFFORT_PER_SECOND = 100_000
"""For decrypting the TLS of one device: unproductive bytes, and records that come many at a time
(`gateway.net.bounded_tls`)."""
WAITING_EFFORT_PER_SECOND = 100_000
"""For cutting the deliveries that wait for one device into packets."""
FREE_BYTES = 65_536
"""Bytes that may be held for a device whatever others do: a packet that comes in two chunks is no attack."""
_WAITING_SHARE = 4
"""Waiting messages of QoS 0 may take a quarter of a device's `unfinished_bytes_per_device`."""
SILENT = -1
"""In place of a number of seconds: no message has come since the device connected."""
_NO_BOUND = 2**62
_SWEEP_FROM = 1_024
"""How many budgets there may be before those of devices without a connection are dropped."""


def header_effort(topic_size: int, header_size: int) -> int:
    """Effort of a PUBLISH's long header, beside that of its packet; `header_size` includes `topic_size`.

    One for every 16 bytes of the topic, which is searched as one string, and for every 4 of the rest: to read
    a property of five bytes takes one to two microseconds.
    """
    return (topic_size >> 4) + (header_size - topic_size >> 2)


class ProcessWork:
    """What all connections of a process did in this iteration of the event loop, and what they hold."""

    __slots__ = ("done", "held", "held_max", "iteration_is_full", "second")

    def __init__(self) -> None:
        self.done = 0
        """Effort in this iteration."""
        self.iteration_is_full = False
        """Whether `done` has reached `ITERATION_EFFORT`: what comes now has to wait for its turn."""
        self.held = 0
        """Bytes of packets that have begun and not ended, and of deliveries that wait."""
        self.held_max = Limits().unfinished_bytes
        self.second = 0
        """The number of this second (`Tick.second`): `gateway.net.device_port` counts them."""

    def add(self, effort: int) -> None:
        """Count effort that was spent."""
        self.done += effort
        if self.done >= ITERATION_EFFORT:
            self.iteration_is_full = True

    def begin(self) -> None:
        """A new iteration of the loop begins."""
        self.done = 0
        self.iteration_is_full = False


class Meter:
    """One direction of all connections of a device, or their TLS: what was counted, and what is left.

    Counted is what came since the last `charge`; what is left is as of then, and may be negative: a debt.
    """

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

    def __init__(self, budget: Budget, work: ProcessWork) -> None:
        self.budget = budget
        self.work = work
        self.messages = 0
        """PUBLISH packets, whatever was decided about them."""
        self.bytes = 0
        self.effort = 0
        self.messages_left = self.bytes_left = self.effort_left = _NO_BOUND

    @property
    def is_exceeded(self) -> bool:
        """Whether more was counted than was left: nothing more is to be read in this second."""
        return (
            self.messages > self.messages_left
            or self.bytes > self.bytes_left
            or self.effort > self.effort_left
        )

    @property
    def is_used_up_by_debt(self) -> bool:
        """Whether earlier seconds leave nothing of this one. With 0 effort left a packet may still begin."""
        return self.messages_left <= 0 or self.bytes_left <= 0 or self.effort_left < 0

    @property
    def has_uncharged(self) -> bool:
        """Whether anything was counted since the last `charge`."""
        return bool(self.messages or self.bytes or self.effort)

    def charge(self) -> None:
        """Subtract what was counted from what is left."""
        self.messages_left -= self.messages
        self.bytes_left -= self.bytes
        self.effort_left -= self.effort
        self.messages = self.bytes = self.effort = 0


class Budget:
    """What one device may cost in a second and hold, over all its connections."""

    __slots__ = (
        "began_in_debt",
        "bytes",
        "connections",
        "dropped_at",
        "filters",
        "from_bus",
        "from_device",
        "held",
        "held_max",
        "messages",
        "over_at",
        "second",
        "seconds",
        "seconds_quiet",
        "tls",
        "used",
        "waiting",
        "waiting_effort_left",
    )

    def __init__(self, limits: Limits, work: ProcessWork) -> None:
        self.connections = 0
        self.from_device = Meter(self, work)
        """What comes from the device."""
        self.from_bus = Meter(self, work)
        """What the bus sends to it: bounded in effort only, for others decide how much they send."""
        self.tls = Meter(self, work)
        """What decrypting its TLS costs: in effort only. The bytes of an incomplete record count, and are
        given back when it yields data."""
        self.held = 0
        """Bytes of incomplete packets in both directions, and of waiting deliveries."""
        self.waiting = 0
        """Bytes of waiting deliveries alone: they have a bound of their own, see `room`."""
        self.messages = self.bytes = 0
        """All that came from it since this was made, as of the last `count_up`."""
        self.filters = 0
        """Topic filters that `ConnectionHoldings` does not count: those on the gateway's own topics, and all
        of a session that ends with its connection."""
        self.second = -1
        """Number of the last second that began for it (`Tick.second`); -1 before the first."""
        self.began_in_debt = False
        """Whether this second began with less than a whole budget, because of an earlier debt."""
        self.used = False
        """Whether the last `count_up` found anything."""
        self.seconds_quiet = SILENT
        """Seconds from its last message to `second`; SILENT if none came since it connected."""
        self.seconds = 0
        """Seconds since it was made, up to `second`."""
        self.over_at: int | None = None
        """`seconds_now` when the device last sent more than it may; None for never."""
        self.dropped_at: int | None = None
        """`seconds_now` when a delivery to it was last dropped; None for never."""
        self.waiting_effort_left = 0
        """What is left in this second of `WAITING_EFFORT_PER_SECOND`."""
        self.fill(limits)

    def fill(self, limits: Limits) -> None:
        """Begin a new second: a debt is carried over, what was left is not."""
        from_device, from_bus, tls = self.from_device, self.from_bus, self.tls
        self.began_in_debt = (
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
        tls.effort_left = TLS_EFFORT_PER_SECOND + _debt(tls.effort_left)
        self.waiting_effort_left = WAITING_EFFORT_PER_SECOND
        self.held_max = limits.unfinished_bytes_per_device
        from_bus.work.held_max = limits.unfinished_bytes  # the process's, which a reload may change

    def count_up(self, counters: Counters) -> None:
        """Add what was counted since the last time to the process's counters and to its own."""
        from_device, from_bus, tls = self.from_device, self.from_bus, self.tls
        self.used = False
        # Most have nothing to count in most seconds, and there may be thousands of them.
        # `has_uncharged`, without the call
        if from_device.messages or from_device.bytes or from_device.effort:
            counters.messages_from_devices += from_device.messages
            counters.bytes_from_devices += from_device.bytes
            self.messages += from_device.messages
            self.bytes += from_device.bytes
            if from_device.messages:
                self.seconds_quiet = 0
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
        """Take a tick with its `Tick.second`: the first one with a number begins that second."""
        self.count_up(counters)
        if second < 0 or second != self.second:
            passed = second - self.second if self.second >= 0 and second >= 0 else 1
            self.second = second
            self.seconds += passed
            if self.seconds_quiet != SILENT:
                self.seconds_quiet += passed
            self.fill(limits)

    @property
    def may_rest(self) -> bool:
        """Whether ticks would change nothing: nothing counted since the last but one, and no debt."""
        meters = (self.from_device, self.from_bus, self.tls)
        return (
            not self.used
            and not self.began_in_debt
            and not any(one.has_uncharged or one.is_used_up_by_debt for one in meters)
        )

    @property
    def seconds_since_message(self) -> int:
        """Seconds since a message came from it, SILENT if none did."""
        if self.from_device.messages:
            return 0
        return self.seconds_quiet if self.seconds_quiet == SILENT else self.seconds_quiet + self._rested

    @property
    def seconds_now(self) -> int:
        """Seconds since it was made, those without a tick included."""
        return self.seconds + self._rested

    @property
    def _rested(self) -> int:
        """Seconds that have passed without a tick."""
        return max(0, self.from_device.work.second - self.second) if self.second >= 0 else 0

    def room(self, work: ProcessWork) -> int:
        """Bytes of QoS 0 messages that may be added to those that wait for the device.

        So many that they take at most a quarter of what the device may hold, and that all that it holds is at
        most half of what the others leave free: many devices that do not read leave room for one more. But
        `FREE_BYTES` of them may wait in any case, within that quarter.
        """
        free = (work.held_max - work.held - self.held) // 2
        share = self.held_max // _WAITING_SHARE
        return max(min(FREE_BYTES, share) - self.waiting, min(share - self.waiting, free))

    def hold(self, size: int, work: ProcessWork) -> None:
        """Count `size` more bytes of an incomplete packet or a waiting delivery. Raises LimitExceeded."""
        self.held += size
        work.held += size
        if self.held > self.held_max:
            raise LimitExceeded(
                "the device holds as many bytes of unfinished packets and untaken messages as it may",
                Reason.QUOTA_EXCEEDED,
            )
        if work.held > work.held_max and self.held > FREE_BYTES:
            raise LimitExceeded(
                "the gateway holds as many bytes of unfinished packets and untaken messages as it may",
                Reason.QUOTA_EXCEEDED,
            )


def _debt(left: int) -> int:
    return left if left < 0 else 0  # noqa: FURB136 - five times for each device and second; `min` is a call


class Budgets:
    """The budgets of devices, kept for a while after they have left, so that reconnecting gains nothing."""

    __slots__ = ("_budgets", "_sweep_at", "work")

    def __init__(self) -> None:
        self.work = ProcessWork()
        self._budgets: dict[str, Budget] = {}
        self._sweep_at = _SWEEP_FROM

    def join(self, device_id: str, limits: Limits) -> Budget:
        """The budget of a device that has one more connection now."""
        budget = self._budgets.get(device_id)
        if budget is None:
            if len(self._budgets) >= self._sweep_at:
                self._sweep()
            budget = self._budgets[device_id] = Budget(limits, self.work)
        if not budget.connections:
            budget.seconds_quiet = SILENT
        budget.connections += 1
        return budget

    def received(self) -> dict[str, tuple[int, int]]:
        """By device id: the messages and bytes that came from it since its budget was made."""
        return {name: (one.messages, one.bytes) for name, one in self._budgets.items()}

    def _sweep(self) -> None:
        self._budgets = {name: one for name, one in self._budgets.items() if one.connections}
        # Twice what is left, so that sweeping costs each new budget a constant amount.
        self._sweep_at = max(_SWEEP_FROM, 2 * len(self._budgets))
