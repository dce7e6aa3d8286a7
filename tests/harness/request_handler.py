"""A request handler with everything it needs, and the clock in the test's hands."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace

from gateway.auth.passwords import hash_secret
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import Tokens
from gateway.connection.commands import Call
from gateway.connection.events import Answer
from gateway.connection.process_context import Context
from gateway.keys.key_ring import Key, KeyRing, KeyState, Nonces
from gateway.policy.engine.identity import Device, Grant, Identity
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule
from gateway.policy.engine.service_names import Service
from gateway.services.bearer_cache import BearerCache
from gateway.services.request_handler import RequestHandler
from gateway.services.token_issuer import TokenIssuer

NOW = 1_764_000_000_000
SECRET = "correct horse"
CREDENTIAL = hash_secret(SECRET.encode())


def device(device_id: str, *roles: str, **fields: object) -> Device:
    plain = Device(device_id, roles, {}, True, CREDENTIAL, version=1, created_at=0, updated_at=0)
    return replace(plain, **fields)


def allow(topic: str, *actions: str) -> Rule:
    return Rule(Effect.ALLOW, frozenset(map(Action, actions)), topic, file="acl.toml", line=1)


def deny(topic: str, *actions: str) -> Rule:
    return replace(allow(topic, *actions), effect=Effect.DENY)


ALL = ("publish", "subscribe", "encrypt", "decrypt")
ROLES = (
    Role("corner", "", (allow("corner/{device}/#", *ALL), allow("corner/{client}/its", *ALL))),
    Role("full", "", (allow("#", *ALL), allow("$SYS/#", *ALL), deny("closed/#", *ALL))),
    Role("hearer", "", (allow("open/#", "subscribe"),)),
)


def policy(**limits: int) -> Policy:
    """Sensitive is `private/#`; `limits` are fields of Limits."""
    return Policy(ROLES, sensitive=["private/#"], limits=Limits(**limits), reserved="gateway")


@dataclass
class Devices:
    """What the directory answers."""

    devices: dict[str, Device]
    available: bool = True

    def get(self, device_id: str) -> Device | None:
        return self.devices.get(device_id)


class Counter:
    """A request handler, and who asks it: `svc` may do nearly everything, `other` what is in its corner."""

    def __init__(self, **limits: int) -> None:
        self.now = NOW
        self.devices = Devices(
            {"svc": device("svc", "full"), "other": device("other", "corner"), "mute": device("mute")}
        )
        self.keys = [Key("k1", os.urandom(32), KeyState.ACTIVE, 0)]
        self.context = Context(
            policy=policy(**limits),
            ring=KeyRing(self.keys, Nonces(os.urandom), {}),
            now=lambda: self.now,
            new_client_id=lambda: "auto",
        )
        self.signing_seed = os.urandom(32)
        signing = SigningKeys.of_keys([Key("s1", self.signing_seed, KeyState.ACTIVE, 0)], 0)
        self.tokens = Tokens(signing, self.devices, now=lambda: self.now, ttl=3_600)
        self.bearer_cache = BearerCache(self.tokens, self.context.now)
        self.token_issuer = TokenIssuer(self.context, self.tokens)
        self.request_handler = RequestHandler(
            self.context, self.bearer_cache, self.token_issuer, self.devices, prefix="gateway"
        )
        self._identities: dict[str, Identity] = {}

    def identity(self, device_id: str, *, grant: Grant | None = None) -> Identity:
        """That of one connection: the same for each request."""
        if grant is None and device_id in self._identities:
            return self._identities[device_id]
        known = self.devices.devices[device_id]
        made = Identity(device_id, known.roles, known.labels, client_id="a-client", grant=grant)
        return made if grant is not None else self._identities.setdefault(device_id, made)

    def raw(
        self,
        service: str,
        payload: bytes,
        *,
        who: str = "svc",
        response_topic: str | None = None,
        correlation: bytes | None = None,
        grant: Grant | None = None,
    ) -> Answer:
        call = Call(Service(service), payload, response_topic, correlation)
        return self.request_handler.answer(call, self.identity(who, grant=grant))

    def ask(self, service: str, /, *, who: str = "svc", **fields: object) -> dict[str, object]:
        """The answer to a plain request of these fields."""
        return json.loads(self.raw(service, json.dumps(fields).encode(), who=who).payload)

    def token(self, device_id: str = "svc") -> str:
        return self.token_issuer.issue(self.devices.devices[device_id], source="auth").token

    def revoke_everything(self, device_id: str) -> None:
        changed = self.devices.devices[device_id]
        self.devices.devices[device_id] = replace(changed, token_epoch=changed.token_epoch + 1)
