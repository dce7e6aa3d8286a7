"""Promise 6: every live connection follows a decision within one second, without a restart.

Measured from the moment when the change is committed (the store's transaction, the file's new name) to
the moment when the device sees it.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import raw
from harness.device import Device, join, spy
from harness.enrol import change_row, enrol, enrol_with_labels, in_store
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

from gateway.auth.passwords import hash_secret
from gateway.keys.key_files import SIGNING, destroy, read_signing_file, rotate_signing
from gateway.keys.key_ring import KeyState
from gateway.store import Store

PROMISED = 1.0
"""Seconds."""
both_versions = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])

ROOM = """description = "Speaks in its own room."
[[allow]]
actions = ["publish", "subscribe"]
topics = ["rooms/{label.room}/#"]
"""
RULES = """description = "Changed by the tests."
[[allow]]
actions = ["publish", "subscribe", "decrypt"]
topics = ["first/#"{more}]
"""
SENSITIVE = """[[sensitive]]
topics = ["devices/+/private/#"{more}]
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Gateway]]:
    folder = tmp_path_factory.mktemp("house")
    bus = Mosquitto(folder / "bus").start()
    gateway = Gateway(folder / "gateway", bus.port)
    gateway.write_policy("roles/room.toml", ROOM)
    gateway.write_policy("roles/rules.toml", RULES.format(more=""))
    try:
        yield bus, gateway.start()
    finally:
        gateway.kill()
        bus.kill()


@pytest.fixture(autouse=True)
def _as_it_was(house: tuple[Mosquitto, Gateway]) -> Iterator[None]:
    """Each test begins with the same rules in force."""
    gateway = house[1]
    before = in_force(gateway)
    yield
    gateway.write_policy("roles/rules.toml", RULES.format(more=""))
    gateway.write_policy("encryption.toml", SENSITIVE.format(more=""))
    deadline = time.monotonic() + 10
    while in_force(gateway) != before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def in_force(gateway: Gateway) -> object:
    """What /health says of the policy: its digest."""
    return json.loads(gateway.health("/health")[1])["checks"]["policy"]["detail"]


def committed(gateway: Gateway, change: Callable[[Store], object]) -> float:
    """Make a change in the store; the answer is the moment when it was committed."""

    async def work(store: Store) -> float:
        await change(store)  # type: ignore[misc]
        return time.monotonic()

    return in_store(gateway, work)


WITHDRAWALS: dict[str, Callable[[str], Callable[[Store], object]]] = {
    "disabled": lambda device: lambda store: store.devices.set_enabled(device, enabled=False),
    "removed": lambda device: lambda store: store.devices.remove(device),
    "another secret": lambda device: lambda store: store.devices.set_credential(device, hash_secret(b"new")),
}


@both_versions
@pytest.mark.parametrize("how", WITHDRAWALS)
def test_a_withdrawn_device_is_out_and_its_will_is_not_published(
    house: tuple[Mosquitto, Gateway], v5: bool, how: str
) -> None:
    bus, gateway = house
    device = f"d{v5}-{how.replace(' ', '-')}"
    enrol(gateway, **{device: "full"})
    will = ("wills/withdrawn", b"x", 1, False)
    with (
        spy(bus.port, "wills/#") as listener,
        join(gateway, device, "a", v5=v5, will=will) as one,
        join(gateway, device, "b", v5=v5, will=will) as two,
    ):
        moment = committed(gateway, WITHDRAWALS[how](device))
        for link in (one, two):
            last = link.ended()
            assert time.monotonic() - moment < PROMISED
            assert last[:1] == (b"\xe0" if v5 else b"")
            if v5:
                assert last[2] == 0x87
                assert how.rsplit(maxsplit=1)[-1].encode() in last
        with Device(gateway, v5=v5) as again:
            connack = again.connect(username=device, password=gateway.secrets[device])
            assert connack[3] == (0x87 if v5 else 5)
        assert listener.messages() == []
    if how == "removed":
        del gateway.secrets[device]


