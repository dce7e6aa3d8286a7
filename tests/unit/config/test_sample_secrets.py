"""Secrets of somebody's example are refused by name, wherever a secret is given; one that was made is not."""

from __future__ import annotations

import base64
import os
import secrets

import pytest

from gateway.admin.secret_rules import secret_fault
from gateway.config import ConfigError, load_settings
from gateway.config.sample_secrets import is_sample

SAMPLES = [
    "alicia_password_2024",
    "alicia_mqtt_password",
    "super_secret_key",
    "mysecretpassword",
    "My-Very-Secret-Token-1",
    "mqtt_broker_password",
    "top secret",
    "secretkey",
    "your_jwt_secret_key",
    "your-256-bit-secret-key-here",
    "your_super_secret_jwt_key",
    "changeme",
    "ChangeMe!",
    "change_me_please",
    "CHANGE-ME-1",
    "please-changeme",
    "replace_this_with_a_secret",
    "<insert your key here>",
    "password",
    "Password123",
    "passw0rd",
    "mosquitto",
    "supersecret",
    "default_encryption_key",
    "xxxxxxxx",
    "example",
]
FINE = [
    "hunter2",
    "correct horse battery staple",
    "pa${HOME}ss",
    "x" * 32,
    "0123456789012345678901234567890123456789",
    "a passphrase of today's settings",
    "Yours truly, 4 clouds",
    "changelings-at-9",
    "my secret garden has a gate",
    "the monkey keeps super tokens",
    "alicia keys at the piano",
    "passport to the key of c",
    "user-friendly mqtt lamps",
]


@pytest.mark.parametrize("text", SAMPLES)
def test_a_sample_is_refused_by_name(monkeypatch, tmp_path, text):
    assert is_sample(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MQTT_BROKER", "bus")
    monkeypatch.setenv("MQTT_USERNAME", "gateway")
    monkeypatch.setenv("MQTT_PASSWORD", text)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    (problem,) = refused.value.problems
    assert problem.startswith("MQTT_PASSWORD (environment): this is a sample")
    assert f"{text!r}" not in problem


@pytest.mark.parametrize("name", ["JWT_SECRET", "ENCRYPTION_KEY"])
def test_each_secret_is_looked_at(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "your_very_long_jwt_secret_key_here_please_change")
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert "this is a sample" in refused.value.problems[0]


def test_in_a_file_too_and_for_a_device(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text("your_jwt_secret_key_change_it_in_production\n")
    monkeypatch.setenv("JWT_SECRET_FILE", "secret")
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert "this is a sample" in refused.value.problems[0]
    assert "sample" in (secret_fault(b"alicia_password_2024") or "")


@pytest.mark.parametrize("text", FINE)
def test_what_somebody_chose_is_not(text):
    assert not is_sample(text)


def test_what_was_made_is_not():
    for _ in range(2_000):
        assert not is_sample(secrets.token_urlsafe(32))
        assert not is_sample(base64.b64encode(os.urandom(32)).decode())
        assert not is_sample(os.urandom(32).hex())
