"""Proofs that an entry is in the trail: C2SP's tlog-proof, which `docs/check_proof.py` checks too.

Sans-I/O.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from gateway.audit_trail.checkpoints import BadCheckpoint, Checkpoint, VerifierKey
from gateway.audit_trail.merkle import is_included, leaf_hash

_FORMAT = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,17})")
_LONGEST = 64
"""Hashes of a proof at most: a tree of 2^64 leaves needs no more."""


@dataclass(frozen=True, slots=True)
class Proof:
    """An entry's number, the sibling hashes on the way up to the root, and the checkpoint with that root."""

    index: int
    hashes: tuple[bytes, ...]
    note: str
    """The checkpoint, signed."""

    def text(self) -> str:
        """As it is written to a file."""
        hashes = "".join(f"{base64.b64encode(one).decode()}\n" for one in self.hashes)
        return f"{_FORMAT}\nindex {self.index}\n{hashes}\n{self.note}"

    @classmethod
    def parse(cls, text: str) -> Proof:
        """Read one. Raises BadCheckpoint."""
        head, _, note = text.partition("\n\n")
        lines = head.split("\n")
        if lines[0] != _FORMAT:
            raise BadCheckpoint(f"it is no proof: its first line is not {_FORMAT}")
        if len(lines) > 1 and lines[1].startswith("extra "):
            del lines[1]
        index = _INDEX.fullmatch(lines[1]) if len(lines) > 1 else None
        if index is None or len(lines) > 2 + _LONGEST:
            raise BadCheckpoint("it is no proof: it has no index, or too many hashes")
        try:
            hashes = tuple(base64.b64decode(line, validate=True) for line in lines[2:])
        except ValueError:
            raise BadCheckpoint("it is no proof: one of its hashes can't be read") from None
        return cls(int(index[1]), hashes, note)

    def check(self, entry: bytes, key: VerifierKey) -> Checkpoint:
        """Return the checkpoint if it covers `entry`. Raises BadCheckpoint if it does not."""
        checkpoint = key.verified(self.note)
        if not is_included(leaf_hash(entry), self.index, checkpoint.size, self.hashes, checkpoint.root):
            raise BadCheckpoint(f"this is not entry {self.index} of {checkpoint.origin}")
        return checkpoint
