"""What happened to other brokers, tried on this gateway: each test is named after what it stops."""

from __future__ import annotations

import ast
import contextlib
import itertools
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import raw
from harness.device import SESSION_FOREVER, Device, join
from harness.enrol import change_row, enrol, enrol_with_labels
from harness.gateway import ROOT, Gateway
from harness.mosquitto import Mosquitto
from hypothesis import given
from hypothesis import strategies as st

import gateway as product
from gateway.policy.engine.identity import Identity, is_device_id, is_label
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule
from gateway.policy.files.loader import PolicyError, load_policy

MIB = 1 << 20
OWN = """description = "Its own places, however they are named."
[[allow]]
actions = ["publish", "subscribe"]
topics = ["of/{device}/#", "of/{client}/#", "of/{label.room}/#"]
"""
READER = """description = "Given and taken away."
[[allow]]
actions = ["publish", "subscribe"]
topics = ["news/#"]
"""
both_versions = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Gateway]]:
    folder = tmp_path_factory.mktemp("house")
    bus = Mosquitto(folder / "bus").start()
    gateway = Gateway(folder / "gateway", bus.port)
    gateway.write_policy("roles/own.toml", OWN)
    gateway.write_policy("roles/reader.toml", READER)
    try:
        gateway.start()
        enrol(gateway, full="full", bad="full", reader="reader", thermo="sensor")
        enrol_with_labels(gateway, {"owner": (("own",), {"room": "hall"})})
        yield bus, gateway
        assert [line for line in gateway.log_lines() if line["event"] == "internal error"] == []
    finally:
        gateway.kill()
        bus.kill()


def serves(gateway: Gateway) -> None:
    with join(gateway, "full", v5=True) as one:
        assert one.subscribe("served") == [1]
        assert one.publish("served", b"yes") == 0
        assert one.message().payload == b"yes"


def test_memory_taken_before_authentication(house: tuple[Mosquitto, Gateway]) -> None:
    """CVE-2023-0809, CVE-2021-33176: nothing but a CONNECT of a sane size is waited for."""
    _, gateway = house
    serves(gateway)
    before = gateway.memory()
    tls = gateway.tls()
    for number in range(320):
        first = number % 16 << 4 | (2 if number % 16 in (6, 8, 10) else 0)
        with raw.Raw(gateway.port, tls) as link:
            link.send(bytes([first]) + b"\xff\xff\xff\x7f" + bytes(200))
            assert link.read() == b"", f"type {number % 16} was answered"
    assert gateway.memory() - before < 10 * MIB  # 32 KiB for each
    serves(gateway)


