"""Keys and nonces: which key seals, which open, and that no nonce comes twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from gateway.keys.key_ring import USES_MAX, Key, KeyRing, KeyState, KeysUnavailable, Nonces

ACTIVE = Key("k2", b"2" * 32, KeyState.ACTIVE, 0)
OLD = Key("k1", b"1" * 32, KeyState.DECRYPT_ONLY, 0)
GONE = Key("k0", b"", KeyState.DESTROYED, 0)
GONE_OLD = Key("k1", b"", KeyState.DESTROYED, 0)


class Fields:
    """Random fields that can be foretold, and counted."""

    def __init__(self):
        self.drawn = 0

    def __call__(self, size):
        self.drawn += 1
        return self.drawn.to_bytes(size, "big")


def test_a_nonce_is_a_field_and_a_count():
    nonces = Nonces(Fields())
    assert [nonces.next().hex() for _ in range(3)] == [f"{1:016x}{count:08x}" for count in range(3)]


def test_the_count_never_wraps_under_the_same_field():
    fields = Fields()
    nonces = Nonces(fields)
    nonces._count = 2**32 - 2
    last = [nonces.next().hex() for _ in range(4)]
    assert last == [f"{1:016x}fffffffe", f"{1:016x}ffffffff", f"{2:016x}00000000", f"{2:016x}00000001"]
    assert fields.drawn == 2


def test_every_nonce_has_twelve_bytes_and_comes_once():
    nonces = Nonces(os.urandom)
    drawn = {nonces.next() for _ in range(20_000)}
    assert len(drawn) == 20_000
    assert {len(nonce) for nonce in drawn} == {12}


def test_processes_and_restarts_do_not_meet():
    program = (
        "import os; from gateway.keys.key_ring import Nonces; n = Nonces(os.urandom);"
        "print(*(n.next().hex() for _ in range(200)), sep='\\n')"
    )
    running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(4)]
    seen = Counter(line for one in running for line in one.communicate()[0].split())
    assert len(seen) == 800
    assert {len(nonce) for nonce in seen} == {24}


def test_one_key_seals_and_the_others_open():
    ring = KeyRing([OLD, ACTIVE, GONE], Nonces(os.urandom), {})
    assert ring.active_id == "k2"
    data = ring.encrypt(b"x", b"bound")
    assert ring.opener("k2").decrypt(data[:12], data[12:], b"bound") == b"x"
    assert ring.opener("k1") is not None
    assert ring.opener("k0") is None
    assert ring.opener("k9") is None


@pytest.mark.parametrize("keys", [[], [OLD], [ACTIVE, Key("k3", b"3" * 32, KeyState.ACTIVE, 0)]])
def test_there_is_exactly_one_active_key(keys):
    with pytest.raises(ValueError, match="exactly one"):
        KeyRing(keys, Nonces(os.urandom), {})


def test_a_key_is_not_used_for_ever():
    # NIST SP 800-38D, 8.3
    assert USES_MAX < 2**32
    ring = KeyRing([ACTIVE, OLD], Nonces(os.urandom), {"k2": USES_MAX - 2, "k1": USES_MAX})
    ring.encrypt(b"", b"")
    ring.encrypt(b"", b"")
    with pytest.raises(KeysUnavailable, match="rotated"):
        ring.encrypt(b"", b"")
    assert ring.take_unsaved_uses() == {"k2": 2}
    assert ring.uses == USES_MAX


def test_uses_are_handed_over_once():
    ring = KeyRing([ACTIVE], Nonces(os.urandom), {})
    for _ in range(3):
        ring.encrypt(b"", b"")
    assert ring.uses == 3
    assert ring.take_unsaved_uses() == {"k2": 3}
    assert ring.take_unsaved_uses() == {}
    assert ring.uses == 3


def test_rotation_takes_effect_in_place():
    ring = KeyRing([ACTIVE, OLD], Nonces(Fields()), {"k2": 7})
    old = ring.encrypt(b"x", b"")
    newer = Key("k3", b"3" * 32, KeyState.ACTIVE, 1)
    ring.replace([replace(ACTIVE, state=KeyState.DECRYPT_ONLY), GONE_OLD, newer], {"k2": 7, "k3": 5})
    assert (ring.active_id, ring.uses) == ("k3", 5)
    new = ring.encrypt(b"y", b"")
    assert ring.opener("k2").decrypt(old[:12], old[12:], b"") == b"x"
    assert ring.opener("k3").decrypt(new[:12], new[12:], b"") == b"y"
    assert ring.opener("k1") is None
    assert old[:12] != new[:12]
    assert ring.take_unsaved_uses() == {"k2": 1, "k3": 1}


def test_uses_are_not_forgotten_by_reading_the_file_again():
    ring = KeyRing([ACTIVE], Nonces(os.urandom), {"k2": 10})
    ring.encrypt(b"", b"")
    ring.replace([ACTIVE], {"k2": 10})
    assert ring.uses == 11
    # Another process has used it too, and its uses are in the store already.
    ring.replace([ACTIVE], {"k2": 50})
    assert ring.uses == 51
    assert ring.take_unsaved_uses() == {"k2": 1}
    # Taken, but perhaps not saved yet.
    ring.replace([ACTIVE], {"k2": 10})
    assert ring.uses == 51


def test_keys_that_can_not_be_a_ring_change_nothing():
    ring = KeyRing([ACTIVE, OLD], Nonces(os.urandom), {})
    with pytest.raises(ValueError, match="exactly one"):
        ring.replace([OLD], {})
    assert ring.active_id == "k2"
    assert ring.opener("k2") is not None


@pytest.mark.parametrize("state", [KeyState.DESTROYED, KeyState.VERIFY_ONLY])
def test_the_state_decides_what_opens_and_not_what_is_there(state):
    ring = KeyRing([ACTIVE, Key("k1", b"1" * 32, state, 0)], Nonces(os.urandom), {})
    assert ring.opener("k1") is None


def test_states_by_name():
    ring = KeyRing([ACTIVE, OLD, GONE], Nonces(os.urandom), {})
    states = {name: ring.state_of(name) for name in ("k0", "k1", "k2", "k9")}
    assert states == {
        "k0": KeyState.DESTROYED,
        "k1": KeyState.DECRYPT_ONLY,
        "k2": KeyState.ACTIVE,
        "k9": None,
    }


def test_no_key_shows():
    assert "222" not in repr(ACTIVE)
    assert "222" not in repr(KeyRing([ACTIVE], Nonces(os.urandom), {}))
