"""The tree against RFC 6962's own recursive words, and known answers of other implementations."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit_trail.merkle import (
    EMPTY_ROOT,
    inclusion_proof,
    is_included,
    leaf_hash,
    perfect_root,
    root,
)

# The leaves and roots of certificate-transparency's and Trillian's tests.
LEAVES = [bytes.fromhex(one) for one in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
LEAVES.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


class Hashes:
    """A tree in memory."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = [leaf_hash(leaf) for leaf in leaves]

    def subtree(self, start: int, size: int) -> bytes:
        assert start % size == 0
        return perfect_root(self.leaves[start : start + size])


def by_the_book(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + by_the_book(leaves[:k]) + by_the_book(leaves[k:])).digest()


def test_roots_are_those_of_other_implementations():
    for size, expected in enumerate(ROOTS, 1):
        assert root(Hashes(LEAVES), size).hex() == expected
    assert root(Hashes([]), 0) == EMPTY_ROOT == by_the_book([])


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_roots_are_those_of_the_book(leaves):
    assert root(Hashes(leaves), len(leaves)) == by_the_book(leaves)


@given(st.integers(1, 70), st.data())
def test_a_proof_holds_for_its_own_entry_place_and_size_alone(size, data):
    leaves = [bytes([number]) for number in range(size)]
    tree, index = Hashes(leaves), data.draw(st.integers(0, size - 1))
    proof, top = inclusion_proof(tree, index, size), root(tree, size)
    leaf = leaf_hash(leaves[index])
    assert is_included(leaf, index, size, proof, top)
    assert not is_included(leaf_hash(b"other"), index, size, proof, top)
    assert not is_included(leaf, index, size, [*proof, leaf], top)
    assert not is_included(leaf, -1, size, proof, top)
    assert not is_included(leaf, size, size, proof, top)
    for other in set(range(size)) - {index}:
        assert not is_included(leaf, other, size, proof, top)
    for at in range(len(proof)):
        assert not is_included(leaf, index, size, [*proof[:at], bytes(32), *proof[at + 1 :]], top)
        assert not is_included(leaf, index, size, proof[:at] + proof[at + 1 :], top)


def test_there_is_no_proof_of_what_is_not_there():
    for index in (-1, 3):
        with pytest.raises(ValueError, match="has no leaf"):
            inclusion_proof(Hashes(LEAVES[:3]), index, 3)
