"""One gate for every way to log in: who gets in, and what the others learn, pay and leave in the log.

What a token must be like is tested with `gateway.auth.tokens`; here is what becomes of it at the gate.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from unittest.mock import ANY

import pytest

from gateway.auth import passwords
from gateway.auth.credentials import Admission, Credentials, LoginRefused
from gateway.auth.dual_secrets import hash_like
from gateway.auth.login import Login
from gateway.auth.login_queue import HashRequest, Standing
from gateway.auth.passwords import PasswordPool, VerifiedSecrets, hash_secret
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import Tokens
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits
from gateway.system.ip_address_blocks import place_of

SECRET = b"correct horse"
CREDENTIAL = hash_secret(SECRET)
ADDRESS = "192.0.2.7"
LAMP = Device(
    device_id="lamp-1",
    roles=("sensor",),
    labels={},
    enabled=True,
    credential=CREDENTIAL,
    version=1,
    created_at=0,
    updated_at=0,
)
OFF = replace(LAMP, device_id="off-1", enabled=False)
NOTHING = {"publish": (), "subscribe": (), "encrypt": (), "decrypt": ()}
LIMITS = Limits(login_failures_per_minute=3, login_failures_per_minute_address=6)


class Devices:
    """What the directory answers, in the test's hands."""

    def __init__(self) -> None:
        self.available = True
        self.devices = {"lamp-1": LAMP, "off-1": OFF}

    def get(self, device_id: str) -> Device | None:
        return self.devices.get(device_id)


class Counted(PasswordPool):
    """Counts what the answers cost, and lets something happen while one is worked out."""

    def __init__(self) -> None:
        super().__init__()
        self.hashes = 0
        self.meanwhile = lambda: None

    def submit(self, work):
        self.hashes += 1

        def and_more():
            answer = work()
            self.meanwhile()
            return answer

        return super().submit(and_more)


class ConnectionRegistry:
    """A login with everything it needs."""

    def __init__(self) -> None:
        self.devices = Devices()
        self.pool = Counted()
        self.remembered = VerifiedSecrets()
        self.rehashed: list[tuple[Device, bytes]] = []
        self.now = 1_800_000_000
        self.tokens = Tokens(
            SigningKeys.of_secret(bytes(32)), self.devices, now=lambda: self.now * 1000, ttl=60
        )
        self.login = Login(
            self.devices,
            self.pool,
            self.remembered,
            self.tokens,
            limits=LIMITS,
            rehash=lambda device, secret: self.rehashed.append((device, secret)),
        )

    def recognise(self, username=b"lamp-1", password=SECRET, certificate_id=None):
        """The device, for those who come without a token."""
        shown = Credentials(username=username, password=password, certificate_id=certificate_id)
        found = self.login.recognise(shown, ADDRESS)
        assert found is None or found.grant is None
        return None if found is None else found.device

    async def verify(self, username=b"lamp-1", password=SECRET, certificate_id=None, address=ADDRESS):
        shown = Credentials(username=username, password=password, certificate_id=certificate_id)
        admission = await self.login.verify(shown, address)
        assert admission.grant is None
        return admission.device

    def token(self, device=LAMP, **changed):
        """A good one."""
        return self.tokens.issue(replace(device, **changed), NOTHING).token.encode()

    def bring(self, username=None, password=None, certificate_id=None, token=None, address=ADDRESS):
        """Come with a token, the one way or the other."""
        shown = Credentials(username=username, password=password, certificate_id=certificate_id, token=token)
        return self.login.recognise(shown, address)

    def bring_in_vain(self, *arguments, **named) -> LoginRefused:
        with pytest.raises(LoginRefused) as caught:
            self.bring(*arguments, **named)
        return caught.value

    async def refused(self, *arguments, **named) -> LoginRefused:
        with pytest.raises(LoginRefused) as caught:
            await self.verify(*arguments, **named)
        return caught.value


@pytest.fixture
def registry():
    registry = ConnectionRegistry()
    yield registry
    registry.pool.close()


@pytest.fixture
def clock(monkeypatch):
    """The library counts by the wall clock: hold it, in the middle of a minute."""
    now = [1_800_000_030.0]
    monkeypatch.setattr("limits.storage.memory.time.time", lambda: now[0])
    return now


