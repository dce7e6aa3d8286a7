"""A process that may be running twice draws its nonces anew: two machines resumed from one snapshot part."""

from __future__ import annotations

import asyncio
import copy
import os
from dataclasses import replace

import pytest
import structlog
from harness import virtual_time
from harness.background_tasks import beside

from gateway.app import vm_clone_detection
from gateway.app.vm_clone_detection import (
    Reading,
    SnapshotWatch,
    Sources,
    random_bytes,
    resumed,
    watched_nonces,
)
from gateway.keys.key_ring import Key, KeyRing, KeyState, Nonces

SECOND = 1_000_000_000
BEFORE = Reading(
    "boot-1", b"marker-1", wall=1_800_000_000 * SECOND, running=500 * SECOND, elapsed=500 * SECOND
)


def later(seconds: float, *, wall: float = 0, elapsed: float = 0, **changed: object) -> Reading:
    """As `BEFORE`, later; the clocks ahead of the monotonic one by so many seconds more."""
    passed = int(seconds * SECOND)
    moved = replace(
        BEFORE,
        wall=BEFORE.wall + passed + int(wall * SECOND),
        running=BEFORE.running + passed,
        elapsed=BEFORE.elapsed + passed + int(elapsed * SECOND),
    )
    return replace(moved, **changed)


SIGNS = {
    "another boot": later(0.25, boot_id="boot-2"),
    "the hypervisor's marker": later(0.25, marker=b"marker-2"),
    "a marker that comes": later(0.25, marker=b"something longer"),
    "a marker that goes": later(0.25, marker=b""),
    "the wall clock is put right": later(0.25, wall=3_600),
    "by little": later(0.25, wall=0.2),
    "it goes back": later(0.25, wall=-0.2),
    "another machine's monotonic clock": later(-400, wall=400),
    "a machine that slept": later(0.25, elapsed=60, wall=60),
    "one whose wall clock slept with it": later(0.25, elapsed=60),
    "a process that stood still": later(30),
}
NO_SIGNS = {
    "a quarter of a second": later(0.25),
    "no time": later(0),
    "clocks that drift": later(0.25, wall=0.000_5, elapsed=0.000_01),
    "a leap second, smeared": later(1, wall=0.011),
    "a loop that was busy": later(1.5),
}


@pytest.mark.parametrize("sign", SIGNS)
def test_what_says_that_it_may_run_twice(sign):
    assert resumed(BEFORE, SIGNS[sign])


@pytest.mark.parametrize("sign", NO_SIGNS)
def test_what_says_nothing(sign):
    assert resumed(BEFORE, NO_SIGNS[sign]) is None


def test_what_is_read_here():
    sources = Sources()
    first = sources.reading()
    assert len(first.boot_id.strip()) == 36
    assert sources.reading().boot_id == first.boot_id
    assert resumed(first, sources.reading()) is None


def test_what_can_not_be_read_is_no_fault(monkeypatch, tmp_path):
    monkeypatch.setattr(vm_clone_detection, "_BOOT_ID", tmp_path / "none")
    monkeypatch.setattr(vm_clone_detection, "_VM_CLOCK", tmp_path)
    sources = Sources()
    assert (sources.reading().boot_id, sources.reading().marker) == ("", b"")
    clock = tmp_path / "vmclock0"
    clock.write_bytes(b"VCLK" + bytes(12) + b"\1\2\3\4\5\6\7\x08" + bytes(100))
    monkeypatch.setattr(vm_clone_detection, "_VM_CLOCK", clock)
    sources = Sources()
    assert sources.reading().marker == b"\1\2\3\4\5\6\7\x08"
    with clock.open("r+b") as file:
        file.seek(16)
        file.write(b"another!")
    assert sources.reading().marker == b"another!", "a file that is kept open is read anew"


def test_a_source_that_comes_later_is_read_from_then_on(monkeypatch, tmp_path):
    monkeypatch.setattr(vm_clone_detection, "_VM_CLOCK", tmp_path / "vmclock0")
    sources = Sources()
    before = sources.reading()
    (tmp_path / "vmclock0").write_bytes(bytes(16) + b"a marker")
    assert resumed(before, sources.reading()) == "the hypervisor says that the machine was resumed or moved"


def ring(nonces: Nonces) -> KeyRing:
    return KeyRing([Key("k1", bytes(32), KeyState.ACTIVE, 0)], nonces, {})


