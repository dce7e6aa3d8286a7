"""How a start deals with the files that a process left, however it ended.

What a checkpoint was signed over has to be there: else the trail is damaged, nothing is appended, and nothing
is repaired. Here its hashes are compared, not its entries: `verification` does that. What came after the
newest checkpoint is taken as it is, up to the first line that is no whole entry: nobody was promised that
this one is kept, and it is cut off. The hashes of what is left are made anew, for they were not synced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.audit_trail.checkpoints import BadCheckpoint, Checkpoint, VerifierKey
from gateway.audit_trail.errors import TrailDamaged
from gateway.audit_trail.merkle import leaf_hash, root
from gateway.audit_trail.segments import (
    Segment,
    holding,
    number_of,
    retentions,
    segments_of,
    signed_retention,
)
from gateway.audit_trail.tree_files import TreeFiles

ENTRIES = "entries"
TREE = "tree"
CHECKPOINT = "checkpoint"
PUBLIC_KEY = "key.pub"
"""The names in the folder of a trail: the folder of segments, that of the tree, and two files."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found, and is left after the repairs."""

    size: int
    """How many entries there are."""
    last: Segment | None
    """The segment to go on with, how many bytes of it are good, and how many entries that is."""
    last_bytes: int = 0
    last_count: int = 0
    signed: int = 0
    """How many entries the newest checkpoint covers."""
    repairs: Sequence[str] = field(default=())
    """What had to be repaired."""
    kept_from: int | None = None
    """The first entry that is there, if one that is not signed says that others were dropped: that has to be
    denied by the next entry, before it is signed."""


def newest_checkpoint(folder: Path, key: VerifierKey) -> Checkpoint | None:
    """The checkpoint in the trail's folder; None before the first. Raises TrailDamaged, OSError."""
    found = newest_note(folder, key)
    return found[0] if found else None


def newest_note(folder: Path, key: VerifierKey) -> tuple[Checkpoint, str] | None:
    """That checkpoint and the note it stands in. Raises as `newest_checkpoint`."""
    path = folder / CHECKPOINT
    try:
        note = path.read_text("utf-8")
        return key.verified(note), note
    except FileNotFoundError:
        return None
    except (BadCheckpoint, UnicodeDecodeError) as error:
        raise TrailDamaged(f"{path} is not valid: {error}") from None


def recover(folder: Path, key: VerifierKey, tree: TreeFiles, *, entries_max: int | None = None) -> Recovered:
    """Look at all that came after the newest checkpoint, and make the tree anew from there.

    `entries_max`: how many entries this process knows to be durable; what stands after them is cut off, for
    writing it failed. Raises TrailDamaged, OSError.
    """
    checkpoint = newest_checkpoint(folder, key)
    signed = checkpoint.size if checkpoint else 0
    if checkpoint is not None:
        _check_signed(folder, tree, checkpoint)
    segments = segments_of(folder / ENTRIES)
    if entries_max is not None:
        segments = _without_later(segments, entries_max)
    if not segments:
        if signed:
            raise TrailDamaged(f"{folder / ENTRIES} is empty, and {signed} entries were signed")
        tree.cut(0)
        return Recovered(0, None)
    unsigned = holding(segments, signed)
    if unsigned[0].first > signed:
        raise TrailDamaged(
            f"entries {signed} to {unsigned[0].first - 1} are missing before {unsigned[0].path}"
        )
    # What this process has written itself it knows.
    claims = _unsigned_retentions(segments, signed) if entries_max is None else []
    found = _after(unsigned, tree, signed, entries_max)
    return replace(found, kept_from=segments[0].first, repairs=[*found.repairs, *claims]) if claims else found


def _unsigned_retentions(segments: Sequence[Segment], signed: int) -> Sequence[str]:
    """What is to be said of each entry that is not signed, and says that others were dropped.

    A gateway has it signed before it deletes anything. So it was killed in between, and the others are
    there; or somebody else has appended the entry. Raises TrailDamaged: some are missing that no signed entry
    explains.
    """
    claims = [
        claim
        for segment in holding(segments, signed)
        for claim in retentions(segment.first, segment.lines()[0])
        if claim[0] >= signed
    ]
    first = segments[0].first
    if claims and first and first > signed_retention(segments, signed):
        raise TrailDamaged(
            f"entries before {first} are missing, and entry {claims[0][0]}, which says that they were "
            "dropped, was not signed"
        )
    return [
        f"entry {number} says that entries before {kept_from} are dropped, and was not signed: that does not "
        "count"
        for number, kept_from in claims
    ]


def _without_later(segments: Sequence[Segment], entries_max: int) -> list[Segment]:
    """Those that can have an entry below `entries_max`; delete the others, begun by writes that failed."""
    for segment in segments:
        if segment.first > entries_max:
            segment.path.unlink()
    return [segment for segment in segments if segment.first <= entries_max]


def _check_signed(folder: Path, tree: TreeFiles, checkpoint: Checkpoint) -> None:
    if tree.size < checkpoint.size:
        raise TrailDamaged(
            f"{folder / TREE} has the hashes of {tree.size} entries, and {checkpoint.size} were signed"
        )
    if root(tree, checkpoint.size) != checkpoint.root:
        raise TrailDamaged(f"the hashes in {folder / TREE} are not those that were signed")


def _after(segments: Sequence[Segment], tree: TreeFiles, signed: int, entries_max: int | None) -> Recovered:
    """Go through the entries after the first `signed`, and give the tree their hashes."""
    size, repairs, leaves = segments[0].first, list[str](), list[bytes]()
    last, last_bytes, last_count = segments[0], 0, 0
    before = tree.hashes(0, signed, max(0, tree.size - signed))
    for segment in segments:
        if segment.first != size:
            raise TrailDamaged(f"entries {size} to {segment.first - 1} are missing before {segment.path}")
        lines, torn = segment.lines()
        good = _good(lines, size, entries_max)
        leaves += [leaf_hash(line) for number, line in enumerate(good, size) if number >= signed]
        last, last_count, last_bytes = segment, len(good), sum(map(len, good)) + len(good)
        size += len(good)
        if size < signed:
            raise TrailDamaged(
                f"{segment.path} ends after entry {size - 1}, and {signed} entries were signed"
            )
        if torn or len(good) < len(lines):
            if entries_max is None:
                cut = sum(map(len, lines[len(good) :])) + len(lines) - len(good) + len(torn)
                repairs.append(f"{cut} bytes that were no whole entry are cut off after entry {size - 1}")
            if segment is not segments[-1]:
                raise TrailDamaged(f"{segment.path} ends after entry {size - 1}, in the midst of the trail")
    changed = [
        signed + at for at, (one, other) in enumerate(zip(before, leaves, strict=False)) if one != other
    ]
    # A hash that is all zeros was never written: before a crash the file had grown, without the hash.
    if changed and any(before[changed[0] - signed]) and entries_max is None:
        repairs.append(
            f"entry {changed[0]}, not signed yet, is not what was hashed: it was changed, or a disk failed"
        )
    tree.cut(signed)
    tree.grow(leaves)
    return Recovered(size, last, last_bytes, last_count, signed, repairs)


def _good(lines: Sequence[bytes], first: int, entries_max: int | None) -> Sequence[bytes]:
    """The lines that are the entries from `first` on, up to the first that is none."""
    for at, line in enumerate(lines):
        if number_of(line) != first + at or (entries_max is not None and first + at >= entries_max):
            return lines[:at]
    return lines