async def test_the_right_secret_opens_and_is_remembered(registry):
    assert registry.recognise() is None
    assert await registry.verify() == LAMP
    assert registry.recognise() == LAMP
    assert registry.pool.hashes == 1


@pytest.mark.parametrize(
    ("username", "password", "why", "device_id"),
    [
        (b"nobody", SECRET, "unknown device", ANY),
        (b"lamp-1", b"wrong", "wrong secret", "lamp-1"),
        (b"lamp-1", b"", "wrong secret", "lamp-1"),
        (b"off-1", SECRET, "disabled device", "off-1"),
        (b"off-1", b"wrong", "disabled device", "off-1"),
        (b"lamp-1/#", SECRET, "unknown device", None),
        (b"lamp-1\n", SECRET, "unknown device", None),
        (b"\xff\xfe", SECRET, "unknown device", None),
        ("lamp-1\u0130".encode(), SECRET, "unknown device", None),
    ],
)
async def test_every_no_is_the_same_for_the_same_price(registry, username, password, why, device_id):
    refused = await registry.refused(username, password)
    assert (refused.reason, refused.why, refused.device_id) == (Reason.NOT_AUTHORIZED, why, device_id)
    assert registry.pool.hashes == 1
    assert registry.recognise(username, password) is None


@pytest.mark.parametrize(
    ("username", "password"), [(None, None), (b"lamp-1", None), (None, SECRET), (b"", SECRET), (b"", None)]
)
async def test_half_a_login_is_none(registry, username, password):
    assert (await registry.refused(username, password)).reason is Reason.NOT_AUTHORIZED
    assert registry.recognise(username, password) is None
    assert registry.pool.hashes == 0, "it names no device, so that time can tell nothing of one"


async def test_a_certificate_names_the_device(registry):
    for username in (None, b"", b"lamp-1"):
        assert registry.recognise(username, None, "lamp-1") == LAMP
        assert await registry.verify(username, None, "lamp-1") == LAMP


@pytest.mark.parametrize(
    ("username", "certificate_id", "why"),
    [
        (None, "off-1", "disabled device"),
        (None, "nobody", "unknown device"),
        (None, "", "unknown device"),
        (None, "a/#", "unknown device"),
        (b"off-1", "lamp-1", "the user name is not the certificate's device"),
        (b"lamp-1", "off-1", "the user name is not the certificate's device"),
        (b"\xff", "lamp-1", "the user name is not the certificate's device"),
        (b"lamp-1", "", "the user name is not the certificate's device"),
    ],
)
@pytest.mark.parametrize("password", [None, SECRET])
async def test_no_certificate_goes_round_the_gate(registry, username, certificate_id, why, password):
    """A disabled user gets in by certificate elsewhere (mosquitto #2999, #1677)."""
    assert registry.recognise(username, password, certificate_id) is None
    refused = await registry.refused(username, password, certificate_id)
    assert (refused.reason, refused.why) == (Reason.NOT_AUTHORIZED, why)


@pytest.mark.parametrize("of", ["nothing else", "a password", "a token"])
async def test_a_certificate_that_names_nobody_is_refused_whatever_is_shown_beside_it(registry, of):
    shown = Credentials(
        username=b"lamp-1",
        password={"a password": SECRET, "a token": registry.token()}.get(of),
        certificate_id="",
        certificate_fault="the client certificate has ended",
    )
    with pytest.raises(LoginRefused, match="the client certificate has ended"):
        registry.login.recognise(shown, ADDRESS)
    with pytest.raises(LoginRefused, match="the client certificate has ended"):
        await registry.login.verify(shown, ADDRESS)
    assert registry.pool.hashes == 0


async def test_a_login_by_certificate_is_good_until_it_ends(registry):
    shown = Credentials(username=None, password=None, certificate_id="lamp-1", certificate_ends=1_800_000_000)
    assert registry.login.recognise(shown, ADDRESS).certificate_ends == 1_800_000_000
    assert (await registry.login.verify(shown, ADDRESS)).certificate_ends == 1_800_000_000
    for beside in (SECRET, registry.token()):
        shown.password = beside
        assert (await registry.login.verify(shown, ADDRESS)).certificate_ends is None


