"""The trail as files that any web server may serve: C2SP's tlog-tiles.

For the newest checkpoint: the tiles of the tree, and the entries in bundles of 256, as far as they are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.audit_trail.checkpoints import VerifierKey
from gateway.audit_trail.errors import NO_CHECKPOINT, TrailError
from gateway.audit_trail.recovery import CHECKPOINT, ENTRIES, TREE, newest_note
from gateway.audit_trail.segments import entries_from
from gateway.audit_trail.tree_files import TILE, TreeFiles


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    size: int
    """How many entries the tree has."""
    first: int
    """The first entry that is in a bundle; those before it are not kept, or make no whole bundle."""
    files: int


def export(folder: Path, key: VerifierKey, target: Path) -> Exported:
    """Write the trail to `target`, which has to be empty or not there. Raises TrailError, OSError."""
    found = newest_note(folder, key)
    if found is None:
        raise TrailError(NO_CHECKPOINT)
    checkpoint, note = found
    if target.exists() and any(target.iterdir()):
        raise TrailError(f"{target} is not empty: name a folder that is not there")
    files = 0
    tree = TreeFiles(folder / TREE)
    try:
        level, count = 0, checkpoint.size
        while count:
            for tile in range((count + TILE - 1) // TILE):
                width = min(TILE, count - tile * TILE)
                path = target / "tile" / str(level) / tile_path(tile, width)
                _write(path, tree.read(level, tile * TILE, width))
                files += 1
            level, count = level + 1, count // TILE
    finally:
        tree.close()
    first = checkpoint.size
    for number, bundle in _bundles(folder / ENTRIES, checkpoint.size):
        first = min(first, number * TILE)
        data = b"".join(len(entry).to_bytes(2, "big") + entry for entry in bundle)
        _write(target / "tile" / "entries" / tile_path(number, len(bundle)), data)
        files += 1
    # Last: whoever finds it finds all that it is signed over.
    _write(target / CHECKPOINT, note.encode())
    return Exported(checkpoint.size, first, files + 1)


def tile_path(number: int, width: int = TILE) -> str:
    """Where the tile of this number stands below its level: 1234067 is `x001/x234/067`."""
    parts = [f"{number % 1_000:03}"]
    while number := number // 1_000:
        parts.append(f"x{number % 1_000:03}")
    path = "/".join(reversed(parts))
    return path if width == TILE else f"{path}.p/{width}"


def _bundles(entries: Path, size: int) -> Iterator[tuple[int, list[bytes]]]:
    """The entries by bundle, without those that are not whole because the first of them are not kept."""
    bundle: list[bytes] = []
    for index, entry in entries_from(entries, 0):
        if index >= size:
            break
        if not bundle and index % TILE:
            continue
        bundle.append(entry)
        if len(bundle) == TILE:
            yield index // TILE, bundle
            bundle = []
    if bundle:
        yield (size - 1) // TILE, bundle


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
