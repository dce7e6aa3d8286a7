"""Promise 4: client ids live in a namespace per identity."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from harness import raw
from harness.device import SESSION_FOREVER, Device, join
from harness.enrol import enrol
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

both_versions = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
DEVICES = ("lamp-1", "lamp-2", "lamp-1.c")


@pytest.fixture(scope="module")
def house(world: tuple[Mosquitto, Gateway]) -> tuple[Mosquitto, Gateway]:
    enrol(world[1], **dict.fromkeys(DEVICES, "full"))
    return world


def lasting(v5: bool) -> dict[str, object]:
    return {"clean": False, "props": SESSION_FOREVER if v5 else b""}


@both_versions
def test_two_devices_with_one_client_id_keep_a_session_each(
    house: tuple[Mosquitto, Gateway], v5: bool
) -> None:
    _, gateway = house
    one = join(gateway, "lamp-1", "same", v5=v5, **lasting(v5))
    two = join(gateway, "lamp-2", "same", v5=v5, **lasting(v5))
    one.subscribe("for/1")
    two.subscribe("for/2")
    one.barrier()
    two.barrier()
    one.close()
    two.close()
    with join(gateway, "lamp-1", "other") as talker:
        talker.publish("for/1", b"one")
        talker.publish("for/2", b"two")
    for device, text in (("lamp-2", b"two"), ("lamp-1", b"one")):
        with Device(gateway, v5=v5) as back:
            connack = back.connect(
                client_id="same", username=device, password=gateway.secrets[device], **lasting(v5)
            )
            assert connack[2:4] == b"\x01\x00"
            assert [message.payload for message in back.messages()] == [text]


# What a device may try to be called, so that its id on the bus is another's.
TRICKS = (
    "c",
    "lamp-2/c",
    "/lamp-2/c",
    "../lamp-2/c",
    "x/../../lamp-2/c",
    "lamp-1/c",
    "/",
    "",
    "c\u00e9",
    "#",
    "+/c",
    "$share/g/c",
    "lamp-2\\c",
    "lamp-2%2Fc",
    "c" * 300,
)


@both_versions
def test_no_client_id_reaches_into_another_namespace(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    """Everybody with every trick at once: nobody is taken over, and the bus knows as many clients."""
    bus, gateway = house
    taken = [
        join(gateway, device, client_id, v5=v5) for device, client_id in itertools.product(DEVICES, TRICKS)
    ]
    try:
        for one in taken:
            one.barrier()
        before = bus.log.read_text().count("already connected")
        names = [line.split(" as ")[1].split(" (")[0] for line in connected_on_bus(bus)[-len(taken) :]]
        assert len(set(names)) == len(taken)
        for device in DEVICES:
            assert len([name for name in names if name.startswith(f"{device}/")]) == len(TRICKS)
        assert before == 0
    finally:
        for one in taken:
            one.close()


def connected_on_bus(bus: Mosquitto) -> list[str]:
    """Lines of Mosquitto's log; the gateway's own question is left out."""
    lines = bus.log.read_text(errors="replace").splitlines()
    own = (" as ~gateway/", " as gateway~check/")
    return [line for line in lines if "New client connected" in line and not any(one in line for one in own)]


@both_versions
def test_within_a_device_a_second_connection_takes_over(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    """And the first one hears of it what the bus says: a newer Mosquitto sends 0x8e, an older just closes."""
    bus, gateway = house
    with Device(bus.port, v5=v5) as first, Device(bus.port, v5=v5) as second:
        first.connect(client_id="direct")
        second.connect(client_id="direct")
        last_word = first.ended()
    with (
        join(gateway, "lamp-1", "mine", v5=v5) as first,
        join(gateway, "lamp-2", "mine", v5=v5) as other,
        join(gateway, "lamp-1", "mine", v5=v5) as second,
    ):
        assert first.ended() == last_word
        second.barrier()
        other.barrier()


@both_versions
def test_before_authentication_a_clean_start_does_nothing(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    """Neither a take-over nor the end of a stored session by somebody without the secret."""
    _, gateway = house
    with join(gateway, "lamp-1", "kept", v5=v5, **lasting(v5)) as owner:
        owner.subscribe("kept/#")
        attempts = [
            {"client_id": "kept", "username": "lamp-1", "password": "guessed"},
            {"client_id": "kept", "username": "lamp-1", "password": gateway.secrets["lamp-2"]},
            {"client_id": "kept", "username": "lamp-2", "password": gateway.secrets["lamp-1"]},
            {"client_id": "lamp-1/kept"},
        ]
        for attempt in attempts:
            with Device(gateway, v5=v5) as stranger:
                assert stranger.connect(clean=True, **attempt)[3] == (0x87 if v5 else 5)
        with join(gateway, "lamp-2", "kept", v5=v5, clean=True):
            owner.barrier()
    with Device(gateway, v5=v5) as back:
        connack = back.connect(
            client_id="kept", username="lamp-1", password=gateway.secrets["lamp-1"], **lasting(v5)
        )
        assert connack[2:4] == b"\x01\x00"


@both_versions
def test_a_narrow_token_leaves_the_session_of_its_device_alone(
    house: tuple[Mosquitto, Gateway], v5: bool
) -> None:
    """With the device's client id it took the session over, and swallowed what was queued there."""
    bus, gateway = house
    one, other = (
        json.loads(gateway.admin("token", "issue", "lamp-1", "--publish", topic, "--json").stdout)["token"]
        for topic in ("narrow/one", "narrow/other")
    )
    queue = f"queue/{v5}"
    with join(gateway, "lamp-1", "owner", v5=v5, **lasting(v5)) as owner:
        owner.subscribe(queue)
        owner.barrier()
    with join(gateway, "lamp-2", "talker") as talker:
        talker.publish(queue, b"for the owner")
    for token in (one, other, one):
        # By a session of its own, and by a clean start, which would end one.
        for words in (lasting(v5), {"clean": True}):
            with Device(gateway, v5=v5) as narrow:
                connack = narrow.connect(client_id="owner", username="lamp-1", password=token, **words)
                assert connack[2:4] == b"\0\0", "there is no session of its own yet"
                assert narrow.messages() == []
    with Device(gateway, v5=v5) as back:
        connack = back.connect(
            client_id="owner", username="lamp-1", password=gateway.secrets["lamp-1"], **lasting(v5)
        )
        assert connack[2:4] == b"\x01\x00"
        assert [message.payload for message in back.messages()] == [b"for the owner"]
        # Nor is a connection taken over, whoever of them comes second.
        with Device(gateway, v5=v5) as narrow, Device(gateway, v5=v5) as narrower:
            for link, token in ((narrow, one), (narrower, other)):
                assert link.connect(client_id="owner", username="lamp-1", password=token)[3] == 0
            for link in (back, narrow, narrower):
                link.barrier()
            names = [line.split(" as ")[1].split(" (")[0] for line in connected_on_bus(bus)[-2:]]
            assert all(re.fullmatch("lamp-1~[0-9a-f]{32}/owner", name) for name in names)
            assert names[0] != names[1]
    told = [line for line in gateway.log_lines() if line["event"] == "connected" and "narrowed" in line]
    assert f"lamp-1~{told[-1]['narrowed']}/owner" == names[1]