async def test_a_password_beside_a_certificate_must_be_right(registry):
    assert registry.recognise(None, b"wrong", "lamp-1") is None
    assert (await registry.refused(None, b"wrong", "lamp-1")).why == "wrong secret"
    assert await registry.verify(None, SECRET, "lamp-1") == LAMP
    assert registry.recognise(None, SECRET, "lamp-1") == LAMP


async def test_what_is_remembered_ends_with_a_change(registry):
    await registry.verify()
    for change in ({"enabled": False}, {"version": 2}, {"credential": hash_secret(b"other")}):
        registry.devices.devices["lamp-1"] = replace(LAMP, **change)
        assert registry.recognise() is None
    del registry.devices.devices["lamp-1"]
    assert registry.recognise() is None


async def test_store_gone_denies_everybody(registry):
    await registry.verify()
    registry.devices.available = False
    assert registry.recognise() is None
    assert registry.recognise(None, None, "lamp-1") is None
    for arguments in ((b"lamp-1", SECRET), (None, None, "lamp-1"), (None, None)):
        refused = await registry.refused(*arguments)
        assert (refused.reason, refused.why) == (Reason.SERVER_UNAVAILABLE, "store unavailable")
    assert registry.pool.hashes == 1


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({"lamp-1": replace(LAMP, enabled=False, version=2)}, Reason.NOT_AUTHORIZED),
        ({"lamp-1": replace(LAMP, version=2)}, Reason.NOT_AUTHORIZED),
        ({}, Reason.NOT_AUTHORIZED),
        (None, Reason.SERVER_UNAVAILABLE),
    ],
)
async def test_what_changes_while_we_hash_counts(registry, now, reason):
    def change() -> None:
        if now is None:
            registry.devices.available = False
        else:
            registry.devices.devices = now

    registry.pool.meanwhile = change
    assert (await registry.refused()).reason is reason
    assert not registry.remembered.matches(LAMP, SECRET)


async def test_a_rehash_while_we_hash_refuses_nobody(registry):
    anew = replace(LAMP, credential=hash_secret(SECRET))
    registry.pool.meanwhile = lambda: registry.devices.devices.update({"lamp-1": anew})
    assert await registry.verify() == anew
    assert not registry.remembered.matches(anew, SECRET), "this very hash was not verified"


async def test_a_next_secret_that_takes_the_place_of_the_old_one_while_we_hash_is_good(registry):
    """Its time was over, or another login used it: both are no reason to keep a right secret out."""
    beside = hash_like(b"the next one", CREDENTIAL)
    pair = replace(LAMP, next_credential=beside, overlap_until=registry.now + 60)
    ended = pair.with_next_secret
    registry.devices.devices["lamp-1"] = pair
    registry.pool.meanwhile = lambda: registry.devices.devices.update({"lamp-1": ended})
    assert await registry.verify(password=b"the next one") == ended
    assert registry.recognise(password=b"the next one") == ended
    for wrong in (SECRET, b"neither"):
        registry.devices.devices["lamp-1"] = pair
        assert (await registry.refused(password=wrong)).reason is Reason.NOT_AUTHORIZED
    registry.devices.devices["lamp-1"] = pair
    registry.pool.meanwhile = lambda: registry.devices.devices.update(
        {"lamp-1": replace(ended, enabled=False)}
    )
    assert (await registry.refused(password=b"the next one")).reason is Reason.NOT_AUTHORIZED


async def test_an_old_hash_is_made_anew_after_a_login(registry):
    old = passwords.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(SECRET)
    registry.devices.devices["lamp-1"] = aged = replace(LAMP, credential=old)
    await registry.refused(b"lamp-1", b"wrong")
    assert registry.rehashed == []
    await registry.verify()
    assert registry.rehashed == [(aged, SECRET)]


async def test_busy(registry, monkeypatch):
    monkeypatch.setattr(registry.pool, "_slots", 0)
    monkeypatch.setattr(registry.pool, "_patience", 0.01)
    refused = await registry.refused()
    assert (refused.reason, refused.device_id) == (Reason.SERVER_BUSY, "lamp-1")
    monkeypatch.undo()
    for _ in range(10):
        assert await registry.verify(), "being busy is no wrong login"


