"""Signed notes: what is signed, what is read of others, and what does not count."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit_trail.checkpoints import BadCheckpoint, SigningKey, VerifierKey, origin_of
from gateway.audit_trail.proofs import Proof

KEY = SigningKey("gateway-1/node", bytes(range(32)))
NOTE = KEY.sign(20, bytes(32))
# Of the documentation of Go's golang.org/x/mod/sumdb/note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_says_what_was_signed():
    found = KEY.verifier.verified(NOTE)
    assert (found.origin, found.size, found.root) == ("gateway-1/node", 20, bytes(32))
    assert NOTE.startswith(f"gateway-1/node\n20\n{base64.b64encode(bytes(32)).decode()}\n\n— gateway-1/node ")
    assert origin_of(NOTE) == "gateway-1/node"
    assert VerifierKey.parse(f"{KEY.verifier}\n") == KEY.verifier


def test_keys_and_signatures_are_those_of_go():
    key = VerifierKey.parse(GO_KEY)
    assert str(key) == GO_KEY
    text, signature = GO_NOTE.split("\n\n")
    raw = base64.b64decode(signature.split(" ")[2])
    assert raw[:4] == key.id
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    Ed25519PublicKey.from_public_bytes(key.public).verify(raw[4:], f"{text}\n".encode())


def test_other_signatures_beside_it_do_not_matter():
    other = SigningKey("witness.example", bytes(32)).sign(20, bytes(32)).split("\n\n")[1]
    assert KEY.verifier.verified(NOTE + other).size == 20
    assert KEY.verifier.verified(NOTE.replace("\n\n", f"\n\n{other}")).size == 20


@pytest.mark.parametrize(
    ("note", "says"),
    [
        ("", "no checkpoint"),
        ("x\n\n— y AAAA\n", "no checkpoint"),
        (NOTE[:-1], "cut"),
        (NOTE[: len(NOTE) // 2], "cut"),
        (NOTE.replace("\n20\n", "\n21\n"), "signature is wrong"),
        (NOTE.replace("\n20\n", "\n020\n"), "no checkpoint"),
        (NOTE.replace("\n20\n", "\n-1\n"), "no checkpoint"),
        (NOTE.replace("gateway-1/node\n20", "gateway-1/other\n20"), "another trail: gateway-1/other"),
        (SigningKey("gateway-1/node", bytes(32)).sign(20, bytes(32)), "not signed by the key"),
        (NOTE.replace("—", "-"), "can't be read"),
        (NOTE + "\x00", "no whole checkpoint"),
        (NOTE.replace("gateway", "\ud800", 1), "half a character"),
        (NOTE.replace("\n\n", "\n\udfff\n\n"), "half a character"),
        ("x" * 70_000, "longer"),
    ],
)
def test_what_does_not_count_says_why(note, says):
    with pytest.raises(BadCheckpoint, match=says):
        KEY.verifier.verified(note)


@given(st.integers(0, len(NOTE) - 1), st.characters())
def test_no_changed_character_counts(at, character):
    changed = NOTE[:at] + character + NOTE[at + 1 :]
    if changed != NOTE:
        with pytest.raises(BadCheckpoint):
            KEY.verifier.verified(changed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b+c",
        "\ud800+00+AAAA",
        str(KEY.verifier)[:-4],
        str(KEY.verifier).replace("node", "other"),
        "x y+00+AAAA",
    ],
)
def test_what_is_no_key_is_refused(text):
    with pytest.raises(BadCheckpoint):
        VerifierKey.parse(text)


@given(st.text(max_size=200))
def test_no_text_breaks_the_readers(text):
    for read in (KEY.verifier.verified, VerifierKey.parse, Proof.parse):
        with pytest.raises(BadCheckpoint):
            read(text)
