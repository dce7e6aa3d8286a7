"""The Merkle tree of RFC 6962, section 2.1: hashes of leaves, of nodes, and proofs that a leaf is in a tree.

Sans-I/O: a `Subtrees` gives the hashes. Leaves and nodes are hashed with different prefixes (0x00, 0x01), so
that nobody can pass a node off as an entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Protocol

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves."""


class Subtrees(Protocol):
    """What knows the roots of whole subtrees."""

    def subtree(self, start: int, size: int) -> bytes:
        """The root over the leaves from `start` on; `size` is a power of two that divides `start`."""
        ...


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node over two others."""
    return sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The root over these hashes, whose number is a power of two."""
    while len(hashes) > 1:
        hashes = [
            sha256(b"\x01" + left + right).digest()
            for left, right in zip(hashes[::2], hashes[1::2], strict=True)
        ]
    return hashes[0]


def root(tree: Subtrees, size: int) -> bytes:
    """The root of a tree of `size` leaves."""
    return _range_root(tree, 0, size) if size else EMPTY_ROOT


def inclusion_proof(tree: Subtrees, index: int, size: int) -> list[bytes]:
    """The sibling hashes on the way from leaf `index` up to the root (2.1.1), the leaf's sibling first."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    start, end = 0, size
    beside: list[bytes] = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            beside.append(_range_root(tree, middle, end))
            end = middle
        else:
            beside.append(_range_root(tree, start, middle))
            start = middle
    return beside[::-1]


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> bool:
    """Whether the proof leads from the hash of leaf `index` to the root `expected` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    number, last, found = index, size - 1, leaf
    for beside in proof:
        if last == 0:
            return False
        if number & 1 or number == last:
            found = node_hash(beside, found)
            while not number & 1 and number:
                number >>= 1
                last >>= 1
        else:
            found = node_hash(found, beside)
        number >>= 1
        last >>= 1
    return last == 0 and compare_digest(found, expected)


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _range_root(tree: Subtrees, start: int, end: int) -> bytes:
    size = end - start
    if size & (size - 1) == 0:
        return tree.subtree(start, size)
    middle = start + _split(size)
    return node_hash(tree.subtree(start, middle - start), _range_root(tree, middle, end))
