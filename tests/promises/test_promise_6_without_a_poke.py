"""Promise 6 without the poke: a command that is killed right after its commit acts within a second."""

from __future__ import annotations

import time

from harness.device import code_of, join
from harness.enrol import in_store

from gateway.store import Store


def test_a_change_that_nobody_poked_acts_within_a_second(gateway):
    gateway.add_device("lamp-1")
    with join(gateway, "lamp-1", v5=True) as device:
        in_store(gateway, lambda store: store.devices.set_enabled("lamp-1", enabled=False))
        committed = time.monotonic()
        assert code_of(device.ended(5.0)) == 0x87
        assert time.monotonic() - committed < 1.0


def test_two_commits_in_one_tick_of_the_file_clock_are_both_found(gateway):
    """The second may leave the mark as it was: the store is asked once more."""
    for name in ("lamp-1", "lamp-2"):
        gateway.add_device(name)

    async def disable_both(store: Store) -> None:
        await store.devices.set_enabled("lamp-1", enabled=False)
        await store.devices.set_enabled("lamp-2", enabled=False)

    with join(gateway, "lamp-1", v5=True) as one, join(gateway, "lamp-2", v5=True) as two:
        in_store(gateway, disable_both)
        committed = time.monotonic()
        assert code_of(one.ended(5.0)) == 0x87
        assert code_of(two.ended(5.0)) == 0x87
        assert time.monotonic() - committed < 1.0
