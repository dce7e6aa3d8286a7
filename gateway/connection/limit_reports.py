"""What admins learn when a device reaches one of its limits: once, until it has been below it for a minute.

Nothing is decided here: reading pauses, or a packet is refused or dropped, where the limit is checked. Must
not know a clock.
"""

from __future__ import annotations

from gateway.connection.audit_vocabulary import Report, reached_limit
from gateway.connection.device_budgets import Budget
from gateway.connection.process_counters import Counters
from gateway.mqtt.errors import PacketOverLimit, PacketTooLarge
from gateway.policy.engine.device_limits import CountedLimit
from gateway.policy.engine.limits import Limits

_QUIET = 60
"""Seconds without reaching a limit, after which it is reported again."""


def too_fast(budget: Budget, limits: Limits, counters: Counters) -> Report | None:
    """A device sent more than it may in a second, and is not read until the next. None: already reported."""
    meter = budget.from_device
    limit, more = (
        CountedLimit.MESSAGES_PER_SECOND,
        "It sends more messages, or such that cost more, than it may",
    )
    if meter.bytes > meter.bytes_left:
        limit, more = CountedLimit.BYTES_PER_SECOND, "It sends more bytes than it may"
    counters.limits_reached[limit] += 1
    now = budget.seconds_now
    before, budget.over_at = budget.over_at, now
    if before is not None and now - before <= _QUIET:
        return None
    return reached_limit(
        f"{more}: it waits, and nothing is lost ({_named(limit, limits)}).", limits.location(limit)
    )


def too_slow(budget: Budget, limits: Limits, counters: Counters) -> Report | None:
    """Deliveries to a device are dropped, for it reads too slowly. None: already reported."""
    limit = CountedLimit.UNFINISHED_BYTES_PER_DEVICE
    now = budget.seconds_now
    before, budget.dropped_at = budget.dropped_at, now
    counters.limits_reached[limit] += before != now
    if before is not None and now - before <= _QUIET:
        return None
    why = (
        "It takes less than it is sent: messages of QoS 0 for it are dropped, above a quarter of what it may"
    )
    return reached_limit(f"{why} hold ({_named(limit, limits)}).", limits.location(limit))


def too_long(limits: Limits, counters: Counters) -> Report:
    """A device sent a longer packet than it may, and its connection ends."""
    limit = CountedLimit.PACKET_SIZE
    counters.limits_reached[limit] += 1
    why = f"It sent a longer packet than it may, and its connection ended ({_named(limit, limits)})."
    return reached_limit(why, limits.location(limit))


def refused_length(size: int, most: int, bus_takes: int, limits: Limits) -> PacketTooLarge:
    """The error for a packet of `size` bytes where `most` may pass: by packet_size, or by the bus's limit."""
    words = f"a packet of {size:,} bytes, and"
    limit = CountedLimit.PACKET_SIZE
    if most == limits.packet_size:
        return PacketOverLimit(f"{words} {_named(limit, limits)} ({limits.location(limit)})")
    return PacketTooLarge(f"{words} the bus takes {bus_takes:,} (its max_packet_size)")


def too_many_filters(limits: Limits, counters: Counters) -> str:
    """Why a device may have no further subscription, for the report on its SUBSCRIBE."""
    limit = CountedLimit.SUBSCRIPTIONS
    counters.limits_reached[limit] += 1
    holder = "session" if limits.subscriptions_in_all is None else "device"
    return f"The {holder} holds as many subscriptions as it may ({_named(limit, limits)})."


def too_many_connections(limits: Limits, counters: Counters) -> str:
    """A device has as many connections as it may: why one is refused, or ends."""
    limit = CountedLimit.CONNECTIONS_PER_DEVICE
    counters.limits_reached[limit] += 1
    return f"as many connections as the device may have ({_named(limit, limits)}, {limits.location(limit)})"


def _named(limit: CountedLimit, limits: Limits) -> str:
    return f"{limit} = {getattr(limits, limit):,}"
