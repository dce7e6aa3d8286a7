"""The vectors of the sealed payload: the gateway against them, and the opener of docs/."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from gateway.keys.key_ring import Key, KeyRing, KeyState
from gateway.keys.payload_envelope import OpenFailed, Sealer, open_payload

VECTORS = json.loads(Path(__file__).with_name("envelope.json").read_text("utf-8"))
KEYS = {key_id: bytes.fromhex(key) for key_id, key in VECTORS["keys"].items()}
OPENER = Path(__file__).resolve().parents[2] / "docs" / "open_envelope.py"

opens = pytest.mark.parametrize("vector", VECTORS["opens"], ids=lambda vector: vector["name"])
reads = pytest.mark.parametrize("vector", VECTORS["reads"], ids=lambda vector: vector["name"])
fails = pytest.mark.parametrize("vector", VECTORS["fails"], ids=lambda vector: vector["name"])


class OneNonce:
    def __init__(self, nonce: bytes) -> None:
        self._nonce = nonce

    def next(self) -> bytes:
        return self._nonce


def ring(active="k3", nonce=b"") -> KeyRing:
    states = dict.fromkeys(KEYS, KeyState.DECRYPT_ONLY) | {active: KeyState.ACTIVE}
    return KeyRing(
        [Key(key_id, KEYS[key_id], state, 0) for key_id, state in states.items()], OneNonce(nonce), {}
    )


@pytest.fixture(scope="module")
def opener():
    spec = importlib.util.spec_from_file_location("open_envelope", OPENER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.open_envelope


@opens
def test_the_gateway_opens_it(vector):
    payload = open_payload(ring(), vector["envelope"].encode(), topic=vector["topic"])
    assert payload.hex() == vector["payload"]


@opens
def test_the_gateway_makes_it(vector):
    keys = ring(vector["key_id"], bytes.fromhex(vector["nonce"]))
    sealer = Sealer(keys, lambda: vector["timestamp"], topic=vector["topic"], sender=vector["sender"])
    made = sealer.seal(bytes.fromhex(vector["payload"]))
    # Byte for byte but for what JSON leaves open: how a string is escaped.
    assert list(json.loads(made).items()) == list(json.loads(vector["envelope"]).items())


@reads
def test_the_gateway_reads_it(vector):
    assert open_payload(ring(), vector["message"].encode(), topic=vector["topic"]).hex() == vector["payload"]


@fails
def test_the_gateway_opens_nothing_else(vector):
    with pytest.raises(OpenFailed) as caught:
        open_payload(ring(), vector["message"].encode(), topic=vector["topic"])
    assert "4711" not in str(caught.value)


@opens
def test_the_opener_opens_it(vector, opener):
    assert opener(vector["envelope"].encode(), KEYS, vector["topic"]).hex() == vector["payload"]


@reads
def test_the_opener_reads_it(vector, opener):
    assert opener(vector["message"].encode(), KEYS, vector["topic"]).hex() == vector["payload"]


@fails
def test_the_opener_opens_nothing_else(vector, opener):
    with pytest.raises((ValueError, InvalidTag)):
        opener(vector["message"].encode(), KEYS, vector["topic"])


def test_the_opener_is_a_command():
    vector = VECTORS["opens"][0]
    done = subprocess.run(
        [sys.executable, OPENER, vector["key"]],
        input=vector["envelope"].encode(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.hex() == vector["payload"]


def test_the_opener_needs_nothing_of_the_gateway():
    assert "gateway" not in {
        word
        for line in OPENER.read_text().splitlines()
        if "import" in line
        for word in line.replace(".", " ").split()
    }
