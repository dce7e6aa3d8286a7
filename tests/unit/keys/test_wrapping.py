"""What seals keys where they lie: how ENCRYPTION_KEY is understood, and that nothing shows it."""

from __future__ import annotations

import base64
import os
import pickle

import pytest
from cryptography.exceptions import InvalidTag

from gateway.keys import wrapping
from gateway.keys.wrapping import Wrapping, passphrase_cipher, unwrap, wrap

KEY = bytes(range(224, 256))


@pytest.mark.parametrize(
    "text",
    [
        KEY.hex(),
        KEY.hex().upper(),
        base64.b64encode(KEY).decode(),
        base64.urlsafe_b64encode(KEY).decode(),
    ],
)
def test_a_key_of_32_bytes_is_used_as_it_is(text):
    given = Wrapping.of_text(text)
    assert (given.secret.reveal(), given.is_passphrase, given.new_salt()) == (KEY, False, b"")
    assert unwrap(given.cipher(b""), wrap(given.cipher(b""), b"x", b"bound"), b"bound") == b"x"


@pytest.mark.parametrize("text", ["0" * 63, "sixteen letters.", "passphrase with umlauts äöü", "\udcff" * 16])
def test_all_else_is_a_passphrase(text):
    given = Wrapping.of_text(text)
    assert given.is_passphrase
    assert given.secret.reveal() == text.encode("utf-8", "surrogateescape")
    salts = {given.new_salt() for _ in range(20)}
    assert len(salts) == 20
    assert {len(salt) for salt in salts} == {16}


@pytest.mark.parametrize("text", ["", "x" * 15, "00" * 7])
def test_a_short_passphrase_can_be_guessed(text):
    with pytest.raises(ValueError, match="neither a key") as caught:
        Wrapping.of_text(text)
    assert not text or text not in str(caught.value)


def test_a_passphrase_costs_what_rfc_9106_asks_for(monkeypatch):
    asked = {}

    def counted(*_, **named):
        asked.update(named)
        return bytes(32)

    monkeypatch.setattr("argon2.low_level.hash_secret_raw", counted)
    passphrase_cipher(b"correct horse battery", bytes(16))
    assert (asked["memory_cost"], asked["time_cost"], asked["parallelism"]) == (64 * 1024, 3, 4)
    assert asked["type"].name == "ID"


def test_passphrase_and_salt_both_count():
    sealed = wrap(passphrase_cipher(b"a" * 16, b"s" * 16), b"x", b"")
    assert unwrap(passphrase_cipher(b"a" * 16, b"s" * 16), sealed, b"") == b"x"
    for passphrase, salt in ((b"b" * 16, b"s" * 16), (b"a" * 16, b"t" * 16)):
        with pytest.raises(InvalidTag):
            unwrap(passphrase_cipher(passphrase, salt), sealed, b"")


def test_no_memory_is_told_apart(monkeypatch):
    from argon2.exceptions import HashingError

    def fail(*_, **__):
        raise HashingError("Memory allocation error")

    monkeypatch.setattr("argon2.low_level.hash_secret_raw", fail)
    with pytest.raises(MemoryError):
        passphrase_cipher(b"a" * 16, bytes(16))


def test_what_was_bound_can_not_be_changed_and_no_nonce_comes_twice():
    cipher = Wrapping.of_text(KEY.hex()).cipher(b"")
    sealed = wrap(cipher, b"x", b"bound")
    with pytest.raises(InvalidTag):
        unwrap(cipher, sealed, b"other")
    for size in range(len(sealed)):
        with pytest.raises((InvalidTag, ValueError)):
            unwrap(cipher, sealed[:size], b"bound")
    assert len({wrap(cipher, b"x", b"")[:12] for _ in range(100)}) == 100


def test_it_does_not_show():
    given = Wrapping.of_text("hunter2 hunter2 hunter2")
    assert "hunter2" not in f"{given} {given!r} {given.secret}"
    with pytest.raises(TypeError):
        pickle.dumps(given)
    assert given == Wrapping.of_text("hunter2 hunter2 hunter2")
    assert given != Wrapping.of_text(os.urandom(32).hex())
    assert wrapping.PASSPHRASE_MIN == 16
