"""Secrets that cannot be shown by accident."""

from __future__ import annotations

import base64
import pickle
import traceback

import pytest

from gateway.keys.secret_values import Secret, generate_device_secret


def test_a_secret_shows_in_no_text():
    secret = Secret(b"hunter2")
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        repr([secret]),
        repr({"a": secret}),
    ]
    assert not any("hunter2" in text for text in shown)
    assert secret.reveal() == b"hunter2"


def test_a_secret_shows_in_no_traceback_with_locals():
    def fail(secret: Secret) -> None:
        raise RuntimeError(secret)

    try:
        fail(generate_device_secret())
    except RuntimeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        (secret,) = error.args
    assert "Secret(***)" in shown
    assert secret.reveal().decode() not in shown


def test_a_secret_is_not_written_out():
    with pytest.raises(TypeError):
        pickle.dumps(Secret(b"hunter2"))
    with pytest.raises(TypeError):
        hash(Secret(b"hunter2"))
    assert not hasattr(Secret(b"x"), "__dict__")


def test_secrets_compare():
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"


def test_a_device_secret_has_256_bits_and_is_easily_typed():
    made = {generate_device_secret().reveal() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert len(base64.urlsafe_b64decode(secret + b"=")) == 32