async def test_guessing_is_throttled_before_the_hash(registry, clock):
    for _ in range(3):
        assert (await registry.refused(b"lamp-1", b"wrong")).reason is Reason.NOT_AUTHORIZED
    refused = await registry.refused(b"lamp-1", SECRET)
    assert (refused.reason, refused.device_id) == (Reason.CONNECTION_RATE_EXCEEDED, "lamp-1")
    assert registry.pool.hashes == 3
    assert await registry.verify(address="192.0.2.8") == LAMP, "nobody can lock the device out elsewhere"
    clock[0] += 121
    assert await registry.verify() == LAMP


async def test_another_name_does_not_dodge_the_throttle(registry, clock):
    """Bans are dodged with a new client id elsewhere (mosquitto #2076); here a new name would be it."""
    for number in range(6):
        assert (await registry.refused(f"guess-{number}".encode(), b"x")).reason is Reason.NOT_AUTHORIZED
    assert (await registry.refused(b"lamp-1", SECRET)).reason is Reason.CONNECTION_RATE_EXCEEDED
    assert (await registry.refused(b"\xff", b"x")).reason is Reason.CONNECTION_RATE_EXCEEDED
    assert registry.pool.hashes == 6


@pytest.mark.parametrize(
    ("addresses", "other"),
    [
        (["2001:db8::1", "2001:db8::2:3", "2001:db8:0:0:ffff::"], "2001:db8:0:1::1"),
        (["fe80::1%eth0", "fe80::2%eth1", "fe80::3"], "fe80:0:0:1::1"),
        (["::ffff:192.0.2.9", "192.0.2.9", "192.0.2.9"], "192.0.2.10"),
        (["unix", "unix", "unix"], "other"),
    ],
)
async def test_the_addresses_of_one_peer_are_one(registry, clock, addresses, other):
    for address in addresses:
        assert (await registry.refused(b"lamp-1", b"x", address=address)).reason is Reason.NOT_AUTHORIZED
    assert (await registry.refused(address=addresses[0])).reason is Reason.CONNECTION_RATE_EXCEEDED
    assert await registry.verify(address=other) == LAMP


async def test_a_throttled_peer_with_a_remembered_secret_comes_in(registry, clock):
    await registry.verify()
    for _ in range(3):
        await registry.refused(b"lamp-1", b"wrong")
    assert registry.recognise() == LAMP


async def test_right_logins_are_not_counted(registry, clock):
    for _ in range(10):
        await registry.verify()


async def test_other_limits_take_effect(registry, clock):
    await registry.refused(b"lamp-1", b"wrong")
    registry.login.apply(Limits(login_failures_per_minute=1, login_failures_per_minute_address=6))
    await registry.refused(b"lamp-1", b"wrong")
    assert (await registry.refused()).reason is Reason.CONNECTION_RATE_EXCEEDED


async def test_the_throttle_forgets_the_names_it_counted(registry, clock):
    """Or whoever invents device ids fills the memory."""
    registry.login.apply(Limits(login_failures_per_minute_address=1_000))
    throttle = registry.login._throttle
    for number in range(500):
        throttle.count(f"guess-{number}", f"10.0.{number // 250}.{number % 250}")
    storage = throttle._window.storage
    assert len(storage.storage) >= 500
    storage.timer.join()  # the library tidies up in a thread of its own
    clock[0] += 300
    throttle.count("one-more", ADDRESS)
    storage.timer.join()
    assert len(storage.storage) == 2
    assert len(storage.locks) <= 2


async def test_no_secret_in_what_is_logged(registry):
    for arguments in ((b"lamp-1", b"planted"), (b"planted/name", b"planted")):
        refused = await registry.refused(*arguments)
        assert "planted" not in f"{refused!r} {refused} {refused.why} {refused.device_id}"


WRONG = b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJsYW1wLTEifQ."


