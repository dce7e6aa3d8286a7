"""The writer: what is kept, in which files, and what it finds when it comes back."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from harness.full_disk import no_more_bytes
from harness.trails import DAY, NOON, ORIGIN, Clock, event, key_of, made, trail_in, verified

from gateway.audit_trail import segments as segments_module
from gateway.audit_trail import writer as writer_module
from gateway.audit_trail.checkpoints import SigningKey
from gateway.audit_trail.errors import TrailDamaged, TrailError


def lines(folder):
    return [
        json.loads(line)
        for path in sorted((folder / "entries").iterdir())
        for line in path.read_bytes().split(b"\n")[:-1]
    ]


def test_entries_are_numbered_lines_and_the_next_start_goes_on(tmp_path):
    for _ in range(3):
        trail = trail_in(tmp_path)
        trail.append([event(trail.size), event(trail.size + 1)])
        trail.close()
    assert [line["seq"] for line in lines(tmp_path)] == list(range(6))
    assert lines(tmp_path)[5] == {"seq": 5} | event(5)
    assert verified(tmp_path).problems == []
    assert (tmp_path / "entries").stat().st_mode & 0o077 == 0


def test_checkpoints_are_signed_when_something_came(tmp_path):
    trail = trail_in(tmp_path)
    assert trail.sign() is None
    trail.append([event(0)])
    note = trail.sign()
    assert trail.sign() is None
    assert (tmp_path / "checkpoint").read_text() == note
    found = key_of(tmp_path).verified(note)
    assert (found.origin, found.size) == (ORIGIN, 1)


def test_what_was_dropped_is_counted_in_the_next_entry(tmp_path):
    trail = trail_in(tmp_path)
    trail.append([event(0), event(1)], lost_before=17)
    trail.append([event(2)])
    assert [line.get("dropped") for line in lines(tmp_path)] == [17, None, None]


def test_a_segment_ends_when_it_is_full_and_with_the_day(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "SEGMENT_ENTRIES_MAX", 10)
    clock = Clock()
    trail = trail_in(tmp_path, clock)
    trail.append([event(number) for number in range(25)])
    assert sorted(path.name for path in (tmp_path / "entries").iterdir()) == [
        f"{first:016}.jsonl" for first in (0, 10, 20)
    ]
    clock.now += DAY
    trail.append([event(25)])
    assert len(list((tmp_path / "entries").iterdir())) == 3, "not at once: a clock may jump to and fro"
    monkeypatch.setattr(writer_module, "_SEGMENT_SECONDS_MIN", 0)
    trail.append([event(26, time=clock.now)])
    assert len(list((tmp_path / "entries").iterdir())) == 4
    trail.close()
    assert verified(tmp_path).problems == []
    again = trail_in(tmp_path, clock)
    again.append([event(27)])
    assert len(list((tmp_path / "entries").iterdir())) == 4


def test_a_torn_line_is_cut_off_and_told(tmp_path):
    made(tmp_path, 5)
    (path,) = (tmp_path / "entries").iterdir()
    with path.open("ab") as file:
        file.write(b'{"seq":5,"time":17')
    assert "no whole entry" in verified(tmp_path).notes[0]
    trail = trail_in(tmp_path)
    assert trail.size == 5
    assert trail.repairs == ["18 bytes that were no whole entry are cut off after entry 4"]
    trail.append([event(5)])
    assert [line["seq"] for line in lines(tmp_path)] == list(range(6))
    assert verified(tmp_path).problems == []


def test_nothing_counts_before_it_is_synced(tmp_path, monkeypatch):
    """The order of docs/adr/0016: entries, then their hashes; the tree, then the checkpoint over it."""
    done, fsync, pwrite, rename = [], os.fsync, os.pwrite, Path.rename

    def name(file):
        return Path(f"/proc/self/fd/{file}").readlink().relative_to(tmp_path).as_posix()

    monkeypatch.setattr(os, "fsync", lambda file: (done.append(f"sync {name(file)}"), fsync(file)))
    monkeypatch.setattr(
        os, "pwrite", lambda file, *what: (done.append(f"write {name(file)}"), pwrite(file, *what))[1]
    )
    monkeypatch.setattr(Path, "rename", lambda path, to: (done.append(f"put {to.name}"), rename(path, to))[1])
    trail = trail_in(tmp_path)
    trail.append([event(0)])
    done.clear()
    trail.append([event(1)])
    segment = f"entries/{0:016}.jsonl"
    assert done == [f"write {segment}", f"sync {segment}", "write tree/0"]
    done.clear()
    trail.sign()
    assert done == ["sync tree/0", "sync .checkpoint.new", "put checkpoint", "sync ."]


@pytest.mark.parametrize("junk", [b"\x00" * 4_096, b'{"seq":9}\n', b"\n", b"{}\n[]\n", b'{"seq":5.5}\n'])
def test_what_a_power_cut_may_leave_is_cut_off(tmp_path, junk):
    made(tmp_path, 5)
    (path,) = (tmp_path / "entries").iterdir()
    with path.open("ab") as file:
        file.write(junk)
    trail = trail_in(tmp_path)
    assert trail.size == 5
    assert f"{len(junk)} bytes" in trail.repairs[0]
    trail.append([event(5)])
    trail.sign()
    trail.close()
    assert (verified(tmp_path).problems, verified(tmp_path).notes) == ([], [])


def test_what_came_after_the_newest_checkpoint_is_taken_with_hashes_made_anew(tmp_path):
    made(tmp_path, 300)
    trail = trail_in(tmp_path)
    trail.append([event(number) for number in range(300, 700)])
    trail.close()
    for level, count in (("0", 512), ("1", 2)):  # as if nothing since was synced
        os.truncate(tmp_path / "tree" / level, min(count, 300) * 32 if level == "0" else 32)
    again = trail_in(tmp_path)
    assert again.size == 700
    again.sign()
    assert verified(tmp_path).problems == []
    assert again.repairs == []


def test_an_unsigned_entry_that_was_changed_while_nobody_ran_is_told(tmp_path):
    made(tmp_path, 3)
    trail = trail_in(tmp_path)
    trail.append([event(3), event(4)])
    trail.close()
    (path,) = (tmp_path / "entries").iterdir()
    path.write_bytes(path.read_bytes().replace(b"because 4", b"because 7"))
    assert trail_in(tmp_path).repairs == [
        "entry 4, not signed yet, is not what was hashed: it was changed, or a disk failed"
    ]


def test_a_disk_that_is_full_leaves_the_trail_as_it_was(tmp_path):
    made(tmp_path, 5)
    trail = trail_in(tmp_path)
    (path,) = (tmp_path / "entries").iterdir()
    with no_more_bytes(path.stat().st_size + 50):
        for _ in range(2):
            with pytest.raises(TrailError, match=r"can't be written \(File too large\): raise the limit"):
                trail.append([event(5), event(6)], lost_before=3)
            assert trail.size == 5
    trail.append([event(5), event(6)], lost_before=3)
    trail.sign()
    assert [line["seq"] for line in lines(tmp_path)] == list(range(7))
    assert [line.get("dropped") for line in lines(tmp_path)][5:] == [3, None]
    assert verified(tmp_path).problems == []


@pytest.mark.parametrize("fails", ["fsync", "pwrite"])
@pytest.mark.parametrize("after", range(4))
def test_wherever_a_write_fails_all_of_it_is_undone(tmp_path, monkeypatch, fails, after):
    monkeypatch.setattr(writer_module, "SEGMENT_ENTRIES_MAX", 4)
    made(tmp_path, 2)
    trail = trail_in(tmp_path)
    calls, real = 0, getattr(os, fails)

    def failing(*args):
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, failing)
        try:
            trail.append([event(number) for number in range(2, 11)])
        except TrailError:
            assert trail.size == 2
    first = trail.size
    trail.append([event(number) for number in range(first, 12)])
    trail.sign()
    trail.close()
    assert [line["seq"] for line in lines(tmp_path)] == list(range(12))
    assert verified(tmp_path).problems == []


def test_files_that_were_taken_away_under_it_are_not_written_on(tmp_path):
    trail = trail_in(tmp_path)
    trail.append([event(0)])
    for _ in range(2):
        (tmp_path / "entries").rename(tmp_path / "elsewhere")
        for _ in range(2):
            with pytest.raises(TrailError, match="taken away while it was in use: put it back"):
                trail.append([event(1)])
        (tmp_path / "elsewhere").rename(tmp_path / "entries")
        trail.append([event(trail.size)])
    assert [line["seq"] for line in lines(tmp_path)] == [0, 1, 2]
    (path,) = (tmp_path / "entries").iterdir()
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(TrailError, match="put it back"):
        trail.append([event(3)])
    with pytest.raises(TrailDamaged, match="lost entries 0 to 2 while it was in use"):
        trail.append([event(3)])


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (
            lambda folder: os.truncate(next((folder / "entries").iterdir()), 100),
            "ends after entry 0, and 300",
        ),
        (
            lambda folder: next((folder / "entries").iterdir()).unlink(),
            "is empty, and 300 entries were signed",
        ),
        (lambda folder: os.truncate(folder / "tree" / "0", 64), "hashes of 2 entries, and 300 were signed"),
        (lambda folder: (folder / "tree" / "0").write_bytes(bytes(300 * 32)), "not those that were signed"),
        (
            lambda folder: (folder / "checkpoint").write_text("nonsense"),
            "is not valid: it is no checkpoint",
        ),
        (lambda folder: (folder / "key.pub").write_text("nonsense"), "a different one"),
        (lambda folder: (folder / "checkpoint").write_bytes(b"\xff"), "is not valid"),
    ],
)
def test_what_is_not_as_it_was_signed_is_never_written_on(tmp_path, break_it, says):
    made(tmp_path, 300)
    break_it(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for _ in range(2):
        with pytest.raises(TrailDamaged, match=says) as raised:
            trail_in(tmp_path)
        assert "put it back" in str(raised.value) or "as it was, or move it away" in str(raised.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_key_does_not_sign_this_trail(tmp_path):
    made(tmp_path, 3)
    with pytest.raises(TrailDamaged, match=r"different|not signed by the key"):
        trail_in(tmp_path, seed=bytes(32))


def test_a_trail_that_is_gone_is_followed_by_one_with_another_name(tmp_path):
    (note,) = made(tmp_path / "old", 3)
    for number in (2, 3):
        trail = writer_module.Trail(tmp_path / str(number), bytes(32), "x/y", lambda *_: b"{}", Clock())
        trail.expect(note)
        trail.open()
        assert trail.is_new
        assert trail.origin == f"{ORIGIN}/{number}"
        note = SigningKey(trail.origin, bytes(32)).sign(1, bytes(32))


def test_a_trail_is_held_against_the_checkpoint_that_the_store_has(tmp_path):
    notes = made(tmp_path / "a", 3, 9)
    made(tmp_path / "short", 3)
    for folder, says in (("short", "it has 3 entries, and the store has a checkpoint over 9"),):
        trail = writer_module.Trail(tmp_path / folder, bytes(range(32)), ORIGIN, lambda *_: b"", Clock())
        trail.expect(notes[1])
        with pytest.raises(TrailDamaged, match=says):
            trail.open()
    other = SigningKey(ORIGIN, bytes(range(32))).sign(9, bytes(32))
    foreign = SigningKey("gateway-2/node", bytes(32)).sign(9, bytes(32))
    for note, says in ((other, "is a different trail"), (foreign, "is of another trail: gateway-2/node")):
        trail = writer_module.Trail(tmp_path / "a", bytes(range(32)), ORIGIN, lambda *_: b"", Clock())
        trail.expect(note)
        with pytest.raises(TrailDamaged, match=says):
            trail.open()
    trail = writer_module.Trail(tmp_path / "a", bytes(range(32)), ORIGIN, lambda *_: b"", Clock())
    trail.expect(notes[0])
    trail.open()


def test_old_days_are_dropped_one_at_a_time_and_their_hashes_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "_SEGMENT_SECONDS_MIN", 0)
    monkeypatch.setattr(writer_module, "SEGMENT_ENTRIES_MAX", 2)
    clock = Clock()
    trail = trail_in(tmp_path, clock)
    for _ in range(3):
        trail.append([event(0, time=clock.now) for _ in range(3)])
        clock.now += DAY
    assert trail.oldest_day(NOON + DAY) == [], "not signed yet"
    trail.sign()
    assert [one.first for one in trail.oldest_day(NOON + 2 * DAY)] == [0, 2], "the clock stands at day 3"
    assert [one.first for one in trail.oldest_day(NOON + DAY)] == [0], "the next one began at that moment"
    old = trail.oldest_day(NOON + DAY + 1)
    kept_from = trail.first_after(old)
    assert kept_from == 3
    trail.append([{**event(9), "kind": "audit", "kept_from": kept_from}])
    trail.sign()
    trail.delete(old)
    trail.close()
    verdict = verified(tmp_path)
    assert (verdict.problems, verdict.first, verdict.size) == ([], 3, 10)
    assert "entries before 3 were dropped" in verdict.notes[0]
    assert [one.first for one in trail_in(tmp_path, clock).oldest_day(NOON + 3 * DAY)] == [3, 5]


def in_segments_of(tmp_path, monkeypatch, *times):
    """A signed trail with a segment for each of these times, and its clock."""
    monkeypatch.setattr(writer_module, "_SEGMENT_SECONDS_MIN", -1)
    clock = Clock()
    trail = trail_in(tmp_path, clock)
    for number, time in enumerate(times):
        clock.now = time
        trail.append([event(number, time=time)])
    trail.sign()
    return trail, clock


def firsts(segments):
    return [one.first for one in segments]


def test_a_clock_that_stood_in_the_future_keeps_nothing_for_ever(tmp_path, monkeypatch):
    """Neither its segment nor those after it, and what came before goes as if nothing had been."""
    in_2099 = NOON + 74 * 365 * DAY
    trail, clock = in_segments_of(
        tmp_path, monkeypatch, NOON, in_2099, NOON + DAY, NOON + 2 * DAY, NOON + 3 * DAY
    )
    for oldest in ([0], [1], [2]):
        clock.now += 30 * DAY
        old = trail.oldest_day(clock.now - 10 * DAY)
        assert firsts(old) == oldest
        trail.append([event(9, kind="audit", time=clock.now, kept_from=trail.first_after(old))])
        trail.sign()
        trail.delete(old)
    assert verified(tmp_path).problems == []


def test_what_was_written_before_a_clock_was_set_is_as_young_as_what_came_after(tmp_path, monkeypatch):
    """It stood in 1970, at the first boot or a later one; or where it had stopped years before."""
    trail, clock = in_segments_of(tmp_path / "first", monkeypatch, 60_000, NOON, NOON + DAY)
    assert trail.oldest_day(clock.now - 30 * DAY) == []
    assert firsts(trail.oldest_day(NOON + 1)) == [0]
    trail, clock = in_segments_of(
        tmp_path / "later", monkeypatch, NOON, 60_000, NOON + DAY, NOON + 2 * DAY, NOON + 900 * DAY
    )
    assert trail.oldest_day(NOON - 30 * DAY) == []
    assert firsts(trail.oldest_day(NOON + 1)) == [0]
    (tmp_path / "later" / "entries" / f"{0:016}.jsonl").unlink()
    assert trail.oldest_day(NOON + DAY) == [], "of 1970, and the next one began then"
    assert firsts(trail.oldest_day(NOON + DAY + 1)) == [1]


def test_a_segment_whose_end_can_not_be_read_goes_with_the_next_one(tmp_path, monkeypatch):
    trail, _ = in_segments_of(tmp_path, monkeypatch, NOON, NOON + DAY, NOON + 2 * DAY)
    (tmp_path / "entries" / f"{0:016}.jsonl").write_bytes(b"\x00" * 100 + b"\n")
    assert trail.oldest_day(NOON + DAY) == []
    assert firsts(trail.oldest_day(NOON + DAY + 1)) == [0]


def test_a_long_entry_fits_into_a_bundle(tmp_path):
    trail = trail_in(tmp_path)
    trail.append([event(0) | {f"field_{number}": "\U0001f600\x85" * 600 for number in range(60)}])
    (line,) = lines(tmp_path)
    assert line["shortened"] is True
    assert len(next((tmp_path / "entries").iterdir()).read_bytes()) <= 65_536


def test_full_segments_are_not_larger_than_they_say():
    assert writer_module.SEGMENT_ENTRIES_MAX == segments_module.SEGMENT_ENTRIES_MAX == 65_536
