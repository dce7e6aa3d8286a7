"""The key files while a gateway runs: real files, a real store, and a clock that is told the time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import pytest
from harness.playbook import LAMP
from structlog.testing import capture_logs

from gateway.app.followers import key_reload_and_rotation as key_follower
from gateway.app.followers.key_reload_and_rotation import AGE_MAX, USES_MAX, KeyFollower
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import TokenRefused, Tokens
from gateway.config import Settings
from gateway.connection.audit_vocabulary import Kind, Outcome
from gateway.connection.process_context import Context
from gateway.connection.process_counters import Counters
from gateway.keys.key_backup import export_keys, import_keys
from gateway.keys.key_files import (
    SEALING,
    SIGNING,
    KeyFileError,
    destroy,
    ensure_sealing_file,
    ensure_signing_file,
    read_sealing_file,
    read_signing_file,
    rotate_sealing,
    rotate_signing,
)
from gateway.keys.key_ring import KeyRing, Nonces
from gateway.observe.audit_dispatch import Audit
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Policy
from gateway.store import StoreError, open_store

PASSPHRASE = b"correct horse battery"


class Devices:
    available = True

    def get(self, device_id):
        return LAMP if device_id == LAMP.device_id else None


class Grants:
    """What the register of live connections is told: which of their tokens are good still."""

    def __init__(self, world):
        self.live = {}
        self.fails = False
        self._world = world

    def open(self, name, parent=None):
        issued = self._world.tokens.issue(LAMP, {}, parent=parent)
        self.live[name] = issued.grant
        return issued.grant

    async def told(self, distrust):
        if self.fails:
            raise RuntimeError("a fault")
        self.live = {name: grant for name, grant in self.live.items() if not distrust(grant)}


class World:
    """A gateway's keys and their follower, with all that they are told to."""

    def __init__(self, folder, store, **settings):
        self.settings = Settings(gateway_data_dir=folder, **settings)
        self.sealing, self.signing = self.settings.encryption_key_path, self.settings.signing_key_path
        self.later = 0
        """Seconds that this clock is ahead."""
        ensure_sealing_file(self.sealing, None)
        ensure_signing_file(self.signing, None)
        self.context = Context(
            policy=Policy([], sensitive=[], limits=Limits(), reserved="gateway"),
            ring=KeyRing(read_sealing_file(self.sealing, None), Nonces(os.urandom), {}),
            now=self.now,
            new_client_id=str,
        )
        secret = self.settings.jwt_secret
        keys = (
            SigningKeys.of_keys(read_signing_file(self.signing, None), self.now() // 1000)
            if secret is None
            else SigningKeys.of_secret(secret.reveal())
        )
        self.tokens = Tokens(keys, Devices(), now=self.now, ttl=self.settings.jwt_ttl)
        self.events = []
        audit = Audit(Counters(), self.events.append)
        self.good = Grants(self)
        self.follower = KeyFollower(
            self.settings, self.context, self.tokens, store, audit, signing_changed=self.good.told
        )

    def now(self):
        return int((time.time() + self.later) * 1000)

    @property
    def ring(self):
        return self.context.ring

    @property
    def told(self):
        return [event.reason for event in self.events]

    def token(self):
        return self.tokens.issue(LAMP, {}).token.encode()

    def is_good(self, token):
        try:
            self.tokens.verify(token)
        except TokenRefused:
            return False
        return True


@pytest.fixture
async def store(tmp_path):
    opened = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    yield opened
    await opened.close()


@pytest.fixture
async def world(tmp_path, store):
    made = World(tmp_path, store)
    await made.follower.look()
    assert made.follower.check() == (True, "sealing k1, signing s1")
    assert made.events == []
    return made


def opens(ring, key_id, sealed):
    cipher = ring.opener(key_id)
    return cipher is not None and cipher.decrypt(sealed[:12], sealed[12:], b"") == b"open me"


async def test_a_rotated_sealing_key_seals_and_the_one_before_opens(world):
    sealed = world.ring.encrypt(b"open me", b"")
    ring = world.ring
    rotate_sealing(world.sealing, None)
    await world.follower.look()
    assert world.ring is ring, "whoever seals with it holds it"
    assert ring.active_id == "k2"
    assert opens(ring, "k1", sealed)
    assert opens(ring, "k2", ring.encrypt(b"open me", b""))
    assert world.told == [
        "sealing key k1 is retired, and decrypt-only from now on",
        "sealing key k2 is in force",
    ]
    assert {(event.kind, event.outcome) for event in world.events} == {(Kind.KEY, Outcome.DONE)}
    assert abs(world.events[0].time - world.now()) < 300_000


async def test_a_rotated_signing_key_signs_and_tokens_of_the_one_before_are_good(world):
    before = world.token()
    rotate_signing(world.signing, None, 3600)
    await world.follower.look()
    assert world.tokens.keys.active_id == "s2"
    assert world.is_good(before)
    assert world.is_good(world.token())
    assert world.told == [
        "signing key s1 is retired, and verify-only from now on",
        "signing key s2 is in force",
    ]


async def test_a_destroyed_key_is_of_no_use_at_once(world):
    sealed, token = world.ring.encrypt(b"open me", b""), world.token()
    rotate_sealing(world.sealing, None)
    rotate_signing(world.signing, None, 3600)
    await world.follower.look()
    assert opens(world.ring, "k1", sealed)
    assert world.is_good(token)
    destroy(world.sealing, SEALING, None, "k1")
    destroy(world.signing, SIGNING, None, "s1")
    await world.follower.look()
    assert world.ring.opener("k1") is None
    assert not world.is_good(token)
    assert world.told[-2:] == ["sealing key k1 is destroyed", "signing key s1 is destroyed"]


async def test_who_came_by_a_destroyed_key_is_told_and_what_was_renewed_from_it(world):
    before = world.good.open("before")
    rotate_signing(world.signing, None, 3600)
    await world.follower.look()
    world.good.open("renewed", before)
    world.good.open("after")
    destroy(world.signing, SIGNING, None, "s1")
    await world.follower.look()
    assert list(world.good.live) == ["after"]
    with pytest.raises(TokenRefused):
        world.good.open("minted of the new key", before)


async def test_who_came_by_a_key_that_was_taken_out_of_the_file_is_told(world):
    world.good.open("before")
    world.signing.unlink()
    ensure_signing_file(world.signing, None)
    rotate_signing(world.signing, None, 3600)
    destroy(world.signing, SIGNING, None, "s1")
    await world.follower.look()
    assert world.good.live == {}


@pytest.mark.parametrize("ask", ["look", "reload"])
async def test_who_could_not_be_told_of_a_destroyed_key_is_by_the_next_look(world, ask):
    world.good.open("before")
    rotate_signing(world.signing, None, 3600)
    destroy(world.signing, SIGNING, None, "s1")
    world.good.fails = True
    with pytest.raises(RuntimeError):
        await getattr(world.follower, ask)()
    world.good.fails = False
    await world.follower.look()
    assert world.good.live == {}
    assert world.told[-1] == "signing key s2 is in force"


async def test_who_could_not_be_told_that_a_keys_time_is_over_is_by_the_next_look(world):
    world.good.open("before")
    rotate_signing(world.signing, None, 3600)
    await world.follower.look()
    world.later, world.good.fails = 3601, True
    with pytest.raises(RuntimeError):
        await world.follower.look()
    world.good.fails = False
    await world.follower.look()
    assert world.good.live == {}


async def test_a_key_that_can_not_be_used_is_logged_once(world):
    world.sealing.write_bytes(b"junk")
    with capture_logs() as lines:
        for _ in range(60):
            await world.follower.look()
    assert [line["event"] for line in lines] == ["keys refused"]


async def test_who_came_by_a_key_whose_time_is_over_is_told_at_once(world):
    """Not at the next look at the keys' age, a minute later. What was renewed since goes on."""
    before = world.good.open("before")
    rotate_signing(world.signing, None, 3600)
    await world.follower.look()
    world.good.open("renewed", before)
    world.later = 3601
    await world.follower.look()
    assert list(world.good.live) == ["renewed"]


async def test_a_key_made_by_a_clock_that_was_ahead_is_replaced(world):
    """By its age it would be active for as much longer."""
    world.later = -2 * 86_400
    await world.follower.retire()
    assert (world.ring.active_id, world.tokens.keys.active_id) == ("k2", "s2")


async def test_a_clock_that_is_set_right_by_an_hour_replaces_no_key(world):
    world.later = -3600
    await world.follower.retire()
    assert (world.ring.active_id, world.tokens.keys.active_id) == ("k1", "s1")


async def test_a_destroyed_key_is_of_no_use_though_the_store_fails(world, monkeypatch):
    async def fail():
        raise StoreError("the disk is full")

    rotate_sealing(world.sealing, None)
    destroy(world.sealing, SEALING, None, "k1")
    monkeypatch.setattr(world.follower._store.key_uses, "read", fail)
    await world.follower.look()
    assert (world.ring.active_id, world.ring.opener("k1")) == ("k2", None)


async def test_an_imported_key_opens(world, tmp_path):
    backup = export_keys(world.sealing, world.signing, None, PASSPHRASE)
    other = tmp_path / "other"
    import_keys(backup, PASSPHRASE, other / "encryption.key", other / "signing.key", None)
    rotate_sealing(other / "encryption.key", None)
    sealed = KeyRing(read_sealing_file(other / "encryption.key", None), Nonces(os.urandom), {}).encrypt(
        b"open me", b""
    )
    backup = export_keys(other / "encryption.key", other / "signing.key", None, PASSPHRASE)
    import_keys(backup, PASSPHRASE, world.sealing, world.signing, None)
    await world.follower.look()
    assert world.ring.active_id == "k1"
    assert opens(world.ring, "k2", sealed)
    assert world.told == ["sealing key k2 was brought in, and is decrypt-only"]


WRONG = {"damaged": "damaged", "gone": "can't be read", "readable": "may be read by others"}


@pytest.mark.parametrize("kind", ["sealing", "signing"])
@pytest.mark.parametrize("harm", WRONG)
async def test_a_file_that_can_not_be_used_leaves_the_keys_in_force(world, kind, harm):
    path = getattr(world, kind)
    sealed, token = world.ring.encrypt(b"open me", b""), world.token()
    content = path.read_bytes()
    if harm == "gone":
        path.rename(path.with_suffix(".away"))
    elif harm == "readable":
        path.chmod(0o644)
    else:
        path.write_bytes(content[:-10])
    await world.follower.look()
    ok, detail = world.follower.check()
    assert not ok
    assert detail.startswith(f"the {kind} keys: ")
    assert str(path) in detail
    assert WRONG[harm] in detail
    assert detail.endswith("; those before are in force")
    assert opens(world.ring, "k1", sealed)
    assert opens(world.ring, "k1", world.ring.encrypt(b"open me", b""))
    assert world.is_good(token)
    assert world.events == []
    if harm == "gone":
        path.with_suffix(".away").rename(path)
    else:
        path.write_bytes(content)
        path.chmod(0o600)
    await world.follower.look()
    assert world.follower.check()[0]
    assert world.events == []


async def test_another_key_under_the_same_id_does_not_take_its_place(world):
    """What is sealed now would be lost with the one, or what was sealed before with the other."""
    sealed = world.ring.encrypt(b"open me", b"")
    world.sealing.unlink()
    ensure_sealing_file(world.sealing, None)
    await world.follower.look()
    assert not world.follower.check()[0]
    assert opens(world.ring, "k1", sealed)


async def test_a_file_without_a_key_in_use_does_not_take_it_away(world):
    """An older copy was put back: what k2 seals from now on, or has sealed, would be lost unseen."""
    old = world.sealing.read_bytes()
    rotate_sealing(world.sealing, None)
    await world.follower.look()
    new = world.sealing.read_bytes()
    world.sealing.write_bytes(old)
    await world.follower.look()
    assert not world.follower.check()[0]
    assert world.ring.active_id == "k2"
    world.sealing.write_bytes(new)
    await world.follower.look()
    assert world.follower.check()[0]


@pytest.mark.parametrize("kind", ["sealing", "signing"])
async def test_a_destroyed_key_does_not_come_back_with_an_older_file(world, kind):
    path = world.sealing if kind == "sealing" else world.signing
    sealed, token = world.ring.encrypt(b"x", b""), world.token()
    if kind == "sealing":
        rotate_sealing(path, None)
    else:
        rotate_signing(path, None, 3_600)
    older = path.read_bytes()
    destroy(path, *((SEALING, None, "k1") if kind == "sealing" else (SIGNING, None, "s1")))
    await world.follower.look()
    path.write_bytes(older)
    await world.follower.look()
    assert not (opens(world.ring, "k1", sealed) if kind == "sealing" else world.is_good(token))
    assert not world.follower.check()[0]
    destroy(path, *((SEALING, None, "k1") if kind == "sealing" else (SIGNING, None, "s1")))
    await world.follower.look()
    assert world.follower.check()[0]


async def test_new_signing_keys_refuse_what_the_old_ones_signed(world):
    """Somebody removed them to be rid of every token: that must not wait for a restart."""
    token = world.token()
    world.signing.unlink()
    ensure_signing_file(world.signing, None)
    await world.follower.look()
    assert world.follower.check()[0]
    assert not world.is_good(token)
    assert world.is_good(world.token())


async def test_a_file_that_could_not_be_read_once_is_read_again_though_it_looks_the_same(world, monkeypatch):
    rotate_sealing(world.sealing, None)
    read = world.follower._sealing.read

    def fail():
        raise KeyFileError("the disk failed")

    world.follower._sealing.read = fail
    await world.follower.look()
    assert not world.follower.check()[0]
    world.follower._sealing.read = read
    await world.follower.look()
    assert not world.follower.check()[0], "not before its time: to unwrap by a passphrase takes long"
    monkeypatch.setattr(key_follower, "_AGAIN_SECONDS", 0)
    await world.follower.look()
    assert (world.follower.check()[0], world.ring.active_id) == (True, "k2")


async def test_keys_that_are_not_old_are_left_alone(world):
    world.later = AGE_MAX - 3600
    await world.follower.retire()
    assert (world.ring.active_id, world.tokens.keys.active_id) == ("k1", "s1")


async def test_old_keys_are_replaced_without_being_asked(world):
    sealed = world.ring.encrypt(b"open me", b"")
    world.later = AGE_MAX
    token = world.token()
    await world.follower.retire()
    assert (world.ring.active_id, world.tokens.keys.active_id) == ("k2", "s2")
    assert [key.key_id for key in read_sealing_file(world.sealing, None)] == ["k1", "k2"]
    assert opens(world.ring, "k1", sealed)
    assert "sealing key k2 is in force" in world.told
    assert "signing key s2 is in force" in world.told
    world.later = 0
    assert not world.is_good(token), "it is not valid yet by this clock"
    rotated = {key.key_id: key for key in read_signing_file(world.signing, None)}
    assert rotated["s1"].until - rotated["s1"].retired_at == world.settings.jwt_ttl


async def test_a_key_that_was_used_too_often_is_replaced_though_others_used_it(world, store):
    await store.key_uses.add("k1", USES_MAX - 1)
    await world.follower.retire()
    assert world.ring.active_id == "k1"
    await store.key_uses.add("k1", 1)
    await world.follower.retire()
    assert world.ring.active_id == "k2"
    assert world.ring.uses == 0
    await world.follower.retire()
    assert (world.ring.active_id, world.tokens.keys.active_id) == ("k2", "s1")


async def test_a_key_is_not_replaced_in_a_file_that_is_not_in_force(world):
    world.sealing.unlink()
    ensure_sealing_file(world.sealing, None)
    content = world.sealing.read_bytes()
    await world.follower.look()
    world.later = AGE_MAX
    await world.follower.retire()
    assert world.ring.active_id == "k1"
    assert world.sealing.read_bytes() == content


async def test_a_key_that_can_not_be_replaced_stays(world):
    def fail():
        raise KeyFileError("the disk is read-only")

    world.follower._sealing.rotate = fail
    world.later = AGE_MAX
    await world.follower.retire()
    assert (world.ring.active_id, world.tokens.keys.active_id) == ("k1", "s2")


async def test_a_signing_key_whose_time_is_over_is_shown_no_more(world):
    rotate_signing(world.signing, None, 3600)
    await world.follower.look()
    assert [key["kid"] for key in world.tokens.keys.jwks()["keys"]] == ["s2", "s1"]
    await world.follower.retire()
    assert len(world.tokens.keys.jwks()["keys"]) == 2
    world.later = 3601
    await world.follower.retire()
    assert [key["kid"] for key in world.tokens.keys.jwks()["keys"]] == ["s2"]


async def test_with_a_secret_no_signing_keys_are_followed(tmp_path, store):
    world = World(tmp_path, store, jwt_secret="0123456789012345678901234567890123456789")
    token = world.token()
    world.signing.write_bytes(b"rubbish")
    world.later = AGE_MAX
    await world.follower.look()
    await world.follower.retire()
    world.later = 0
    assert world.follower.check() == (True, "sealing k2, signing hs256")
    assert world.is_good(token)
    assert world.signing.read_bytes() == b"rubbish"


async def test_it_follows_without_being_asked(world, monkeypatch):
    monkeypatch.setattr(KeyFollower, "seconds", 0.01)
    running = asyncio.ensure_future(world.follower.run())
    try:
        async with asyncio.timeout(20):
            rotate_sealing(world.sealing, None)
            while world.ring.active_id != "k2":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            monkeypatch.setattr(key_follower, "_RETIRE_SECONDS", 0.0)
            world.later = AGE_MAX
            while world.tokens.keys.active_id == "s1":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_what_no_file_announces_is_looked_for_often(world, monkeypatch):
    """The end of a key that still verifies, and a disk that failed once."""
    monkeypatch.setattr(KeyFollower, "seconds", 0.01)
    slept = []

    class Notices:
        async def wait(self, often):
            slept.append(often)

    world.follower._notices = Notices()
    await world.follower.rest()
    assert slept == [0.01]
    world.follower._over_at = 1
    await world.follower.rest()
    world.follower._over_at = None
    world.follower._sealing.problem = "the disk failed"
    await world.follower.rest()
    assert slept == [0.01]