@pytest.mark.parametrize("way", ["password", "token"])
@pytest.mark.parametrize("username", [None, b"", b"lamp-1"])
@pytest.mark.parametrize("certificate_id", [None, "lamp-1"])
async def test_a_token_lets_in_without_argon2(registry, way, username, certificate_id):
    named = {"username": username, "certificate_id": certificate_id, way: registry.token()}
    admission = registry.bring(**named)
    assert (admission.device, admission.grant.expires_at) == (LAMP, registry.now + 60)
    verified = await registry.login.verify(Credentials(**{"password": None, **named}), ADDRESS)
    assert verified == Admission(LAMP, admission.grant)
    assert (verified.method, admission.method) == ("token", "token")
    assert registry.pool.hashes == 0


@pytest.mark.parametrize(
    ("username", "certificate_id", "why"),
    [
        (b"off-1", None, "the user name is not the token's device"),
        (b"off-1", "off-1", "the user name is not the token's device"),
        (b"\xff", None, "the user name is not the token's device"),
        (b"lamp-1\0", None, "the user name is not the token's device"),
        (None, "off-1", "the certificate is not the token's device's"),
        (b"lamp-1", "off-1", "the certificate is not the token's device's"),
        (b"lamp-1", "", "the certificate is not the token's device's"),
    ],
)
async def test_all_names_that_are_given_agree_with_the_token(registry, username, certificate_id, why):
    refused = registry.bring_in_vain(username, registry.token(), certificate_id)
    assert (refused.reason, refused.why) == (Reason.NOT_AUTHORIZED, why)
    assert refused.device_id == "lamp-1"


@pytest.mark.parametrize("password", [SECRET, WRONG])
async def test_a_password_beside_a_token_is_one_too_many(registry, password):
    await registry.verify()
    refused = registry.bring_in_vain(b"lamp-1", password, token=registry.token())
    assert (refused.reason, refused.why) == (Reason.NOT_AUTHORIZED, "both a password and a token")


@pytest.mark.parametrize("token", [b"", b"x", SECRET, WRONG, b"\xff" * 40])
async def test_what_comes_as_a_token_is_nothing_else(registry, token):
    await registry.verify()
    assert registry.bring_in_vain(b"lamp-1", token=token).reason is Reason.NOT_AUTHORIZED
    assert registry.pool.hashes == 1


async def test_a_password_that_looks_like_a_token_is_never_taken_for_a_secret(registry):
    registry.devices.devices["lamp-1"] = replace(LAMP, credential=hash_secret(WRONG))
    assert registry.bring_in_vain(b"lamp-1", WRONG).reason is Reason.NOT_AUTHORIZED
    assert (await registry.refused(b"lamp-1", WRONG)).reason is Reason.NOT_AUTHORIZED
    assert registry.pool.hashes == 0


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({}, "unknown device"),
        ({"lamp-1": replace(LAMP, enabled=False)}, "disabled device"),
        ({"lamp-1": replace(LAMP, token_epoch=1)}, "revoked token"),
    ],
)
async def test_a_genuine_token_of_nobody_learns_no_more_than_a_wrong_one(registry, state, why):
    token = registry.token()
    registry.devices.devices = state
    refused = registry.bring_in_vain(None, token)
    assert (refused.reason, refused.why, refused.device_id) == (Reason.NOT_AUTHORIZED, why, "lamp-1")
    assert registry.bring_in_vain(None, WRONG).reason is refused.reason


async def test_no_token_lets_in_without_the_store(registry):
    token = registry.token()
    registry.bring(None, token)
    registry.devices.available = False
    for bad_or_good in (token, WRONG):
        refused = registry.bring_in_vain(None, bad_or_good)
        assert (refused.reason, refused.why) == (Reason.SERVER_UNAVAILABLE, "store unavailable")


async def test_tokens_that_are_none_lock_out_nobody_with_a_secret(registry, clock):
    """301 of them from one address shut out the right secret behind the same address."""
    for _ in range(6):
        assert registry.bring_in_vain(b"lamp-1", WRONG).reason is Reason.NOT_AUTHORIZED
    for name in (b"lamp-1", b"other", None):
        refused = registry.bring_in_vain(name, token=b"guess")
        assert refused.reason is Reason.CONNECTION_RATE_EXCEEDED, "they are slowed down themselves"
        assert refused.why == "throttled after too many tokens that we never signed"
    assert registry.bring(None, registry.token()).device == LAMP, "a good one comes in all the same"
    assert await registry.verify() == LAMP
    clock[0] += 121
    assert registry.bring_in_vain(b"lamp-1", WRONG).reason is Reason.NOT_AUTHORIZED