def token_of(gateway: Gateway, device: str) -> tuple[str, str]:
    """A token of the device, and its id."""
    with join(gateway, device, "asks") as one:
        one.publish("gateway/auth", b"{}", qos=0)
        token = json.loads(one.message().payload)["token"]
    body = token.split(".")[1]
    return token, json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["jti"]


REVOCATIONS: dict[str, Callable[[str, str], Callable[[Store], object]]] = {
    "one": lambda device, jti: (
        lambda store: store.tokens.revoke(device_id=device, root=jti, since=0, until=2**33)
    ),
    "all": lambda device, _: lambda store: store.devices.revoke_tokens(device),
}


@both_versions
@pytest.mark.parametrize("how", REVOCATIONS)
def test_a_revoked_token_ends_its_sessions_and_no_others(
    house: tuple[Mosquitto, Gateway], v5: bool, how: str
) -> None:
    bus, gateway = house
    device = f"t{v5}-{how}"
    enrol(gateway, **{device: "full"})
    token, jti = token_of(gateway, device)
    with (
        spy(bus.port, "wills/#") as listener,
        join(gateway, device, "by-secret", v5=v5) as other,
        Device(gateway, v5=v5) as one,
    ):
        will = ("wills/revoked", b"x", 1, False)
        assert one.connect(client_id="by-token", username="", password=token, will=will)[3] == 0
        moment = committed(gateway, REVOCATIONS[how](device, jti))
        last = one.ended()
        assert time.monotonic() - moment < PROMISED
        assert last[:1] == (b"\xe0" if v5 else b"")
        if v5:
            assert last[2] == 0x87
            assert b"revoked" in last
        with Device(gateway, v5=v5) as again:
            assert again.connect(username=device, password=token)[3] == (0x87 if v5 else 5)
        # Whoever came by secret stays, and gets another token that is good.
        other.barrier()
        assert listener.messages() == []
    token, _ = token_of(gateway, device)
    with Device(gateway, v5=v5) as again:
        assert again.connect(username=device, password=token)[3] == 0


@both_versions
def test_a_destroyed_key_ends_what_its_tokens_opened_and_what_was_renewed_from_them(
    house: tuple[Mosquitto, Gateway], v5: bool
) -> None:
    """Whoever stole it could open a session with a token made up, and have that renewed by the new key."""
    bus, gateway = house
    device = f"k{v5}"
    enrol(gateway, **{device: "full"})
    path = Path(gateway.env["GATEWAY_DATA_DIR"]) / "keys" / "signing.key"
    old = next(key.key_id for key in read_signing_file(path, None) if key.state is KeyState.ACTIVE)
    token, _ = token_of(gateway, device)
    will = ("wills/key", b"x", 1, False)
    with (
        spy(bus.port, "wills/#") as listener,
        join(gateway, device, "by-secret", v5=v5) as other,
        Device(gateway, v5=v5) as opened,
        Device(gateway, v5=v5) as renewed,
        Device(gateway, v5=v5) as honest,
    ):
        assert opened.connect(client_id="opened", username="", password=token, will=will)[3] == 0
        rotate_signing(path, None, 86_400)
        while token_kid(fresh := token_of(gateway, device)[0]) == old:
            time.sleep(0.05)
        opened.publish("gateway/auth", b"{}", qos=0)
        child = json.loads(opened.message().payload)["token"]
        assert token_kid(child) != old
        assert renewed.connect(client_id="renewed", username="", password=child, will=will)[3] == 0
        assert honest.connect(client_id="honest", username="", password=fresh)[3] == 0
        destroy(path, SIGNING, None, old)
        moment = time.monotonic()
        for link in (opened, renewed):
            last = link.ended()
            assert time.monotonic() - moment < PROMISED
            assert last[:1] == (b"\xe0" if v5 else b"")
            if v5:
                assert last[2] == 0x87
                assert b"destroyed" in last
        for gone in (token, child):
            with Device(gateway, v5=v5) as again:
                assert again.connect(username=device, password=gone)[3] == (0x87 if v5 else 5)
            other.publish("gateway/validate", json.dumps({"token": gone}).encode(), qos=0)
            assert json.loads(other.message().payload)["error"] == "invalid_token"
        # Whoever came by secret stays, and so does who had logged in since.
        other.barrier()
        honest.barrier()
        assert listener.messages() == []


