"""The entry point of every login, with real keys and a real store, and the means to make tokens for it."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.auth.credentials import Admission, Credentials, LoginRefused
from gateway.auth.login import Login
from gateway.auth.passwords import PasswordPool, VerifiedSecrets
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import TokenFault, TokenRefused, Tokens, looks_like_token
from gateway.keys.key_files import ensure_signing_file, read_signing_file
from gateway.keys.key_ring import KeyState
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits
from gateway.store import Store

PERMISSIONS = {"publish": ["devices/lamp-1/telemetry"], "subscribe": [], "encrypt": [], "decrypt": []}
HEADER = {"alg": "EdDSA", "kid": "s1", "typ": "JWT"}


class NoHashes(PasswordPool):
    """No token is worth one."""

    def submit(self, work: Callable[[], Any]) -> Any:
        raise AssertionError("Argon2 was asked about a token")


@dataclass
class Gate:
    """A gateway as far as logging in goes."""

    folder: Path
    store: Store
    available: bool = True
    devices: dict[str, Device] = field(default_factory=dict)
    ahead: int = 0
    """Seconds that its clock is ahead of the tests'."""

    def __post_init__(self) -> None:
        self.key_file = self.folder / "keys" / "signing.key"
        ensure_signing_file(self.key_file, None)
        self.tokens = Tokens(self.keys(), self, now=self.now, ttl=3600)
        self.login = Login(
            self, NoHashes(), VerifiedSecrets(), self.tokens, limits=Limits(), rehash=lambda *_: None
        )

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead * 1000

    def keys(self) -> SigningKeys:
        return SigningKeys.of_keys(read_signing_file(self.key_file, None), self.now() // 1000)

    def private(self) -> Ed25519PrivateKey:
        (active,) = (key for key in read_signing_file(self.key_file, None) if key.state is KeyState.ACTIVE)
        return Ed25519PrivateKey.from_private_bytes(active.material)

    def get(self, device_id: str) -> Device | None:
        return self.devices.get(device_id)

    async def follow(self) -> None:
        """See what is in the store now."""
        self.devices = {device.device_id: device for device in await self.store.devices.read()}

    async def add(self, device_id: str = "lamp-1") -> None:
        await self.store.devices.add(device_id, credential="x", roles=["sensor"], labels={})
        await self.follow()

    def issue(self, device_id: str = "lamp-1", **named: Any) -> Any:
        return self.tokens.issue(self.devices[device_id], PERMISSIONS, **named)

    def good(self) -> bytes:
        return self.issue().token.encode()

    def claims(self) -> dict[str, Any]:
        return json.loads(decoded(self.good().split(b".")[1]))

    def signed(self, claims: object, header: object = None) -> bytes:
        """A token under our own key, with whatever stands in it."""
        return signed(HEADER if header is None else header, claims, self.private())

    def enter(self, token: bytes, username: bytes | None = None) -> Admission:
        # As a password where it can be one, as nearly all clients send it; else by `gateway-jwt`.
        way = {"password": token} if looks_like_token(token) else {"password": None, "token": token}
        found = self.login.recognise(Credentials(username=username, **way), "192.0.2.1")
        assert found is not None
        return found

    def keeps_out(self, token: bytes, fault: TokenFault = TokenFault.INVALID) -> TokenRefused:
        """The peer learns nothing but no; what the services and the log say is the answer."""
        with pytest.raises(LoginRefused) as refused:
            self.enter(token)
        assert refused.value.reason in {Reason.NOT_AUTHORIZED, Reason.CONNECTION_RATE_EXCEEDED}
        with pytest.raises(TokenRefused) as caught:
            self.tokens.verify(token)
        assert caught.value.fault is fault
        for part in token.decode("latin-1").split("."):
            assert len(part) < 8 or part not in f"{caught.value!r} {refused.value!r} {refused.value.why}"
        return caught.value


def encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def decoded(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"==")


def part(value: object) -> bytes:
    """A part of a token: bytes as they are, all else as JSON."""
    return encoded(value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode())


def signed(
    header: object, claims: object, key: Ed25519PrivateKey | bytes | None, digest: str = "sha256"
) -> bytes:
    head = part(header) + b"." + part(claims)
    if key is None:
        return head + b"."
    made = hmac.digest(key, head, digest) if isinstance(key, bytes) else key.sign(head)
    return head + b"." + encoded(made)