def test_it_draws_anew_once_for_each_sign_and_says_why():
    ours = ring(Nonces(random_bytes))
    readings = iter(
        [BEFORE, later(0.25), later(0.5, wall=9), later(0.75, wall=9), later(1, wall=9, boot_id="b")]
    )
    watch = SnapshotWatch(ours.renew_nonces, read=lambda: next(readings))
    fields, told = [], []
    for _ in range(4):
        told.append(watch.look())
        fields.append(ours.encrypt(b"", b"")[:8])
    assert [bool(why) for why in told] == [False, True, False, True]
    assert fields[1] == fields[2]
    assert len(set(fields)) == 3


def test_two_machines_resumed_from_one_snapshot_part_at_the_first_look(monkeypatch):
    """Even if their kernels' generators are in the same state: the clocks are stirred in."""
    monkeypatch.setattr(os, "urandom", bytes)
    frozen = ring(Nonces(random_bytes))
    machines = [copy.copy(frozen), copy.copy(frozen)]
    for machine in machines:
        machine._nonces = copy.copy(frozen._nonces)
    assert len({machine.encrypt(b"", b"")[:12] for machine in machines}) == 1, "that is the danger"
    for machine, awake in zip(machines, (later(0.25, wall=60), later(0.25, wall=61)), strict=True):
        readings = iter([BEFORE, awake])
        SnapshotWatch(machine.renew_nonces, read=lambda: next(readings)).look()  # noqa: B023 - called at once
    drawn = [machine.encrypt(b"", b"")[:12] for machine in machines]
    assert len({nonce[:8] for nonce in drawn}) == 2
    assert [nonce[8:] for nonce in drawn] == [bytes(4)] * 2


def test_random_bytes_are_so_many_and_never_the_same():
    assert len({random_bytes(8) for _ in range(1_000)}) == 1_000
    assert {len(random_bytes(count)) for count in (8, 32)} == {8, 32}


class Machine:
    """A gateway's nonces and what watches over them, in a machine whose clocks go with the loop's."""

    def __init__(self, monkeypatch) -> None:
        self.looks, self.slept = 0, 0.0
        monkeypatch.setattr(Sources, "reading", lambda _: self.reading())
        self.nonces, self.watch = watched_nonces()
        self.ring = ring(self.nonces)
        self.looks = 0

    def reading(self) -> Reading:
        self.looks += 1
        return later(asyncio.get_running_loop().time(), elapsed=self.slept)

    def field(self) -> bytes:
        return self.ring.encrypt(b"", b"")[:8]


def test_none_is_sealed_before_a_look_and_an_idle_process_looks_once_a_second(monkeypatch):
    async def scene() -> None:
        machine = Machine(monkeypatch)
        async with beside(machine.watch.run()):
            await asyncio.sleep(60.05)
            assert machine.looks == 61, "one at its begin"
            before = machine.field()
            assert machine.looks == 62, "the first after a rest looks"
            for _ in range(1_000):
                assert machine.field() == before
            assert machine.looks == 62, "the next follow a look that was just made"

    virtual_time.run(scene())


def test_what_seals_without_end_looks_as_often_as_before(monkeypatch):
    async def scene() -> None:
        machine = Machine(monkeypatch)
        async with beside(machine.watch.run()):
            loop = asyncio.get_running_loop()
            looked, longest, field = loop.time(), 0.0, machine.field()
            for _ in range(3_000):
                await asyncio.sleep(0.01)
                before = machine.looks
                assert machine.field() == field
                if machine.looks > before:
                    looked = loop.time()
                longest = max(longest, loop.time() - looked)
            assert longest < 0.23
            assert 5 * 30 < machine.looks <= 2 * 5 * 31

    virtual_time.run(scene())


@pytest.mark.parametrize("rest", [0.3, 0.9, 5.0])
def test_after_a_rest_the_first_nonce_of_a_machine_that_was_resumed_is_of_a_new_field(monkeypatch, rest):
    async def scene() -> None:
        machine = Machine(monkeypatch)
        async with beside(machine.watch.run()):
            before = machine.field()
            await asyncio.sleep(rest)
            assert machine.field() == before
            await asyncio.sleep(rest)
            machine.slept += 60
            assert machine.field() != before

    virtual_time.run(scene())


def test_a_look_that_fails_gives_no_nonce(monkeypatch):
    async def scene() -> None:
        machine = Machine(monkeypatch)
        monkeypatch.setattr(Sources, "reading", lambda _: 1 / 0)
        nonces, _ = machine.nonces, machine.watch
        machine.watch._read = Sources().reading
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                nonces.next()

    virtual_time.run(scene())


def test_a_start_that_took_long_is_not_told(monkeypatch):
    async def scene() -> None:
        machine = Machine(monkeypatch)
        virtual_time.loop().stall(60)
        with structlog.testing.capture_logs() as told:
            async with beside(machine.watch.run()):
                await asyncio.sleep(10)
        assert told == []

    virtual_time.run(scene())
