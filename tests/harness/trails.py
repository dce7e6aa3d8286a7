"""An audit trail in a folder of its own, written as a gateway writes it."""

from __future__ import annotations

from pathlib import Path

from gateway.audit_trail.checkpoints import Checkpoint, VerifierKey
from gateway.audit_trail.recovery import PUBLIC_KEY
from gateway.audit_trail.verification import TrailFindings, verify
from gateway.audit_trail.writer import Trail
from gateway.observe.trail_entry import entry_line

SEED = bytes(range(32))
ORIGIN = "gateway-test/node-1"
NOON = 1_764_072_000_000
"""2025-11-25, 12:00 UTC, in Unix milliseconds."""
DAY = 86_400_000


class Clock:
    """Unix milliseconds, as a test sets them."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


def event(number: int, **more: object) -> dict[str, object]:
    """What the log says of one."""
    return {
        "time": NOON + number,
        "kind": "publish",
        "outcome": "refused",
        "reason": f"because {number}",
    } | more


def trail_in(folder: Path, clock: Clock | None = None, *, seed: bytes = SEED, origin: str = ORIGIN) -> Trail:
    """The trail of this folder, open."""
    trail = Trail(folder, seed, origin, entry_line, clock or Clock())
    trail.open()
    return trail


def made(folder: Path, *sizes: int) -> list[str]:
    """Write a trail with a checkpoint after each of `sizes` entries; the notes."""
    trail, notes = trail_in(folder), []
    for size in sizes:
        trail.append([event(number) for number in range(trail.size, size)])
        notes.append(trail.sign() or "")
    trail.close()
    return notes


def key_of(folder: Path) -> VerifierKey:
    return VerifierKey.parse((folder / PUBLIC_KEY).read_text("utf-8", "replace"))


def verified(folder: Path, *notes: str) -> TrailFindings:
    """What a look through it finds, with these checkpoints at hand."""
    key = key_of(folder)
    at_hand: list[Checkpoint] = [key.verified(note) for note in notes]
    return verify(folder, key, at_hand)