@both_versions
def test_leak_by_wills_and_duplicate_ids(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    """CVE-2023-28366, CVE-2023-3592: refused wills and refused QoS 2 messages, again and again."""
    _, gateway = house
    will = ("elsewhere", bytes(30_000), 2, True)
    refused = raw.publish("elsewhere", bytes(1000), qos=2, packet_id=9, v5=v5)

    def work() -> None:
        for _ in range(60):
            with Device(gateway, v5=v5) as one:
                one.connect(username="thermo", password=gateway.secrets["thermo"], will=will)
        with join(gateway, "thermo", v5=v5) as one:
            for _ in range(30):
                one.send(refused * 100)
                assert [one.read()[0] for _ in range(100)] == [0x50] * 100

    work()
    before = gateway.memory()
    work()
    assert gateway.memory() - before < 4 * MIB


SEQUENCES: dict[str, list[bytes]] = {
    "DISCONNECT, then SUBSCRIBE and UNSUBSCRIBE": [
        raw.DISCONNECT,
        raw.subscribe(1, ("a", 0), v5=True),
        raw.unsubscribe(2, "a", v5=True),
    ],
    "UNSUBSCRIBE of what nobody subscribed": [raw.unsubscribe(1, *map(str, range(2000)), v5=True)],
    "answers to nothing": [raw.ack(kind, 7) for kind in (0x40, 0x50, 0x62, 0x70)],
    "subscribe and leave at once": [
        raw.subscribe(1, *((str(number), 2) for number in range(500)), v5=True),
        raw.DISCONNECT,
    ],
    "the same packet id for everything": [
        raw.subscribe(1, ("a", 2), v5=True),
        raw.publish("a", qos=1, packet_id=1, v5=True),
        raw.publish("a", qos=2, packet_id=1, v5=True),
        raw.ack(0x62, 1),
        raw.unsubscribe(1, "a", v5=True),
        raw.subscribe(1, ("a", 2), v5=True),
    ],
    "AUTH": [b"\xf0\x00", b"\xf0\x02\x18\x00"],
    "a will taken back": [b"\xe0\x02\x04\x00"],
    "two CONNECTs": [raw.connect("full", v5=True)],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_crash_by_a_sequence_of_packets(house: tuple[Mosquitto, Gateway], name: str) -> None:
    """CVE-2024-8376. `tests/fuzz` looks for sequences nobody has thought of."""
    _, gateway = house
    with join(gateway, "bad", v5=True, will=("w", b"", 0, False)) as one:
        one.send(*SEQUENCES[name])
        one.read_all(0.1)
    with Device(gateway, v5=True) as one:
        # All of it before the gateway has answered the CONNECT.
        connect = raw.connect(v5=True, username="bad", password=gateway.secrets["bad"])
        one.send(connect, *SEQUENCES[name])
        one.read_all(0.1)
    serves(gateway)


@both_versions
def test_stack_overflow_by_a_deep_topic(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    """CVE-2019-11779: refused or, as Mosquitto does, the end of the connection; and of nothing else."""
    _, gateway = house
    for packet in (
        raw.subscribe(1, ("/" * 65_000, 0), v5=v5),
        raw.subscribe(1, ("+/" * 30_000 + "#", 0), v5=v5),
        raw.unsubscribe(1, "/" * 65_000, v5=v5),
        raw.publish("/" * 65_000, b"x", qos=1, packet_id=1, v5=v5),
    ):
        with join(gateway, "bad", v5=v5) as one:
            one.send(packet)
            one.read_all(0.1)
    serves(gateway)


JUDGES = (
    "policy/engine/policy.py",
    "policy/engine/topic_tree.py",
    "policy/engine/rules.py",
    "connection/authorizer.py",
    "connection/subscriptions.py",
    "connection/verdict_cache.py",
)


def test_a_topic_filter_as_a_regex(house: tuple[Mosquitto, Gateway]) -> None:
    """GHSA-2hjf-7455-w946: a filter means its characters, and nothing that judges topics knows regexes."""
    _, gateway = house
    bomb = "(a*)*$"
    with join(gateway, "bad") as ear, join(gateway, "full") as talker:
        ear.subscribe(bomb, "[a-z]*", ".*", "+/" * 100 + "#")
        talker.publish("a" * 60_000, b"no")
        talker.publish("x", b"no")
        talker.publish(bomb, b"yes")
        assert [message.payload for message in ear.messages()] == [b"yes"]
    assert product.__file__
    package = Path(product.__file__).parent
    for path in [*package.glob("mqtt/*.py"), *(package / name for name in JUDGES)]:
        nodes = ast.walk(ast.parse(path.read_text()))
        imported = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
        assert "re" not in imported, path


TRICKS = ("+", "#", "$SYS", "", "full", "a/b", "+/x", "..", "{device}", "{label.room}", "owner/../full")


@pytest.mark.parametrize("client_id", TRICKS)
def test_a_name_that_widens_a_rule(house: tuple[Mosquitto, Gateway], client_id: str) -> None:
    """CVE-2017-7650: {client} is what the device says, and stands for one level or for nothing."""
    bus, gateway = house
    with Device(gateway, v5=True) as one, Device(bus.port) as talker:
        connack = one.connect(client_id=client_id, username="owner", password=gateway.secrets["owner"])
        assert connack[3] == 0
        for topic in ("of/other/x", "of/x", "of", "x", "$SYS/x", "of/a/b"):
            assert one.publish(topic, b"x") == 0x87, topic
        assert set(one.subscribe("of/#", "of/+/x", "+/#", "#", "of/other/#")) == {0x87}
        assert one.publish("of/owner/x") == one.publish("of/hall/x") == 0
        talker.connect(client_id="t")
        talker.publish("of/other/x", b"x")
        assert one.messages(0.2) == []


names = st.text(min_size=0, max_size=5, alphabet="ab/+#$.{}\u0000\u00e9 ")


@given(device=names, label=names, client=names, topic=names)
def test_no_name_that_is_accepted_widens_a_rule(device: str, label: str, client: str, topic: str) -> None:
    """Any name: what it opens is at most the level that it is."""
    assert not is_device_id(device) or not set("/+#$\0") & set(device)
    if not is_device_id(device) or not is_label("room", label):
        return
    actions = frozenset({Action.PUBLISH, Action.SUBSCRIBE})
    rules = tuple(
        Rule(Effect.ALLOW, actions, template, 2, True, None, "own", "own.toml", 1)
        for template in ("d/{device}", "l/{label.room}", "c/{client}/#")
    )
    policy = Policy([Role("own", "", rules)], sensitive=[], limits=Limits(), reserved="gateway")
    access = policy.rights(Identity(device, ("own",), {"room": (label,)}, client))
    for prefix, own in (("d", device), ("l", label), ("c", client)):
        asked = f"{prefix}/{topic}"
        for decision in (access.decide(Action.PUBLISH, asked), access.decide_filter(asked)):
            if decision.allowed:
                assert topic == own or (prefix == "c" and topic.partition("/")[0] == own)


@both_versions
def test_revoked_yet_it_goes_on(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    """CVE-2021-34434, CVE-2018-12546: subscription, queue and retained messages of a withdrawn right."""
    bus, gateway = house
    me = {
        "client_id": "kept",
        "username": "reader",
        "password": gateway.secrets["reader"],
        "clean": False,
        "props": SESSION_FOREVER if v5 else b"",
    }
    give_role(gateway, "reader")
    with (
        join(gateway, "reader", "live", v5=v5) as live,
        Device(gateway, v5=v5) as kept,
        Device(bus.port) as talker,
    ):
        kept.connect(**me)
        assert live.subscribe("news/#", qos=2) == kept.subscribe("news/#", qos=2) == [2]
        kept.send(raw.DISCONNECT)
        kept.ended()
        talker.connect(client_id="t")
        talker.publish("news/1", b"heard", retain=True)
        assert live.message().payload == b"heard"
        talker.publish("news/queued", b"for kept", qos=1)
        talker.publish("news/queued", b"for kept", qos=2)
        live.messages(0.2)
        give_role(gateway, "sensor")
        live.messages(0.2)
        for qos in (0, 1, 2):
            talker.publish("news/2", b"not heard", qos=qos)
        assert live.messages(0.3) == []
        assert live.subscribe("news/1") == [0x87 if v5 else 0x80]
        with Device(gateway, v5=v5) as back:
            assert back.connect(**me)[2:4] == b"\x01\x00"
            assert back.messages(0.3) == []
        talker.publish("news/1", b"", retain=True)
    # The gateway acknowledged in its stead: nothing is left that would come with the right.
    give_role(gateway, "reader")
    with Device(gateway, v5=v5) as back:
        back.connect(**me)
        assert not {message.payload for message in back.messages(0.3)} & {b"for kept", b"not heard"}


def give_role(gateway: Gateway, role: str) -> None:
    """Give the device `reader` this role, and wait until it counts."""
    change_row(gateway, "reader", "roles", f'["{role}"]')
    expected = 0 if role == "reader" else 0x87
    with join(gateway, "reader", "probe", v5=True) as probe:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if probe.publish("news/probe") == expected:
                return
            time.sleep(0.02)
    raise AssertionError(f"the role {role} does not count")


@pytest.mark.parametrize(
    "content", ["", "\n", "x", "[[allow]]", "allow = true", "\x00", "[[allow]]\nactions=[]"]
)
@pytest.mark.parametrize("name", ["roles/sensor.toml", "encryption.toml"])
def test_a_config_that_is_empty_or_malformed_opens_the_door(tmp_path: Path, name: str, content: str) -> None:
    """CVE-2018-12550, CVE-2018-12551, CVE-2018-20145."""
    acl = tmp_path / "acl"
    shutil.copytree(ROOT / "acl", acl)
    (acl / name).write_text(content)
    with pytest.raises(PolicyError, match=name):
        load_policy(acl, reserved="gateway")


@pytest.mark.parametrize("name", ["roles/sensor.toml", "encryption.toml", "limits.toml"])
def test_a_config_that_cannot_be_read_opens_the_door(tmp_path: Path, name: str) -> None:
    acl = tmp_path / "acl"
    shutil.copytree(ROOT / "acl", acl)
    (acl / name).unlink()
    (acl / name).mkdir()
    with pytest.raises(PolicyError, match=name):
        load_policy(acl, reserved="gateway")


@both_versions
def test_anothers_session_by_client_id(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    """CVE-2026-6564, CVE-2026-33215: neither the id itself nor the id with its prefix."""
    _, gateway = house
    with join(gateway, "full", "mine", v5=v5) as owner:
        owner.subscribe("mine")
        for client_id in ("mine", "full/mine", "/full/mine", "../full/mine"):
            join(gateway, "bad", client_id, v5=v5, clean=True).close()
            with Device(gateway, v5=v5) as stranger:
                stranger.connect(client_id=client_id, username="full", password="wrong", clean=True)
        assert owner.publish("mine", b"still here") == 0
        assert owner.message().payload == b"still here"


LEVELS = ("a", "b", "+")
FILTERS = [
    "/".join(levels) + end
    for count in (1, 2)
    for levels in itertools.product(LEVELS, repeat=count)
    for end in ("", "/#")
] + ["#"]
TOPICS = ["/".join(levels) for count in (1, 2, 3) for levels in itertools.product("abz", repeat=count)]


def matches(topic_filter: str, topic: str) -> bool:
    """The standard's words (4.7.1), and nothing of ours."""
    want, have = topic_filter.split("/"), topic.split("/")
    for at, level in enumerate(want):
        if level == "#":
            return True
        if at >= len(have) or level not in ("+", have[at]):
            return False
    return len(want) == len(have)


def test_a_prefix_taken_for_a_filter() -> None:
    """comqtt #169, a rule `a/+` that admits SUBSCRIBE `a/#`: against brute force over a small alphabet."""
    actions = frozenset({Action.SUBSCRIBE})
    wrong = []
    for allowed in FILTERS:
        rule = Rule(Effect.ALLOW, actions, allowed, 2, True, None, "r", "r.toml", 1)
        policy = Policy([Role("r", "", (rule,))], sensitive=[], limits=Limits(), reserved="gateway")
        access = policy.rights(Identity("d", ("r",), {}, "c"))
        for asked in FILTERS:
            covered = all(matches(allowed, topic) for topic in TOPICS if matches(asked, topic))
            if access.decide_filter(asked).allowed != covered:
                wrong.append((allowed, asked))
    assert wrong == []


IDENTITIES = [
    "a\x00b",
    "a\nb",
    "a\x7f",
    "a\x1b[31m",
    "\u0085",
    "a\u202eb",
    "\ufeffa",
    "a b",
    "a" * 65,
]


@pytest.mark.parametrize("name", IDENTITIES, ids=ascii)
def test_control_bytes_in_identities(house: tuple[Mosquitto, Gateway], name: str) -> None:
    """EMQX fix-17309: no such device can be added, and such a name never reaches the log as it is."""
    _, gateway = house
    assert not is_device_id(name)
    with Device(gateway, v5=True) as one:
        one.send(raw.connect(name, v5=True, username=name, password="x"))
        assert one.read()[3:4] in (b"\x87", b"\x85", b"")
    with Device(gateway, v5=True) as one:
        one.connect(client_id=name, username="full", password=gateway.secrets["full"])
    text = gateway.log_text()
    assert not [char for char in text if char != "\n" and not char.isprintable()]


def test_a_failing_backend_counts_as_yes(house: tuple[Mosquitto, Gateway]) -> None:
    """EMQX fix-17140: a stored hash that is none. That the store is gone is in `tests/promises`."""
    _, gateway = house
    credentials = {
        f"broken-{number}": credential
        for number, credential in enumerate(
            ("", "x", "$argon2id$", "$argon2id$v=19$m=8,t=1,p=1$$", gateway.secrets["full"])
        )
    }
    enrol(gateway, **dict.fromkeys(credentials, "full"))
    for device, credential in credentials.items():
        change_row(gateway, device, "credential", credential)
    time.sleep(1)  # that is what promise 6 allows
    for device, credential in credentials.items():
        for secret in (gateway.secrets[device], "", credential):
            with Device(gateway, v5=True) as one:
                assert one.connect(username=device, password=secret)[3] in (0x87, 0x88)
    serves(gateway)


def test_truncated_handshakes(house: tuple[Mosquitto, Gateway]) -> None:
    """A TLS handshake cut off after any number of bytes, and what is no TLS at all."""
    _, gateway = house
    serves(gateway)
    before = gateway.memory()
    hello = recorded_client_hello(gateway)
    for size in (*range(0, len(hello), 7), len(hello)):
        with socket.create_connection(("127.0.0.1", gateway.port)) as plain:
            plain.sendall(hello[:size])
    for junk in (b"GET / HTTP/1.1\r\n\r\n", bytes(100_000), raw.connect("c"), b"\x17\x03\x01\x00\x05" * 999):
        with (
            socket.create_connection(("127.0.0.1", gateway.port), timeout=15) as plain,
            contextlib.suppress(OSError),
        ):
            plain.sendall(junk)
            while plain.recv(4096):
                pass
    serves(gateway)
    assert gateway.memory() - before < 16 * MIB


def recorded_client_hello(gateway: Gateway) -> bytes:
    """The first bytes of a real handshake."""
    outgoing = ssl.MemoryBIO()
    talk = gateway.tls().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        talk.do_handshake()
    return outgoing.read()
