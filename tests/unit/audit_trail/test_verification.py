"""Tampering: whatever single change somebody makes is found, and said in words."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from harness.trails import NOON, ORIGIN, SEED, Clock, event, key_of, made, trail_in, verified
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.audit_trail import writer as writer_module
from gateway.audit_trail.errors import TrailDamaged, TrailError
from gateway.audit_trail.merkle import leaf_hash
from gateway.audit_trail.segments import OpenSegment, segments_of
from gateway.audit_trail.tree_files import TreeFiles
from gateway.audit_trail.verification import verify
from gateway.audit_trail.writer import Trail
from gateway.observe.trail_entry import entry_line

SIZE = 700


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A trail of 700 entries in three segments, with checkpoints over 300 and all of them."""
    folder = tmp_path_factory.mktemp("trail")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer_module, "SEGMENT_ENTRIES_MAX", 256)
        notes = made(folder, 300, SIZE)
    return folder, notes


@pytest.fixture
def trail(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "audit")
    return tmp_path / "audit"


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "entries").iterdir())


def rewrite(path: Path, change) -> None:
    lines = path.read_bytes().split(b"\n")[:-1]
    change(lines)
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def test_a_whole_trail_has_no_problems(whole):
    folder, notes = whole
    verdict = verified(folder, *notes)
    assert (verdict.problems, verdict.notes) == ([], [])
    assert (verdict.size, verdict.first, verdict.signed, verdict.checkpoints) == (SIZE, 0, SIZE, 3)


def swap(lines):
    lines[3], lines[4] = lines[4], lines[3]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda lines: lines.__setitem__(7, lines[7].replace(b"refused", b"done")),
            "entry 7 .*changed, or put in",
        ),
        (lambda lines: lines.pop(7), "entry 7 .* nor are"),
        (lambda lines: lines.insert(7, lines[6]), "entry 7 .*stands here again"),
        (lambda lines: lines.insert(7, b'{"seq":7}'), "entry 7 .*changed, or put in"),
        (swap, r"entry 3 .*written later"),
    ],
)
def test_an_entry_flipped_dropped_doubled_put_in_or_swapped(trail, change, says):
    rewrite(entries(trail)[0], change)
    verdict = verified(trail)
    assert verdict.problems
    import re

    assert re.search(says, verdict.problems[0])
    assert f"{entries(trail)[0]}:" in verdict.problems[0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_one_changed_byte_is_found(whole, tmp_path, data):
    """Of entries, hashes, checkpoint or key: and put back, all is well again."""
    folder = tmp_path / "audit"
    if not folder.exists():
        shutil.copytree(whole[0], folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    # The line's end of key.pub is no part of the key.
    at = data.draw(st.integers(0, len(before.rstrip() if path.name == "key.pub" else before) - 1))
    flipped = before[at] ^ data.draw(st.integers(1, 255))
    path.write_bytes(before[:at] + bytes([flipped]) + before[at + 1 :])
    try:
        key = key_of(whole[0]) if path.name != "key.pub" else None
        if key is None:
            with pytest.raises(ValueError, match="key"):
                key_of(folder)
        else:
            assert verify(folder, key).problems != []
    finally:
        path.write_bytes(before)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1), st.sampled_from(["drop", "double", "move"]))
def test_any_entry_dropped_doubled_or_moved_is_found(whole, tmp_path, one, other, what):
    folder = tmp_path / "audit"
    if not folder.exists():
        shutil.copytree(whole[0], folder)
    if what == "move" and one == other:
        return
    before = {path: path.read_bytes() for path in entries(folder)}
    lines = [line for data in before.values() for line in data.split(b"\n")[:-1]]
    taken = lines.pop(one) if what != "double" else lines[one]
    if what != "drop":
        lines.insert(other, taken)
    try:
        for path, first in zip(before, (0, 256, 512), strict=True):
            end = len(lines) if first == 512 else first + 256
            path.write_bytes(b"".join(line + b"\n" for line in lines[first:end]))
        verdict = verified(folder)
        extra = any("have no hash yet" in note for note in verdict.notes)
        assert verdict.problems or (what == "double" and other >= SIZE - 1 and extra)
    finally:
        for path, data in before.items():
            path.write_bytes(data)