async def test_wrong_secrets_keep_no_token_out_of_its_own_count(registry, clock):
    for number in range(6):
        await registry.refused(f"guess-{number}".encode(), b"x")
    assert registry.bring_in_vain(b"lamp-1", WRONG).reason is Reason.NOT_AUTHORIZED


async def test_a_device_that_is_known_there_gets_in_whatever_strangers_do(registry, clock):
    """Verified secrets are gone after a restart: what is known of the place is not."""
    await registry.verify()
    registry.remembered.forget("lamp-1")
    for number in range(6):
        await registry.refused(f"guess-{number}".encode(), b"x")
    assert (await registry.refused(b"off-1", b"x")).reason is Reason.CONNECTION_RATE_EXCEEDED
    hashes = registry.pool.hashes
    assert await registry.verify() == LAMP
    assert registry.pool.hashes == hashes + 1
    elsewhere = "192.0.2.8"
    for number in range(6):
        await registry.refused(f"guess-{number}".encode(), b"x", address=elsewhere)
    registry.remembered.forget("lamp-1")
    refused = await registry.refused(address=elsewhere)
    assert refused.reason is Reason.CONNECTION_RATE_EXCEEDED, "it is a stranger there"


async def test_the_name_of_a_known_device_is_no_way_round_the_throttle(registry, clock):
    await registry.verify()
    for number in range(6):
        await registry.refused(f"guess-{number}".encode(), b"x")
    for _ in range(3):
        assert (await registry.refused(b"lamp-1", b"x")).reason is Reason.NOT_AUTHORIZED
    assert (await registry.refused(b"lamp-1", b"x")).reason is Reason.CONNECTION_RATE_EXCEEDED


async def test_who_waits_while_others_guess_is_throttled_too(registry, clock):
    """What waits was let wait before anybody was wrong: it must not all be hashed for that."""
    answers = await asyncio.gather(*(registry.refused(b"lamp-1", b"wrong") for _ in range(20)))
    reasons = [refused.reason for refused in answers]
    assert set(reasons) == {Reason.NOT_AUTHORIZED, Reason.CONNECTION_RATE_EXCEEDED}
    assert registry.pool.hashes <= 4, "three, and what was at work with the third"


async def test_one_secret_on_many_connections_is_hashed_for_those_at_work_only(registry):
    assert await asyncio.gather(*(registry.verify() for _ in range(20))) == [LAMP] * 20
    assert registry.pool.hashes == 2


async def test_nothing_is_hashed_for_a_peer_that_has_left(registry):
    shown = Credentials(username=b"lamp-1", password=SECRET)
    with pytest.raises(LoginRefused, match="left before its turn"):
        await registry.login.verify(shown, ADDRESS, has_left=lambda: True)
    assert registry.pool.hashes == 0


@pytest.mark.parametrize("name", [b"lamp-1", b"off-1", b"nobody", b"no/id", b"\xff"])
async def test_where_a_stranger_waits_tells_nothing_of_the_store(registry, name):
    visitor = registry.login._hash_request(name.decode("latin-1"), ADDRESS, 10)
    assert visitor == HashRequest(Standing.UNKNOWN, ADDRESS, "192.0.2.0/24", 10)


async def test_what_a_login_teaches(registry):
    await registry.verify()
    assert registry.login._hash_request("lamp-1", ADDRESS, 0).standing is Standing.KNOWN
    assert registry.login._hash_request("lamp-1", "198.51.100.1", 0).standing is Standing.SEEN
    await registry.refused(b"nobody", address="198.51.100.1")
    # One wrong login ends it: nobody asks name after name.
    assert registry.login._hash_request("lamp-1", "198.51.100.1", 0).standing is Standing.UNKNOWN
    assert registry.login._hash_request("lamp-1", "198.51.100.2", 0).standing is Standing.UNKNOWN
    assert registry.login._hash_request("lamp-1", ADDRESS, 0).standing is Standing.KNOWN


