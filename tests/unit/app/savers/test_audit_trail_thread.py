"""What waits for the trail: bounded, in order, signed, and told when it can't be written."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import threading
from types import SimpleNamespace

import pytest
from harness import virtual_time
from harness.background_tasks import beside, until
from harness.trails import DAY, ORIGIN, SEED, Clock, verified

from gateway.admin import devices
from gateway.app.admin_event_reporting import AdminEventReporter
from gateway.app.savers import audit_trail_thread as module
from gateway.app.savers.audit_trail_thread import AuditTrail
from gateway.audit_trail import writer as writer_module
from gateway.audit_trail.errors import TrailError
from gateway.audit_trail.segments import OpenSegment, decoded, entries_from
from gateway.audit_trail.writer import Trail
from gateway.connection.audit_vocabulary import HOUSE, Source, changed_gateway
from gateway.connection.process_counters import Counters
from gateway.observe.audit_dispatch import Audit, AuditEvent, AuditLog
from gateway.observe.health_check_scheduler import Health, State
from gateway.observe.logs import configure
from gateway.observe.save_failures import Saves
from gateway.observe.trail_entry import entry_line
from gateway.store import EventNotKept, StoreError, open_store


class World:
    """A trail with all that stands round it, but for a gateway."""

    def __init__(self, folder, store):
        self.folder, self.store = folder, store
        self.clock, self.counters, self.saves = Clock(), Counters(), Saves()
        self.fresh()

    def fresh(self):
        """As a new process has it."""
        files = Trail(self.folder, SEED, ORIGIN, entry_line, self.clock)
        self.trail = AuditTrail(
            files,
            self.store,
            "node-1",
            counters=self.counters,
            retention=30 * DAY // 1_000,
            now=self.clock,
            saves=self.saves,
        )
        self.log = AuditLog(self.counters, self.clock, keep=self.trail.keep)
        self.audit = Audit(self.counters, self.log)
        self.admin = AdminEventReporter(self.store, self.audit, self.saves, self.trail)

    def report(self, what):
        self.audit.emit(AuditEvent.of(what, HOUSE, self.clock()))

    async def open(self):
        await self.trail.open(self.report)
        return self

    def entries(self):
        return [decoded(line) for _, line in entries_from(self.folder / "entries", 0)]

    def reasons(self):
        return [one["reason"] for one in self.entries()]


@pytest.fixture
async def world(tmp_path):
    store = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    await store.devices.add("lamp-1", credential="c", roles=[], labels={})
    made = await World(tmp_path / "audit", store).open()
    yield made
    await made.trail.close()
    await store.close()


def fields(number, **more):
    return {"time": 1, "kind": "publish", "outcome": "refused", "reason": f"{number}"} | more


def full():
    """A disk on which nothing can be written."""

    def append(self, lines):
        raise OSError(errno.ENOSPC, "No space left on device", str(self.segment.path))

    patch = pytest.MonkeyPatch()
    patch.setattr(OpenSegment, "append", append)
    patch.setattr(module, "_AGAIN_SECONDS", 0.0)
    return patch


async def test_a_trail_begins_with_an_entry_that_says_so(world):
    assert world.reasons() == [f"the trail {ORIGIN} begins"]
    world.trail.keep(fields(1), Source.DEVICE)
    assert len(world.entries()) == 1, "the data path does not wait"
    assert await world.trail.write() is True
    assert await world.trail.write() is False
    assert world.reasons()[1:] == ["1"]
    assert world.trail.size == 2


async def test_each_minute_with_changes_is_signed_told_and_known_to_the_store(world, monkeypatch):
    import structlog

    monkeypatch.setattr(module, "SIGN_SECONDS", 0.0)
    with structlog.testing.capture_logs() as lines:
        await world.trail.write()
        await world.trail.write()
    (told,) = [line for line in lines if line["event"] == "audit checkpoint"]
    assert (told["size"], told["trail"]) == (1, ORIGIN)
    assert (await world.store.audit_trails.read("node-1")).note == told["note"]
    assert world.trail.checkpoint_time == world.clock() / 1_000
    assert verified(world.folder, told["note"]).checkpoints == 2
    assert world.trail.check() == (True, "1 entries, 1 of them signed")


@pytest.mark.parametrize("level", ["info", "warning", "critical"])
async def test_a_checkpoint_leaves_the_machine_whatever_log_level_says(world, log, level):
    stream = io.StringIO()
    configure(level, stream)
    await world.trail.write()
    (line,) = [json.loads(one) for one in stream.getvalue().splitlines() if "audit checkpoint" in one]
    assert line["note"] == (world.folder / "checkpoint").read_text()
    assert (line["level"], line["size"]) == ("info", 1)


async def test_what_needs_no_look_for_events_that_wait_grows_with_each_checkpoint(world, monkeypatch):
    """Else a start looked through all since an administrator last did something, and writes waited for it."""
    monkeypatch.setattr(module, "SIGN_SECONDS", 0.0)
    known = world.store.audit_trails.read
    await world.trail.write()
    assert (await known("node-1")).looked_through == 1
    await devices.observe(world.store, "lamp-1", 60, actor="me")
    world.trail.keep(fields(1), Source.DEVICE)
    await world.trail.write()
    assert (await known("node-1")).looked_through == 1, "an event waits, and may be in any entry from here on"
    await world.admin.report()
    world.trail.keep(fields(2), Source.DEVICE)
    await world.trail.write()
    assert (await known("node-1")).looked_through == world.trail.size == 4


async def test_waiting_for_the_disk_does_not_wait_for_what_comes_later(world, monkeypatch):
    """As while a slow disk is written to without a pause."""
    write = world.trail.write

    async def stream():
        world.trail.keep(fields("later"), Source.DEVICE)
        world.trail.keep(fields("later"), Source.DEVICE)
        return await write()

    monkeypatch.setattr(module, "_AT_ONCE", 1)
    monkeypatch.setattr(world.trail, "write", stream)
    for number in range(3):
        world.trail.keep(fields(number), Source.HOUSE)
    async with asyncio.timeout(10):
        await world.trail.durable()
    assert world.reasons()[1:] == ["0", "1", "2"]


async def test_what_finds_no_place_is_counted_in_the_next_entry(world, monkeypatch):
    monkeypatch.setattr(module, "_WAITING_MAX", 3)
    monkeypatch.setattr(module, "_OF_THE_HOUSE", 1)
    for number in range(5):
        world.trail.keep(fields(number), Source.DEVICE)
    world.trail.keep(fields("left out", suppressed=40), Source.DEVICE)
    world.trail.keep(fields("house"), Source.HOUSE)
    world.trail.keep(fields("house too"), Source.HOUSE)
    world.trail.keep(fields("admin", id="a1"), Source.HOUSE)
    assert world.counters.audit_dropped == 43
    await world.trail.save()
    world.trail.keep(fields("later"), Source.DEVICE)
    await world.trail.save()
    found = world.entries()[1:]
    assert [one["reason"] for one in found] == ["0", "1", "2", "house", "admin", "later"]
    assert [one.get("dropped") for one in found] == [43, None, None, None, None, None]


async def test_a_full_disk_refuses_administrators_and_keeps_what_waits(world):
    patch = full()
    try:
        world.trail.keep(fields(1), Source.DEVICE)
        for _ in range(3):
            await world.trail.save_some()
        good, why = world.trail.check()
        assert not good
        assert "No space left on device): make room on that disk" in why
        assert not world.saves.check()[0]
        with pytest.raises(EventNotKept, match="No space left"):
            await devices.disable(world.store, "lamp-1", actor="me")
        with pytest.raises(TrailError):
            await world.trail.durable()
    finally:
        patch.undo()
    await asyncio.sleep(0)
    world.trail._again_at = float("-inf")
    await world.trail.save()
    assert world.reasons()[1:] == ["1"]
    assert world.trail.check()[0]
    assert world.saves.check()[0]
    await devices.disable(world.store, "lamp-1", actor="me")
    assert verified(world.folder).problems == []


def disk_of(monkeypatch, mib, *, free):
    """The trail lies on a disk of this many MiB."""
    found = SimpleNamespace(f_frsize=4_096, f_blocks=int(mib * 256), f_bavail=int(free * 256))
    monkeypatch.setattr(module.os, "statvfs", lambda _: found)


async def test_while_a_disk_is_nearly_full_what_devices_do_is_counted_only(world, monkeypatch):
    disk_of(monkeypatch, 10_000, free=63)
    world.trail.keep(fields("device"), Source.DEVICE)
    world.trail.keep(fields("house"), Source.HOUSE)
    await world.trail.save()
    assert world.reasons()[1:] == ["house"]
    assert world.entries()[1]["dropped"] == 1
    assert "what devices do is only counted" in world.saves.check()[1]
    disk_of(monkeypatch, 10_000, free=65)
    world.trail.keep(fields("again"), Source.DEVICE)
    await world.trail.save()
    assert world.reasons()[2:] == ["again"]
    assert world.saves.check()[0]


async def test_a_small_disk_has_room_for_what_devices_do(world, monkeypatch):
    disk_of(monkeypatch, 64, free=60)
    world.trail.keep(fields("device"), Source.DEVICE)
    await world.trail.save()
    assert world.reasons()[1:] == ["device"]
    disk_of(monkeypatch, 64, free=3)
    world.trail.keep(fields("device too"), Source.DEVICE)
    await world.trail.save()
    assert world.reasons()[2:] == []


async def test_health_says_that_what_devices_do_is_only_counted(world, monkeypatch):
    health = Health()
    health.add("audit", world.trail.check, vital=False, needed=False)
    disk_of(monkeypatch, 64, free=3)
    world.trail.keep(fields("device"), Source.DEVICE)
    await world.trail.save()
    found = health.report().checks["audit"]
    assert (found.state, found.ok) == (State.DEGRADED, True), "administrators go on"
    assert "3 MiB are left at" in found.message
    assert "what devices do is only counted there; make room" in found.message
    disk_of(monkeypatch, 64, free=4)
    await world.trail.save()
    assert health.report().checks["audit"].state is State.HEALTHY, "though no event has come since"


async def test_what_a_killed_process_left_is_signed_at_the_next_start(world):
    world.trail.keep(fields(1), Source.DEVICE)
    await world.trail.save()
    first = (world.folder / "checkpoint").read_text()
    world.trail.keep(fields(2), Source.DEVICE)
    await world.trail.save()
    assert (world.folder / "checkpoint").read_text() == first, "not twice in a minute"
    world.fresh()  # as after a SIGKILL
    await world.open()
    await world.trail.save_some()
    assert verified(world.folder, first).signed == 3
    assert verified(world.folder, first).problems == []
    assert "signed" not in world.reasons()[-1]


async def test_an_event_of_an_administrator_is_there_once_wherever_a_process_ends(world, monkeypatch):
    """Killed after the trail has it and before the store forgets it, and after many such rounds."""
    for number in range(3):
        await devices.observe(world.store, "lamp-1", 60 + number, actor="me")

    async def killed(*_):
        raise StoreError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.store.admin_events), "forget", killed)
        await world.admin.report()
        assert len(world.entries()) == 4
        for _ in range(3):
            await devices.observe(world.store, "lamp-1", 0, actor="me")
            world.trail.keep(fields("between"), Source.DEVICE)
            await world.admin.report()
        await world.trail.close()
        world.fresh()
        await world.open()
        await world.admin.report()
    assert await world.store.admin_events.waiting() != []
    await world.trail.close()
    world.fresh()
    await world.open()
    await world.admin.report()
    assert await world.store.admin_events.waiting() == []
    ids = [one["id"] for one in world.entries() if one["kind"] == "device"]
    assert len(ids) == len(set(ids)) == 6
    assert (await world.store.audit_trails.read("node-1")).looked_through == world.trail.size


async def test_an_event_that_the_trail_does_not_have_is_not_forgotten(world):
    patch = full()
    try:
        await devices.disable(world.store, "lamp-1", actor="me")
        await world.admin.report()
        await world.admin.report()
        assert len(await world.store.admin_events.waiting()) == 1
    finally:
        patch.undo()
    world.trail._again_at = float("-inf")
    await world.admin.report()
    assert await world.store.admin_events.waiting() == []
    assert world.reasons()[1:] == ["disabled"]


async def test_a_write_that_a_stop_did_not_wait_for_is_not_done_twice(world, monkeypatch):
    began, go_on, append = threading.Event(), threading.Event(), OpenSegment.append

    def slow(self, lines):
        began.set()
        go_on.wait(10)
        append(self, lines)

    monkeypatch.setattr(OpenSegment, "append", slow)
    world.trail.keep(fields(1), Source.DEVICE)
    writing = asyncio.ensure_future(world.trail.write())
    await asyncio.to_thread(began.wait, 10)
    writing.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    world.trail.keep(fields(2), Source.DEVICE)
    await world.trail.close()
    assert world.reasons()[1:] == ["1", "2"]
    assert verified(world.folder).problems == []
    assert verified(world.folder).signed == 3
    world.fresh()


async def test_a_clock_that_was_set_is_told(world):
    await world.trail.write()
    world.clock.now += 3_600_000
    await world.trail.save()
    world.clock.now -= 7_200_000
    await world.trail.save()
    assert world.reasons()[1:] == ["the clock was set by +3600 s", "the clock was set by -7200 s"]


async def test_what_is_too_old_is_dropped_after_it_was_said(world, monkeypatch):
    monkeypatch.setattr(module, "_DROP_SECONDS", 0.0)
    monkeypatch.setattr(module, "SIGN_SECONDS", 0.0)
    monkeypatch.setattr(writer_module, "_SEGMENT_SECONDS_MIN", -1.0)
    monkeypatch.setattr(module, "_JUMP_MS", 2**62)
    for number in range(3):
        world.trail.keep(fields(number, time=world.clock()), Source.DEVICE)
        await world.trail.save()
        world.clock.now += DAY
    world.clock.now += 29 * DAY
    await world.trail._drop_what_is_old()
    await world.trail.save()
    found = world.entries()
    assert [one["reason"] for one in found][:1] == ["1"], "the oldest day is gone, and that one only"
    said = next(one for one in found if "kept_from" in one)
    assert said["kept_from"] == 2
    assert "older than AUDIT_RETENTION" in said["reason"]
    assert verified(world.folder).problems == []


async def test_nothing_is_deleted_before_it_is_signed_that_it_was_too_old(world, monkeypatch):
    """An hour later it tries again."""
    monkeypatch.setattr(module, "_DROP_SECONDS", 0.0)
    monkeypatch.setattr(writer_module, "_SEGMENT_SECONDS_MIN", -1.0)
    monkeypatch.setattr(module, "_JUMP_MS", 2**62)
    for number in range(2):
        world.trail.keep(fields(number, time=world.clock()), Source.DEVICE)
        await world.trail.save()
        world.clock.now += DAY
    world.clock.now += 30 * DAY
    world.trail._signed_at = float("-inf")
    await world.trail.save()
    with monkeypatch.context() as patch:
        patch.setattr(Trail, "sign", lambda _: None)
        await world.trail._drop_what_is_old()
        assert world.reasons()[0].endswith("begins")
        assert "kept_from" in world.entries()[-1]
    assert verified(world.folder).problems == []
    await world.trail._drop_what_is_old()
    assert world.reasons()[0] == "1"
    assert verified(world.folder).problems == []


async def test_repairs_are_told_in_the_trail(world):
    world.report(changed_gateway("starts"))
    await world.trail.close()
    path = next((world.folder / "entries").iterdir())
    path.write_bytes(path.read_bytes() + b'{"seq"')
    world.fresh()
    await world.open()
    await world.trail.save()
    assert world.reasons()[-1] == "6 bytes that were no whole entry are cut off after entry 1"


async def test_a_trail_that_can_not_be_opened_lets_the_gateway_start(tmp_path):
    store = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    (tmp_path / "audit").write_text("a file")
    world = await World(tmp_path / "audit", store).open()
    good, why = world.trail.check()
    assert not good
    assert str(tmp_path / "audit") in why
    assert json.dumps(why)
    world.trail.keep(fields(1), Source.DEVICE)
    await world.trail.close()
    await store.close()


async def test_an_event_is_written_soon_though_nothing_came_for_long(world):
    """While nothing waits the trail looks once a second; what comes waits for none of that."""
    async with beside(world.trail.run()):
        await asyncio.sleep(0.5)
        began = asyncio.get_running_loop().time()
        world.trail.keep(fields(7), Source.DEVICE)
        await until(lambda: world.trail.size == 2)
        assert asyncio.get_running_loop().time() - began < 1


def test_what_comes_is_written_within_a_quarter_of_a_second_and_else_it_looks_once_a_second(tmp_path):
    async def scene():
        trail = World(tmp_path / "audit", None).trail
        saves = []

        async def save_some():
            saves.append(len(trail._waiting))
            trail._waiting.clear()
            return bool(saves[-1])

        trail.save_some = save_some
        async with beside(trail.run()):
            await asyncio.sleep(60.05)
            assert saves == [0] * 60
            for number in range(40):
                trail.keep(fields(number), Source.DEVICE)
                await asyncio.sleep(0.23)
                assert not trail._waiting
            assert sum(saves) == 40

    virtual_time.run(scene())
