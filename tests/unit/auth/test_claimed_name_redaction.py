"""A name that nobody has may be a secret typed in the wrong place: no refusal carries it out."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gateway.auth.claimed_name_redaction import ClaimedNames
from gateway.auth.credentials import Credentials, LoginRefused
from gateway.auth.login import Login
from gateway.auth.login_gate import LoginGate, Peer
from gateway.auth.passwords import Busy, PasswordPool, VerifiedSecrets
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import Tokens
from gateway.connection.process_counters import Counters
from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits

LAMP = Device(
    device_id="lamp-1",
    roles=(),
    labels={},
    enabled=True,
    credential="",
    version=1,
    created_at=0,
    updated_at=0,
)
TYPED = "c0rrect-horse_battery.staple"
DIGEST = re.compile("unknown:[0-9a-f]{12}")
NOTHING = {"publish": (), "subscribe": (), "encrypt": (), "decrypt": ()}


class Devices:
    def __init__(self) -> None:
        self.available = True
        self.devices = {"lamp-1": LAMP}

    def get(self, device_id: str) -> Device | None:
        return self.devices.get(device_id)


class Pool(PasswordPool):
    """Every secret is wrong, or there is no time to say so."""

    busy = False

    async def verify(self, credential: str | None, secret: bytes) -> bool:
        if self.busy:
            raise Busy("too many")
        return False


class World:
    def __init__(self) -> None:
        self.devices, self.pool = Devices(), Pool()
        self.tokens = Tokens(SigningKeys.of_secret(bytes(32)), self.devices, now=lambda: 10**12, ttl=60)
        login = Login(
            self.devices,
            self.pool,
            VerifiedSecrets(),
            self.tokens,
            limits=Limits(login_failures_per_minute=2),
            rehash=lambda *_: None,
        )
        self.gate = LoginGate(login, ClaimedNames(self.devices), Counters(), lambda *_: None, lambda *_: None)

    async def refused(self, username=None, password=b"x", certificate_id=None, token=None) -> LoginRefused:
        name = None if username is None else username.encode()
        shown = Credentials(username=name, password=password, certificate_id=certificate_id, token=token)
        peer = Peer(host="192.0.2.1", origin=None)
        with pytest.raises(LoginRefused) as caught:
            self.gate.recognise(shown, peer) or await self.gate.verify(shown, peer)
        return caught.value


@pytest.fixture
def world():
    world = World()
    yield world
    world.pool.close()


WAYS = {
    "with a wrong secret": {},
    "with nothing": {"password": None},
    "with a token in the password": {"password": b"eyJhbGciOiJub25lIn0.e30.c2ln"},
    "with a token by its method": {"password": None, "token": b"t"},
    "with both": {"token": b"t"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", ["well", "no store", "busy", "throttled"])
async def test_what_was_typed_as_a_user_name_leaves_no_gate(world, way, state):
    world.devices.available = state != "no store"
    world.pool.busy = state == "busy"
    for _ in range(3 if state == "throttled" else 1):
        refused = await world.refused(TYPED, **WAYS[way])
        assert TYPED not in f"{refused!r} {refused} {refused.why} {refused.__dict__}"
        assert DIGEST.fullmatch(refused.device_id)


@pytest.mark.parametrize("way", WAYS)
async def test_a_device_that_exists_is_named(world, way):
    assert (await world.refused("lamp-1", **WAYS[way])).device_id == "lamp-1"
    world.devices.available = False
    assert (await world.refused("lamp-1", **WAYS[way])).device_id == "lamp-1"


async def test_what_we_or_our_ca_signed_is_named(world):
    """Nobody typed it, and an administrator wants to know which removed device still comes."""
    token = world.tokens.issue(replace(LAMP, device_id="gone"), NOTHING).token.encode()
    assert (await world.refused(password=token)).device_id == "gone"
    assert (await world.refused(password=None, certificate_id="gone")).device_id == "gone"


def test_a_name_has_one_digest_in_a_run_and_no_other_run_has_it():
    names = ClaimedNames(Devices())
    assert names.shown(TYPED) == names.shown(TYPED) != names.shown(TYPED + "x")
    assert names.shown(TYPED) != ClaimedNames(Devices()).shown(TYPED)
    assert names.shown("lamp-1") == "lamp-1"