async def test_a_right_login_that_cost_a_hash_makes_up_for_a_wrong_one(registry):
    def guesses():
        queue = registry.pool._queue
        return queue._guesses_by_place.level(ADDRESS, asyncio.get_running_loop().time())

    await registry.refused(b"lamp-1", b"wrong")
    assert guesses()
    await registry.verify()
    assert not guesses()
    await registry.refused(b"lamp-1", b"wrong")
    await registry.verify()
    assert guesses(), "a remembered secret costs nothing, and who has one would guess with it between"


async def test_wrong_logins_teach_nothing(registry):
    for name in (b"lamp-1", b"off-1", b"nobody"):
        await registry.refused(name, b"wrong")
    await registry.refused(b"off-1", SECRET)
    assert len(registry.login.known) == 0


async def test_an_old_hash_that_could_not_be_made_anew_is_tried_again_at_the_next_login(registry):
    old = passwords.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(SECRET)
    registry.devices.devices["lamp-1"] = aged = replace(LAMP, credential=old)
    await registry.verify()
    assert registry.recognise() == aged
    assert registry.rehashed == [(aged, SECRET)] * 2


async def test_a_good_token_that_has_ended_is_no_guess(registry, clock):
    token = registry.token()
    registry.now += 60
    for _ in range(10):
        assert registry.bring_in_vain(b"lamp-1", token).why == "expired token"
    assert await registry.verify() == LAMP


async def test_names_do_not_pile_up_where_guessing_is_throttled(registry, clock):
    """A wrong token costs no hash: nothing else would bound how many names there are to remember."""
    for number in range(500):
        registry.bring_in_vain(f"guess-{number}".encode(), WRONG)
    assert len(registry.login._throttle._window.storage.storage) < 50


@pytest.mark.parametrize("username", [None, b"", b"lamp-1"])
@pytest.mark.parametrize("password", [None, b""])
async def test_what_is_empty_is_absent_where_a_certificate_says_who_is_there(registry, username, password):
    assert registry.recognise(username, password, "lamp-1") == LAMP
    assert await registry.verify(username, password, "lamp-1") == LAMP
    assert registry.pool.hashes == 0


@pytest.mark.parametrize("username", [None, b"", b"lamp-1"])
@pytest.mark.parametrize("password", [None, b""])
@pytest.mark.parametrize("certificate_id", [None, "lamp-1"])
def test_what_is_empty_is_absent_where_a_token_says_who_is_there(
    registry, username, password, certificate_id
):
    admission = registry.bring(username, password, certificate_id, token=registry.token())
    assert admission.device == LAMP


@pytest.mark.parametrize("username", [None, b"", b"lamp-1"])
async def test_an_empty_password_alone_lets_nobody_in(registry, username):
    assert registry.recognise(username, b"") is None
    assert (await registry.refused(username, b"")).reason is Reason.NOT_AUTHORIZED


@pytest.mark.parametrize("way", ["secret", "remembered", "token", "certificate", "certificate, verified"])
async def test_a_new_place_of_a_device_is_told_whatever_it_logs_in_by(registry, way):
    moved: list[str] = []
    registry.login.known.moved = moved.append
    for place in (ADDRESS, "198.51.100.9", "198.51.100.9", ADDRESS):
        if way == "token":
            registry.bring(token=registry.token(), address=place)
        elif way == "remembered":
            await registry.verify(address=ADDRESS)
            registry.bring(b"lamp-1", SECRET, address=place)
        elif way == "certificate":
            registry.bring(certificate_id="lamp-1", address=place)
        elif way == "certificate, verified":
            await registry.verify(None, None, "lamp-1", address=place)
        else:
            registry.remembered.forget("lamp-1")
            await registry.verify(address=place)
    assert moved == ["lamp-1"]


def test_whoever_has_a_narrowed_token_is_not_where_its_device_is_known(registry):
    """Known there, it could guess the secret past a place's lock, and push the device's own places out."""
    token = registry.tokens.issue(LAMP, NOTHING, narrowed=True).token.encode()
    assert registry.bring(token=token).grant.narrowed_digest
    assert registry.login.known.look_up("lamp-1", place_of(ADDRESS)) == (False, False)
    registry.bring(token=registry.token())
    assert registry.login.known.look_up("lamp-1", place_of(ADDRESS)) == (True, True)
