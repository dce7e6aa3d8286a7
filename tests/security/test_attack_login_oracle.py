"""A long password must not show by its cost which devices are there.

Once a peer is throttled Argon2 isn't asked any more, and the look at remembered secrets is all that is left:
for 65,000 bytes 0.1 ms, which told a device that had logged in from none. What is counted here is that work,
not its time.
"""

from __future__ import annotations

import pytest

from gateway.auth import passwords
from gateway.auth.credentials import Credentials
from gateway.auth.login import Login
from gateway.auth.passwords import PasswordPool, VerifiedSecrets
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import Tokens
from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits

SECRET = b"s" * 65_000


class Devices:
    available = True

    def __init__(self) -> None:
        self.known = {
            name: Device(
                name,
                (),
                {},
                enabled=name != "disabled",
                credential="x",
                version=1,
                created_at=0,
                updated_at=0,
            )
            for name in ("remembered", "fresh", "disabled")
        }

    def get(self, device_id: str) -> Device | None:
        return self.known.get(device_id)


@pytest.mark.parametrize("name", [b"remembered", b"fresh", b"disabled", b"unknown", b"no/id", None])
def test_every_guess_is_digested_once(monkeypatch: pytest.MonkeyPatch, name: bytes | None) -> None:
    devices = Devices()
    pool = PasswordPool()
    remembered = VerifiedSecrets()
    remembered.add(devices.known["remembered"], SECRET)
    tokens = Tokens(SigningKeys.of_secret(bytes(32)), devices, now=lambda: 0, ttl=60)
    login = Login(devices, pool, remembered, tokens, limits=Limits(), rehash=lambda *_: None)
    digested = []
    real = passwords.hashlib.blake2b

    def counting(data: bytes, **words: object) -> object:
        digested.append(len(data) >= len(SECRET))
        return real(data, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(passwords.hashlib, "blake2b", counting)
    try:
        wrong = Credentials(username=name, password=SECRET[:-1] + b"x")
        assert login.recognise(wrong, "192.0.2.7") is None
        assert digested == [True]
        found = login.recognise(Credentials(username=name, password=SECRET), "192.0.2.7")
        assert (found is not None) is (name == b"remembered")
    finally:
        pool.close()