def token_kid(token: str) -> str:
    header = token.split(".", maxsplit=1)[0]
    return json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]


@both_versions
@pytest.mark.parametrize("how", ["denied", "sensitive", "relabelled"])
def test_a_will_that_is_not_right_any_more_is_not_published(
    house: tuple[Mosquitto, Gateway], v5: bool, how: str
) -> None:
    """Nobody but the bus holds it: only a DISCONNECT takes it back."""
    bus, gateway = house
    device = f"w{v5}-{how}"
    enrol_with_labels(gateway, {device: (("rules", "room"), {"room": "hall"})})
    topic = "rooms/hall/will" if how == "relabelled" else "first/will"
    with (
        spy(bus.port, topic) as listener,
        join(gateway, device, v5=v5, will=(topic, b"planted", 1, True)) as one,
        join(gateway, device, "without", v5=v5) as other,
    ):
        if how == "denied":
            moment = edited(gateway, "roles/rules.toml", RULES.format(more="").replace("first", "else"))
        elif how == "sensitive":
            moment = edited(gateway, "encryption.toml", SENSITIVE.format(more=', "first/#"'))
        else:
            moment = change_row(gateway, device, "labels", '{"room": "attic"}')
        last = one.ended()
        assert time.monotonic() - moment < PROMISED
        assert last[2:3] == (b"\x87" if v5 else b"")
        assert listener.messages() == []
        other.barrier()
    told = [line for line in gateway.log_lines() if line.get("kind") == "will" and line["device"] == device]
    assert told[-1]["topic"] == topic


def test_a_lost_device_leaves_its_will(house: tuple[Mosquitto, Gateway]) -> None:
    """Else the test above would prove nothing."""
    bus, gateway = house
    enrol(gateway, lost="full")
    with spy(bus.port, "wills/#") as listener:
        join(gateway, "lost", will=("wills/lost", b"gone", 0, False)).close()
        assert listener.message().payload == b"gone"