def test_auth_does_not_bring_a_narrow_token_into_a_session_of_the_device(
    house: tuple[Mosquitto, Gateway],
) -> None:
    _, gateway = house
    wide, again, narrow = (
        json.loads(gateway.admin("token", "issue", "lamp-1", *options, "--json").stdout)["token"]
        for options in ((), (), ("--publish", "narrow/one"))
    )

    def auth(token: str) -> bytes:
        props = b"\x15" + raw.text("gateway-jwt") + b"\x16" + raw.text(token)
        return raw.packet(0xF0, b"\x19" + raw.properties(props))

    with Device(gateway, v5=True) as one:
        assert one.connect(client_id="moves", username="lamp-1", password=wide)[3] == 0
        one.send(auth(again))
        assert one.answer(15)[2] == 0
        one.send(auth(narrow))
        last = one.ended()
        assert last[2] == 0x87
        assert b"narrowed" in last


def test_a_client_id_that_was_given_hides_the_namespace(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house
    given = []
    for device in ("lamp-1", "lamp-2"):
        with Device(gateway, v5=True) as one:
            connack = one.connect(client_id="", username=device, password=gateway.secrets[device])
            assert connack[3] == 0
            at = connack.index(b"\x12", 4)  # Assigned Client Identifier
            given.append(connack[at + 3 : at + 3 + connack[at + 2]])
            assert b"lamp" not in connack
            one.barrier()
    assert given[0] != given[1]


def test_a_shared_subscription_group_is_the_buses_business(house: tuple[Mosquitto, Gateway]) -> None:
    """Groups are for sharing: two devices of one group get each message once between them."""
    _, gateway = house
    with (
        join(gateway, "lamp-1", v5=True) as one,
        join(gateway, "lamp-2", v5=True) as two,
        join(gateway, "lamp-1.c", v5=True) as talker,
    ):
        one.subscribe("$share/g/work")
        two.subscribe("$share/g/work")
        for number in range(10):
            talker.publish("work", b"%d" % number)
        got = [message.payload for ear in (one, two) for message in ear.messages()]
        assert sorted(got) == [b"%d" % number for number in range(10)]
