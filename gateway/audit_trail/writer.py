"""The one writer of a trail. Blocks on the disk: it is called in a thread, one call at a time.

The order of writes decides what a crash can leave (docs/adr/0016). Entries come first, and are synced: then
they are durable, and whoever waits for them may go on. Then their hashes, which can be made anew from them. A
checkpoint is signed over hashes that are synced, and replaces the one before it as a whole. What a call that
failed has written is cut off by the next one, which begins with a look at the files. A start after a crash
can't know of the failure: it keeps what is whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from gateway.audit_trail.checkpoints import BadCheckpoint, SigningKey, VerifierKey, origin_of
from gateway.audit_trail.errors import TrailDamaged, TrailError
from gateway.audit_trail.merkle import leaf_hash, root
from gateway.audit_trail.recovery import CHECKPOINT, ENTRIES, PUBLIC_KEY, TREE, recover
from gateway.audit_trail.segments import (
    SEGMENT_ENTRIES_MAX,
    OpenSegment,
    Segment,
    segments_of,
    signed_retention,
)
from gateway.audit_trail.tree_files import TreeFiles
from gateway.system.atomic_files import make_folder, put_file, sync_folder, write_new
from gateway.system.file_errors import not_written

Event = Mapping[str, object]
EntryLine = Callable[[int, Event, int], bytes]
"""Makes the bytes of an entry from its number, the event, and how many events were lost before it."""
_DAY_MS = 86_400_000
_SEGMENT_SECONDS_MIN = 60.0
"""A segment takes entries for at least this long, unless it is full."""


class Trail:
    """The files of one trail, and what this process knows of them."""

    def __init__(
        self, folder: Path, seed: bytes, new_origin: str, entry_line: EntryLine, now: Callable[[], int]
    ) -> None:
        """`new_origin` is the name of a trail that begins here; one that is there keeps its own.

        `seed` is of the key that signs; `now` gives Unix milliseconds.
        """
        self.folder = folder
        self._seed = seed
        self._new_origin = new_origin
        self._entry_line = entry_line
        self._now = now
        self._key: SigningKey | None = None
        self._tree: TreeFiles | None = None
        self._segment: OpenSegment | None = None
        self._segment_day = 0
        """The day of the segment, in days since 1970 (UTC)."""
        self._segment_began_s = float("-inf")
        """When the segment was begun, in seconds of the monotonic clock."""
        self._durable: int | None = None
        """How many entries are durable, as far as this process knows; None until the files are read."""
        self._damage: TrailDamaged | None = None
        self.signed = 0
        """How many entries the newest checkpoint covers."""
        self.is_new = False
        """Whether the files had no entry when first read; False again once they were read a second time."""
        self._expected = ""
        """See `expect`."""
        self.repairs: list[str] = []
        """What had to be repaired, until somebody reports it."""

    @property
    def size(self) -> int:
        """How many entries there are, as far as this process knows."""
        return self._durable or 0

    @property
    def origin(self) -> str:
        """The name of the trail."""
        return self._key.verifier.origin if self._key else self._new_origin

    def expect(self, note: str) -> None:
        """`note` is the newest checkpoint of this node's trail that the store has; empty: it has none.

        The trail has to agree with it. Where the files are gone, a trail with a different name begins: a
        second trail of the same name would look like a forgery of the first.
        """
        self._expected = note
        if note:
            with suppress(BadCheckpoint):
                self._new_origin = _next(origin_of(note))

    def open(self) -> None:
        """Find out what is there, and repair it.

        Raises TrailError; if it is TrailDamaged, every later call raises that too.
        """
        if self._damage is not None:
            raise self._damage.with_traceback(None)  # else the traceback would grow each time
        if self._tree is not None:
            return
        try:
            self._open()
        except TrailDamaged as error:
            self._damage = TrailDamaged(
                f"{error}. Nothing is added to this trail: put {self.folder} back as it was, or move it "
                "away, and a new trail begins"
            )
            raise self._damage from None
        except OSError as error:
            self._release_files()
            raise self._explained(error) from error

    def append(self, events: Sequence[Event], lost_before: int = 0) -> None:
        """Write entries, durable when this returns; the first says how many events were `lost_before` it.

        Raises TrailError: none of them is durable.
        """
        self.open()
        try:
            done = 0
            while done < len(events):
                segment, tree = self._writable()
                part = events[done : done + SEGMENT_ENTRIES_MAX - segment.count]
                lines = [
                    self._entry_line(self.size + at, event, 0 if done or at else lost_before)
                    for at, event in enumerate(part)
                ]
                segment.append(lines)
                tree.grow([leaf_hash(line) for line in lines])
                done += len(part)
                self._durable = self.size + len(part)
        except OSError as error:
            self._durable = self.size - done  # all or none: the parts already written are cut with this one
            self._release_files()
            raise self._explained(error) from error

    def sign(self) -> str | None:
        """Sign what came since the last checkpoint. Return the new note, or None if nothing came.

        Raises TrailError.
        """
        self.open()
        if self._key is None or self._tree is None or self.size == self.signed:
            return None
        path = self.folder / CHECKPOINT
        try:
            self._tree.sync()
            note = self._key.sign(self.size, root(self._tree, self.size))
            put_file(path, note.encode(), mode=0o644)
        except OSError as error:
            self._release_files()  # what could not be synced may be lost, though it can be read now
            raise self._explained(error) from error
        self.signed = self.size
        return note

    def oldest_day(self, before: int) -> list[Segment]:
        """The segments of the oldest day whose entries are all older than `before` (Unix milliseconds).

        One day at a time, and only what is signed: a clock that was wrong for a moment costs a day, not all.
        """
        found: list[Segment] = []
        days = set()
        segments = segments_of(self.folder / ENTRIES)
        for at, following in enumerate(segments[1:]):
            ended = _ended(segments[at:], self._now())
            if ended is None or ended >= before or following.first > self.signed:
                break
            newest = segments[at].newest_time()
            days.add(None if newest is None else _day_of(newest))
            if len(days) > 1:
                break
            found.append(segments[at])
        return found

    def first_after(self, segments: Sequence[Segment]) -> int:
        """The number of the first entry that is left when these segments are deleted."""
        return min(one.first for one in segments_of(self.folder / ENTRIES) if one > segments[-1])

    def delete(self, segments: Sequence[Segment]) -> None:
        """Delete these segments, the oldest; their hashes stay.

        Raises TrailError, also if no signed entry says that they are dropped: then it deletes nothing.
        """
        try:
            kept_from = self.first_after(segments)
            if signed_retention(segments_of(self.folder / ENTRIES), self.signed) < kept_from:
                raise TrailError(f"no signed entry says that entries before {kept_from} are dropped")
            for segment in segments:
                segment.path.unlink(missing_ok=True)
            sync_folder(self.folder / ENTRIES)
        except OSError as error:
            raise self._explained(error) from error

    def close(self) -> None:
        """Release the files."""
        self._release_files()

    def _open(self) -> None:
        if self._durable is None:
            make_folder(self.folder)
            make_folder(self.folder / ENTRIES)
        elif not (self.folder / ENTRIES).is_dir():
            # It is not made again: whoever moved it away has to put it back.
            raise TrailError(f"{self.folder / ENTRIES} was taken away while it was in use: put it back")
        self._key = self._signing_key()
        self._tree = TreeFiles(self.folder / TREE, writable=True)
        found = recover(self.folder, self._key.verifier, self._tree, entries_max=self._durable)
        if self._durable is not None and found.size < self._durable:
            raise TrailDamaged(
                f"{self.folder} lost entries {found.size} to {self._durable - 1} while it was in use"
            )
        if found.last is not None:
            self._segment = OpenSegment(found.last, found.last_bytes, found.last_count)
            self._segment_day = _day_of(found.last.newest_time() or self._now())
        self._check_expected(self._key.verifier, found.signed)
        self.is_new = self._durable is None and found.size == 0
        self._durable, self.signed = found.size, found.signed
        if found.kept_from is not None:
            self._deny_retention(found.kept_from)
        self.repairs += found.repairs

    def _deny_retention(self, kept_from: int) -> None:
        """Append what is true, before an entry that claims otherwise is signed. The last one counts."""
        reason = f"entries from {kept_from} on are kept: what was not signed in time does not count"
        try:
            self.append(
                [
                    {
                        "time": self._now(),
                        "kind": "audit",
                        "outcome": "done",
                        "reason": reason,
                        "kept_from": kept_from,
                    }
                ]
            )
        except TrailError:
            self._durable = None  # the next look is a first one again, and does the same
            raise

    def _check_expected(self, key: VerifierKey, signed: int) -> None:
        note, self._expected = self._expected, ""
        if not note or self._tree is None:
            return
        try:
            if not signed and origin_of(note) != key.origin:
                return  # this trail has only just begun, after the one that the checkpoint is of
            expected = key.verified(note)
        except BadCheckpoint as error:
            raise TrailDamaged(
                f"the checkpoint that the store has is not of the trail in {self.folder}: {error}"
            ) from None
        if expected.size > self._tree.size:
            raise TrailDamaged(
                f"{self.folder} was cut: it has {self._tree.size} entries, and the store has a checkpoint "
                f"over {expected.size}"
            )
        if root(self._tree, expected.size) != expected.root:
            raise TrailDamaged(
                f"{self.folder} is a different trail from the one whose checkpoint the store has"
            )

    def _signing_key(self) -> SigningKey:
        """The signing key under the name of this trail; its public half is written beside the trail."""
        path, checkpoint = self.folder / PUBLIC_KEY, self.folder / CHECKPOINT
        try:
            if checkpoint.exists():
                origin = origin_of(checkpoint.read_text("utf-8"))
            else:
                origin = (
                    VerifierKey.parse(path.read_text("utf-8")).origin if path.exists() else self._new_origin
                )
        except (BadCheckpoint, UnicodeDecodeError) as error:
            raise TrailDamaged(
                f"{checkpoint if checkpoint.exists() else path} is not valid: {error}"
            ) from None
        key = SigningKey(origin, self._seed)
        text = f"{key.verifier}\n".encode()
        if not path.exists():
            write_new(path, text, mode=0o644)
        elif path.read_bytes() != text:
            raise TrailDamaged(
                f"the key of this trail is a different one ({path}): put the audit.key that signed it back "
                "from a backup"
            )
        return key

    def _writable(self) -> tuple[OpenSegment, TreeFiles]:
        """The segment that takes the next entry, and the tree."""
        if self._tree is None:
            raise TrailError("the trail is not open")
        if self._segment is not None and self._is_complete(self._segment):
            self._segment.close()
            self._segment = None
        if self._segment is None:
            self._segment = OpenSegment.new(self.folder / ENTRIES, self.size)
            self._segment_day, self._segment_began_s = _day_of(self._now()), time.monotonic()
        return self._segment, self._tree

    def _is_complete(self, segment: OpenSegment) -> bool:
        if segment.count >= SEGMENT_ENTRIES_MAX:
            return True
        # A clock that jumps back and forth must not make a file for each entry.
        is_old = time.monotonic() - self._segment_began_s > _SEGMENT_SECONDS_MIN
        return segment.count > 0 and is_old and _day_of(self._now()) != self._segment_day

    def _release_files(self) -> None:
        for file in (self._segment, self._tree):
            if file is not None:
                with suppress(OSError):
                    file.close()
        self._segment = self._tree = None

    def _explained(self, error: OSError) -> TrailError:
        if isinstance(error, TrailError):
            return error
        path = Path(os.fsdecode(error.filename)) if error.filename else self.folder
        return TrailError(f"the audit trail: {not_written(path, error)}")


def _ended(segments: Sequence[Segment], now: int) -> int | None:
    """When the first of these ended, by the clocks of its last entry and of the first one in the next.

    The later one counts: before somebody set it, a clock without a battery stood in 1970, or where it had
    stopped. A time in the future counts for nothing: it ended before the segments after it did.
    """
    for segment, following in pairwise(segments):
        times = (segment.newest_time(), following.oldest_time())
        past = [one for one in times if one is not None and one <= now]
        if past:
            return max(past)
    return None


def _day_of(unix_ms: int) -> int:
    return unix_ms // _DAY_MS


def _next(origin: str) -> str:
    """The name of the trail after `gateway-1a2b3c4d5e6f/attic` is `gateway-1a2b3c4d5e6f/attic/2`.

    The digits are random, drawn when the first trail of the node `attic` began.
    """
    base, _, number = origin.rpartition("/")
    return f"{base}/{int(number) + 1}" if number.isdecimal() and base.count("/") else f"{origin}/2"