def test_entries_and_hashes_changed_together_are_found_by_the_checkpoint(trail):
    path = entries(trail)[2]
    rewrite(path, lambda lines: lines.__setitem__(5, lines[5].replace(b"refused", b"done")))
    changed = path.read_bytes().split(b"\n")[5]
    leaves = bytearray((trail / "tree" / "0").read_bytes())
    leaves[517 * 32 : 518 * 32] = leaf_hash(changed)
    (trail / "tree" / "0").write_bytes(leaves)
    (problem,) = verified(trail).problems
    assert "first 700 entries are not those that were signed" in problem


def cut_back(folder: Path, size: int) -> None:
    """As somebody does who has the machine and the key: cut, and signed anew."""
    for path in entries(folder):
        first = int(path.stem)
        if first >= size:
            path.unlink()
        elif first + 256 > size:
            rewrite(path, lambda lines, keep=size - first: lines.__delitem__(slice(keep, None)))
    tree = TreeFiles(folder / "tree", writable=True)
    tree.cut(size)
    tree.close()
    (folder / "checkpoint").unlink()
    trail = trail_in(folder)
    trail.append([event(size, reason="nothing happened")])
    trail.sign()
    trail.close()


def test_a_cut_that_was_signed_anew_is_found_by_a_checkpoint_at_hand(trail, whole):
    notes = whole[1]
    cut_back(trail, 400)
    assert verified(trail).problems == [], "by itself it is a good trail"
    assert verified(trail, notes[0]).problems == [], "it is cut behind this one"
    (problem,) = verified(trail, notes[1]).problems
    assert problem == "the trail was cut: a checkpoint was signed over 700 entries, and it has 401"


def test_another_trail_of_the_same_name_is_found_by_a_checkpoint_at_hand(tmp_path, whole):
    trail = trail_in(tmp_path)
    trail.append([event(number, reason="made up") for number in range(800)])
    trail.sign()
    trail.close()
    problems = verified(tmp_path, *whole[1]).problems
    assert len(problems) == 2
    assert "first 300 entries are not those that were signed" in problems[0]


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda folder: entries(folder)[1].unlink(), "entries 256 to 511 are missing before"),
        (
            lambda folder: entries(folder)[0].unlink(),
            "entries 0 to 255 are missing, and no signed entry says that they were dropped",
        ),
        (lambda folder: entries(folder)[2].unlink(), "cut: entries 512 to 699 are missing"),
        (lambda folder: os.truncate(entries(folder)[2], 1_000), "cut: entries 5"),
        (lambda folder: shutil.rmtree(folder / "entries"), "cut: entries 0 to 699 are missing"),
        (lambda folder: os.truncate(folder / "tree" / "0", 32 * 600), "has 600"),
        (lambda folder: os.truncate(folder / "tree" / "1", 32), "too short: it has 1 hashes of 2"),
        (lambda folder: shutil.rmtree(folder / "tree"), "signed over 700 entries, and it has 0"),
        (lambda folder: (folder / "checkpoint").write_text("x" * 100), "is not valid: it is no checkpoint"),
        (
            lambda folder: entries(folder)[1].rename(folder / "entries" / f"{255:016}.jsonl"),
            "begins with entry 255",
        ),
    ],
)
def test_what_is_missing_is_named(trail, break_it, says):
    break_it(trail)
    assert any(says in problem for problem in verified(trail).problems)


def test_an_entry_that_claims_a_retention_must_be_there(trail):
    """Somebody who deletes the beginning can't have it look as if it was too old."""
    claim_a_retention(trail, 256, hashed=False)
    entries(trail)[0].unlink()
    assert any("no signed entry says" in problem for problem in verified(trail).problems)


