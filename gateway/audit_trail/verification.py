"""Whether a trail is what was signed: every entry, every hash, and the checkpoints that somebody kept.

Finds any entry that was changed, dropped, moved, doubled or put in, and a trail that is shorter than the
newest checkpoint it is given. What came after that checkpoint can be forged by whoever has the machine and
its key: so checkpoints leave the machine with the log. It only reads, and may do so while a gateway writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from gateway.audit_trail.checkpoints import Checkpoint, VerifierKey
from gateway.audit_trail.errors import TrailDamaged
from gateway.audit_trail.merkle import HASH_BYTES, perfect_root, root
from gateway.audit_trail.recovery import ENTRIES, TREE, newest_checkpoint
from gateway.audit_trail.segments import Segment, retentions, segments_of
from gateway.audit_trail.tree_files import TILE, TreeFiles

_PROBLEMS_MAX = 20
"""Problems that are listed: damage at one point shows in many entries."""


@dataclass(slots=True)
class TrailFindings:
    """How long a trail is and what of it is signed, and what is wrong with it."""

    size: int = 0
    """How many entries the tree has."""
    first: int = 0
    """The first entry that is kept; those before it were dropped, their hashes were not."""
    signed: int = 0
    """How many entries the newest checkpoint covers."""
    checkpoints: int = 0
    """How many checkpoints agree with the tree."""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Remarks: what is no problem, and worth knowing."""

    def add_problem(self, problem: str) -> None:
        """This is not as it was signed."""
        if len(self.problems) < _PROBLEMS_MAX:
            self.problems.append(problem)


def verify(folder: Path, key: VerifierKey, at_hand: Sequence[Checkpoint] = ()) -> TrailFindings:
    """Verify all of it. `at_hand` are checkpoints that somebody kept elsewhere. Raises OSError."""
    findings = TrailFindings()
    # Before the checkpoint is read: then it covers what a gateway says of those that it had deleted.
    segments = segments_of(folder / ENTRIES)
    try:
        newest = newest_checkpoint(folder, key)
    except TrailDamaged as error:
        newest = None
        findings.add_problem(str(error))
    tree = TreeFiles(folder / TREE)
    try:
        findings.size = tree.size
        segments = sorted({*segments, *segments_of(folder / ENTRIES)})  # one may have begun meanwhile
        _entries(segments, tree, newest.size if newest else 0, findings)
        _levels(folder, tree, findings)
        _checkpoints(tree, newest, at_hand, findings)
    finally:
        tree.close()
    return findings


def _entries(segments: Sequence[Segment], tree: TreeFiles, signed: int, findings: TrailFindings) -> None:
    """Find entries whose hash is not the one in the tree, and missing ones that no signed entry explains."""
    findings.first = number = segments[0].first if segments else 0
    kept_from = 0
    for segment in segments:
        if segment.first != number:
            findings.add_problem(_gap(number, segment))
            number = segment.first
        lines, torn = segment.lines()
        known = max(0, min(len(lines), tree.size - number))
        _compare(segment, lines[:known], tree, findings)
        for at, said in retentions(number, lines[:known]):
            # The last one counts. One that is not signed does not: anybody could have appended it.
            kept_from = said if at < signed else kept_from
        number += len(lines)
        if torn:
            findings.notes.append(
                f"{segment.path} ends with a line that is no whole entry: it is being written, or was cut off"
            )
    if number < tree.size:
        findings.add_problem(
            f"the trail was cut: entries {number} to {tree.size - 1} are missing, their hashes are there"
        )
    elif number > tree.size:
        findings.notes.append(
            f"{number - tree.size} entries have no hash yet: they are being written, or the gateway was "
            "killed"
        )
    if findings.first > kept_from:
        findings.add_problem(
            f"entries {kept_from} to {findings.first - 1} are missing, and no signed entry says that they "
            "were dropped"
        )
    elif findings.first:
        findings.notes.append(
            f"entries before {findings.first} were dropped (AUDIT_RETENTION); their hashes are kept"
        )


def _compare(segment: Segment, lines: Sequence[bytes], tree: TreeFiles, findings: TrailFindings) -> None:
    hashes = [sha256(b"\x00" + line).digest() for line in lines]
    expected = tree.read(0, segment.first, len(lines)) if lines else b""
    if b"".join(hashes) == expected:
        return
    wrong = [at for at, one in enumerate(hashes) if expected[at * HASH_BYTES : (at + 1) * HASH_BYTES] != one]
    at = wrong[0]
    more = f", nor are {len(wrong) - 1} after it" if len(wrong) > 1 else ""
    entry = f"entry {segment.first + at} ({segment.path}:{at + 1})"
    findings.add_problem(f"{entry} is not what was written{more}: {_how(hashes, expected, at)}")


def _how(hashes: Sequence[bytes], expected: bytes, at: int) -> str:
    """What seems to have happened to an entry: its hash may be that of a different entry."""
    found_at = expected.find(hashes[at])
    if found_at >= 0 and found_at % HASH_BYTES == 0:
        found = found_at // HASH_BYTES
        return "one that was there stands here again" if found < at else "what stands here was written later"
    return "it was changed, or put in"


def _gap(number: int, segment: Segment) -> str:
    if segment.first < number:
        return f"{segment.path} begins with entry {segment.first}, and those before it end with {number - 1}"
    return f"entries {number} to {segment.first - 1} are missing before {segment.path}"


def _levels(folder: Path, tree: TreeFiles, findings: TrailFindings) -> None:
    """Find hashes that are not those over the hashes of the level below."""
    size, level = tree.size, 0
    while size >= TILE:
        size //= TILE
        if tree.count(level + 1) < size and tree.look_again(level + 1) < size:
            path = folder / TREE / str(level + 1)
            findings.add_problem(f"{path} is too short: it has {tree.count(level + 1)} hashes of {size}")
            return
        for tile in range(size):
            if perfect_root(tree.hashes(level, tile * TILE, TILE)) != tree.read(level + 1, tile, 1):
                findings.add_problem(
                    f"hash {tile} in {folder / TREE / str(level + 1)} is not that of the hashes below it"
                )
                return
        level += 1


def _checkpoints(
    tree: TreeFiles, newest: Checkpoint | None, at_hand: Sequence[Checkpoint], findings: TrailFindings
) -> None:
    """Find checkpoints that were not signed over this tree."""
    if newest is not None:
        findings.signed = newest.size
    elif tree.size and not findings.problems:
        findings.notes.append("there is no checkpoint yet: what is there is not signed")
    for checkpoint in [*([newest] if newest else []), *sorted(at_hand, key=lambda one: one.size)]:
        if checkpoint.size > tree.size:
            findings.add_problem(
                f"the trail was cut: a checkpoint was signed over {checkpoint.size} entries, "
                f"and it has {tree.size}"
            )
            continue
        try:
            found = root(tree, checkpoint.size)
        except TrailDamaged as error:
            findings.add_problem(str(error))
            continue
        if found == checkpoint.root:
            findings.checkpoints += 1
        else:
            findings.add_problem(
                f"the first {checkpoint.size} entries are not those that were signed: entries and hashes "
                "were changed together"
            )
    if newest is not None and findings.signed < tree.size:
        findings.notes.append(
            f"{tree.size - findings.signed} entries are newer than the newest checkpoint, and not signed yet"
        )
