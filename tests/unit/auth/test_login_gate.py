"""Beside judging the gate counts each login, tells each refusal, and has patience for so long."""

from __future__ import annotations

import asyncio
from unittest.mock import ANY

import pytest

from gateway.auth.claimed_name_redaction import ClaimedNames
from gateway.auth.credentials import Admission, Credentials, LoginRefused
from gateway.auth.login import Login
from gateway.auth.login_gate import LoginGate, Peer
from gateway.auth.passwords import PasswordPool, VerifiedSecrets, hash_secret
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import Tokens
from gateway.connection.audit_vocabulary import Origin, Source, refused_login
from gateway.connection.process_counters import Counters
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits

SECRET = b"correct horse"
LAMP = Device(
    "lamp-1", (), {}, enabled=True, credential=hash_secret(SECRET), version=1, created_at=0, updated_at=0
)
STRANGER = Origin(source=Source.STRANGER, address="192.0.2.7:1", connection="c1")
PEER = Peer(host="192.0.2.7", origin=STRANGER)
NOTHING = {"publish": (), "subscribe": (), "encrypt": (), "decrypt": ()}


class Devices:
    available = True

    def get(self, device_id: str) -> Device | None:
        return LAMP if device_id == "lamp-1" else None


class World:
    """A gate, and what came of it."""

    def __init__(self) -> None:
        self.counters, self.told = Counters(), []
        devices, self.pool = Devices(), PasswordPool()
        self.tokens = Tokens(SigningKeys.of_secret(bytes(32)), devices, now=lambda: 10**12, ttl=60)
        login = Login(
            devices, self.pool, VerifiedSecrets(), self.tokens, limits=Limits(), rehash=lambda *_: None
        )
        names = ClaimedNames(devices)
        self.gate = LoginGate(login, names, self.counters, self.tell, self.tell)

    def tell(self, *told: object) -> None:
        self.told.append(told)

    @property
    def counted(self) -> tuple[int, int, int]:
        counters = self.counters
        return counters.logins_remembered, counters.logins_verified, counters.logins_refused


@pytest.fixture
def world():
    world = World()
    yield world
    world.pool.close()


def shown(name=b"lamp-1", password=SECRET, token=None) -> Credentials:
    return Credentials(username=name, password=password, token=token)


async def test_each_login_is_counted_once_and_told_of_its_device(world):
    assert world.gate.recognise(shown(), PEER) is None
    assert world.counted == (0, 0, 0)
    assert await world.gate.verify(shown(), PEER) == Admission(LAMP)
    assert world.counted == (0, 1, 0)
    assert world.gate.recognise(shown(), PEER) == Admission(LAMP)
    assert world.counted == (1, 1, 0)
    assert world.told == [("secret", "lamp-1", PEER.origin)] * 2
    world.told.clear()
    world.gate.recognise(shown(), Peer(host="192.0.2.7", origin=None))
    assert world.told == [], "what it is part of is told"


async def test_a_refusal_is_counted_and_told_of_the_device_it_claims(world):
    with pytest.raises(LoginRefused):
        await world.gate.verify(shown(password=b"x"), PEER)
    with pytest.raises(LoginRefused):
        world.gate.recognise(shown(token=b"foreign", password=None), PEER)
    assert world.counted == (0, 0, 2)
    claim = Origin(source=Source.STRANGER, device="lamp-1", address="192.0.2.7:1", connection="c1")
    assert world.told == [(refused_login("wrong secret"), claim), (refused_login(ANY), claim)]


async def test_a_name_that_nobody_has_is_told_as_a_digest(world):
    with pytest.raises(LoginRefused) as refused:
        await world.gate.verify(shown(b"hunter2"), PEER)
    ((_, origin),) = world.told
    assert origin.device == refused.value.device_id
    assert origin.device.startswith("unknown:")


async def test_the_way_it_came_stands_in_the_report(world):
    with pytest.raises(LoginRefused):
        await world.gate.verify(shown(password=b"x"), Peer(host="192.0.2.7", origin=STRANGER, through="api"))
    assert [report for report, _ in world.told] == [refused_login("wrong secret", "api")]


async def test_what_is_part_of_a_request_is_counted_and_left_to_be_told_with_that(world):
    with pytest.raises(LoginRefused):
        await world.gate.verify(shown(password=b"x"), Peer(host="bus", origin=None))
    assert (world.counted, world.told) == ((0, 0, 1), [])


async def test_no_more_patience(world, monkeypatch):
    async def never(*_, **__):
        await asyncio.Event().wait()

    monkeypatch.setattr(Login, "verify", never)
    hasty = Peer(host="192.0.2.7", origin=STRANGER, patience=0.01)
    with pytest.raises(LoginRefused) as refused:
        await asyncio.wait_for(world.gate.verify(shown(), hasty), 10)
    assert refused.value.reason is Reason.SERVER_UNAVAILABLE
    assert world.counted == (0, 0, 1)
    assert world.told == [(refused_login("no answer in time"), STRANGER)]


async def test_nothing_is_hashed_for_a_peer_that_has_left(world):
    gone = Peer(host="192.0.2.7", origin=STRANGER, has_left=lambda: True)
    with pytest.raises(LoginRefused, match="it left before its turn"):
        await world.gate.verify(shown(), gone)


def test_a_token_in_the_place_of_another_is_no_login_and_counts_only_in_vain(world):
    token = world.tokens.issue(LAMP, NOTHING).token.encode()
    there = Peer(host="192.0.2.7", origin=Origin(source=Source.DEVICE, device="lamp-1"))
    assert world.gate.renew("lamp-1", token, there).device is LAMP
    assert (world.counted, world.told) == ((0, 0, 0), [])

    here = Origin(source=Source.DEVICE, device="lamp-2")
    with pytest.raises(LoginRefused):
        world.gate.renew("lamp-2", token, Peer(host="192.0.2.7", origin=here))
    assert world.counted == (0, 0, 1)
    assert world.told == [(refused_login("the user name is not the token's device"), here)], "who is there"
