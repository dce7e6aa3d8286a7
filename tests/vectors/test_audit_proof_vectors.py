"""Proofs that any program can check: our reader and the one of docs/ agree on each of them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from gateway.audit_trail.checkpoints import BadCheckpoint, VerifierKey
from gateway.audit_trail.proofs import Proof

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "tests" / "vectors" / "audit_proofs.json").read_text("utf-8"))


def _check_proof():
    spec = importlib.util.spec_from_file_location("check_proof", ROOT / "docs" / "check_proof.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.check_proof


check_proof = _check_proof()


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["name"])
def test_what_is_proven(vector):
    entry, key = vector["entry"].encode(), vector["key"]
    checkpoint = Proof.parse(vector["proof"]).check(entry, VerifierKey.parse(key))
    assert checkpoint.size == vector["size"]
    assert check_proof(key, vector["proof"], entry) == checkpoint.text().removesuffix("\n")
    assert Proof.parse(vector["proof"]).text() == vector["proof"]


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda vector: vector["name"])
def test_what_is_not(vector):
    entry, key = vector["entry"].encode(), vector["key"]
    with pytest.raises(BadCheckpoint):
        Proof.parse(vector["proof"]).check(entry, VerifierKey.parse(key))
    with pytest.raises((ValueError, InvalidSignature)):
        check_proof(key, vector["proof"], entry)


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["name"])
def test_a_proof_that_was_cut_anywhere_is_none(vector):
    """The program says so by the errors that it names."""
    entry, key, proof = vector["entry"].encode(), vector["key"], vector["proof"]
    for end in range(len(proof) - 1):
        with pytest.raises((ValueError, InvalidSignature)):
            check_proof(key, proof[:end], entry)


def test_the_program_is_short_enough_to_read():
    assert len((ROOT / "docs" / "check_proof.py").read_text("utf-8").splitlines()) <= 40