def claim_a_retention(folder: Path, kept_from: int, *, hashed: bool = True) -> None:
    """As somebody can who has the files and not the key: append an entry, and its hash."""
    claim = {"seq": SIZE, "time": NOON, "kind": "audit", "outcome": "done", "kept_from": kept_from}
    line = json.dumps(claim, separators=(",", ":")).encode()
    rewrite(entries(folder)[-1], lambda lines: lines.append(line))
    if hashed:
        with (folder / "tree" / "0").open("ab") as leaves:
            leaves.write(leaf_hash(line))


def test_an_entry_that_claims_a_retention_must_be_signed(trail, whole):
    """Else whoever deletes the beginning could append it, without the key."""
    claim_a_retention(trail, 256)
    entries(trail)[0].unlink()
    (problem,) = verified(trail, *whole[1]).problems
    assert problem == "entries 0 to 255 are missing, and no signed entry says that they were dropped"
    before = {path: path.read_bytes() for path in trail.rglob("*") if path.is_file()}
    with pytest.raises(TrailDamaged, match="entries before 256 are missing, and entry 700, which says"):
        trail_in(trail)
    assert {path: path.read_bytes() for path in trail.rglob("*") if path.is_file()} == before


def test_a_retention_that_was_appended_before_a_start_does_not_explain_what_is_deleted_after_it(trail):
    """The next checkpoint covers what was appended, and a denial of it."""
    claim_a_retention(trail, 512)
    writing = trail_in(trail)
    assert writing.repairs == [
        "entry 700 says that entries before 512 are dropped, and was not signed: that does not count"
    ]
    writing.append([event(writing.size)])
    writing.sign()
    writing.close()
    assert verified(trail).problems == []
    entries(trail)[0].unlink()
    assert any("no signed entry says" in problem for problem in verified(trail).problems)


def test_a_denial_that_could_not_be_written_is_written_by_the_next_look(trail, monkeypatch):
    claim_a_retention(trail, 256)
    append = OpenSegment.append

    def full(self, lines):
        raise OSError(errno.ENOSPC, "No space left on device", str(self.segment.path))

    monkeypatch.setattr(OpenSegment, "append", full)
    writing = Trail(trail, SEED, ORIGIN, entry_line, Clock())
    for _ in range(2):
        with pytest.raises(TrailError, match="No space left"):
            writing.sign()
    monkeypatch.setattr(OpenSegment, "append", append)
    writing.sign()
    writing.close()
    entries(trail)[0].unlink()
    assert any("no signed entry says" in problem for problem in verified(trail).problems)


def test_a_gateway_that_was_killed_amid_a_retention_leaves_a_whole_trail(trail):
    """Before the entry that says so was signed, and after it: nothing is deleted before."""
    writing = trail_in(trail)
    (old,) = [one for one in segments_of(trail / "entries") if one.first == 0]
    for kept in (False, True):
        writing.append([event(writing.size, kind="audit", outcome="done", kept_from=256)])
        with pytest.raises(TrailError, match="no signed entry says that entries before 256 are dropped"):
            writing.delete([old])
        if kept:
            writing.sign()
        writing.close()
        assert verified(trail).problems == []
        writing = trail_in(trail)
        assert (writing.repairs == []) is kept
        assert verified(trail).problems == []
    writing.delete([old])
    writing.close()
    assert verified(trail).problems == []
    assert verified(trail).first == 256
    trail_in(trail).close()


def test_problems_are_bounded(whole, tmp_path):
    for number in range(60):
        (tmp_path / "entries").mkdir(exist_ok=True)
        (tmp_path / "entries" / f"{number * 10:016}.jsonl").write_text("{}\n")
    (tmp_path / "tree").mkdir()
    assert len(verify(tmp_path, key_of(whole[0])).problems) == 20