def test_the_command_line_works_on_a_running_gateway(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house
    secret = gateway.add_device("by-hand", "full")
    with join(gateway, "by-hand") as one:
        gateway.admin("device", "disable", "by-hand")
        moment = time.monotonic()
        one.ended()
        assert time.monotonic() - moment < PROMISED
    gateway.admin("device", "enable", "by-hand")
    moment = time.monotonic()
    assert comes_in(gateway, "by-hand", secret, until=moment + PROMISED)
    with join(gateway, "by-hand") as one:
        new = gateway.admin("device", "rotate", "by-hand", "--json").stdout
        moment = time.monotonic()
        one.ended()
        assert time.monotonic() - moment < PROMISED
    assert secret not in new
    assert not comes_in(gateway, "by-hand", secret, until=time.monotonic())


def comes_in(gateway: Gateway, device: str, secret: str, *, until: float) -> bool:
    while True:
        with Device(gateway) as one:
            if one.connect(username=device, password=secret)[3] == 0:
                return True
        if time.monotonic() > until:
            return False


def follows(link: Device, topic: str, expected: int, moment: float) -> None:
    """Publish until the answer is the expected one, which must be within the promised time."""
    while link.publish(topic, b"x", qos=1) != expected:
        assert time.monotonic() - moment < PROMISED, f"{topic} is not {expected:#x} within a second"
        time.sleep(0.01)
    assert time.monotonic() - moment < PROMISED


def test_other_roles_count_at_once(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house
    enrol(gateway, clerk="rules")
    with join(gateway, "clerk", v5=True) as one, join(gateway, "clerk", "b", v5=True) as ear:
        assert one.publish("anything", b"x") == 0x87
        moment = change_row(gateway, "clerk", "roles", '["full"]')
        follows(one, "anything", 0, moment)
        assert ear.subscribe("anything") == [1]
        moment = change_row(gateway, "clerk", "roles", "[]")
        follows(one, "anything", 0x87, moment)
        # The subscription stands on the bus, but it is no right.
        ear.messages()
        with Device(house[0].port) as talker:
            talker.connect(client_id="t")
            talker.publish("anything", b"x")
        assert ear.messages() == []


def test_another_label_counts_at_once(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house
    enrol_with_labels(gateway, {"mover": (("room",), {"room": "hall"})})
    with join(gateway, "mover", v5=True) as one:
        assert one.publish("rooms/hall/x") == 0
        moment = change_row(gateway, "mover", "labels", '{"room": "attic"}')
        follows(one, "rooms/attic/x", 0, moment)
        follows(one, "rooms/hall/x", 0x87, moment)
        moment = change_row(gateway, "mover", "labels", "{}")
        follows(one, "rooms/attic/x", 0x87, moment)


def edited(gateway: Gateway, name: str, text: str) -> float:
    gateway.write_policy(name, text)
    return time.monotonic()


def test_an_edited_rule_counts_at_once(house: tuple[Mosquitto, Gateway]) -> None:
    bus, gateway = house
    enrol(gateway, ruled="rules")
    with (
        join(gateway, "ruled", v5=True) as one,
        join(gateway, "ruled", "ear", v5=True) as ear,
        Device(bus.port) as talker,
    ):
        talker.connect(client_id="talker")
        assert one.publish("second/x") == 0x87
        moment = edited(gateway, "roles/rules.toml", RULES.format(more=', "second/#"'))
        follows(one, "second/x", 0, moment)
        assert ear.subscribe("second/#", "first/#") == [1, 1]
        ear.messages(0.2)
        moment = edited(gateway, "roles/rules.toml", RULES.format(more=""))
        follows(one, "second/x", 0x87, moment)
        ear.messages()
        talker.publish("second/x", b"no more")
        talker.publish("first/x", b"still")
        assert [message.payload for message in ear.messages()] == [b"still"]


def test_a_broken_edit_keeps_the_policy_and_says_so(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house
    enrol(gateway, steady="rules")
    with join(gateway, "steady", v5=True) as one:
        moment = edited(gateway, "roles/rules.toml", RULES.format(more=', "second/#"') + "[[deny]]\n")
        told: list[dict[str, object]] = []
        while not told:
            assert time.monotonic() - moment < PROMISED
            told = [line for line in gateway.log_lines() if line["event"] == "policy refused"]
        assert "rules.toml:5" in str(told[-1]["problems"])
        assert one.publish("first/x") == 0
        assert one.publish("second/x") == 0x87
        assert "problem" in gateway.admin("status", check=False).stdout
        moment = edited(gateway, "roles/rules.toml", RULES.format(more=', "second/#"'))
        follows(one, "second/x", 0, moment)
        assert gateway.health("/ready")[0] == 200


def test_a_topic_that_becomes_sensitive_is_sealed_at_once(house: tuple[Mosquitto, Gateway]) -> None:
    bus, gateway = house
    enrol(gateway, secretive="rules")
    with spy(bus.port, "first/#") as listener, join(gateway, "secretive", v5=True) as one:
        one.publish("first/x", b"plain")
        assert listener.message().payload == b"plain"
        moment = edited(gateway, "encryption.toml", SENSITIVE.format(more=', "first/#"'))
        while True:
            one.publish("first/x", b"soon sealed")
            sealed = b'"encrypted":true' in listener.message().payload
            assert time.monotonic() - moment < PROMISED
            if sealed:
                break


def test_a_device_in_the_middle_of_its_login_is_not_let_in(house: tuple[Mosquitto, Gateway]) -> None:
    """Disabled between the CONNECT and the bus's CONNACK: whichever comes first, it ends up outside."""
    _, gateway = house
    enrol(gateway, racer="full")
    links = [Device(gateway) for _ in range(20)]
    try:
        for number, link in enumerate(links):
            link.send(
                raw.connect(client_id=f"r{number}", username="racer", password=gateway.secrets["racer"])
            )
        moment = committed(gateway, lambda store: store.devices.set_enabled("racer", enabled=False))
        for link in links:
            last = link.ended()
            assert time.monotonic() - moment < PROMISED + 4  # of Argon2 for twenty, on a busy machine
            assert last[:3] in (b"\x20\x02\x00", b"")
    finally:
        for link in links:
            link.close()
