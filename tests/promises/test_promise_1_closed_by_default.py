"""Promise 1: no rule, no access; any error denies; what is broken does not start, and says all that is."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import fork_server, raw
from harness.device import Device, join, spy
from harness.enrol import disable, enrol
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

both_versions = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


@pytest.fixture(scope="module")
def house(world: tuple[Mosquitto, Gateway]) -> tuple[Mosquitto, Gateway]:
    _, gateway = world
    # The store may name roles that no file describes any more.
    enrol(gateway, bare=(), ghost="role-of-long-ago", thermo="sensor", full="full")
    return world


@both_versions
@pytest.mark.parametrize("device", ["bare", "ghost", "thermo"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_no_rule_allows_is_not_published(
    house: tuple[Mosquitto, Gateway], device: str, v5: bool, qos: int
) -> None:
    bus, gateway = house
    with spy(bus.port) as listener, join(gateway, device, v5=v5) as one:
        for topic in ("a", "devices/other/state", f"devices/{device}/telemetry/x", "gateway/auth", "$SYS/x"):
            one.publish(topic, b"x", qos=qos, retain=True)
        one.barrier()
        assert [message for message in listener.messages(0.2) if not message.topic.startswith("$SYS")] == []


@both_versions
@pytest.mark.parametrize("device", ["bare", "ghost", "thermo"])
def test_what_no_rule_allows_is_not_heard(house: tuple[Mosquitto, Gateway], device: str, v5: bool) -> None:
    bus, gateway = house
    refused = 0x87 if v5 else 0x80
    filters = ("#", "+", "devices/#", "devices/+/commands/x", "$share/g/#", "$SYS/#", "gateway/#")
    with join(gateway, device, v5=v5) as one, Device(bus.port) as talker:
        assert one.subscribe(*filters) == [refused] * len(filters)
        talker.connect(client_id="talker")
        talker.publish("devices/other/commands/x", b"x")
        assert one.messages(0.3) == []


@both_versions
def test_nobody_comes_in_without_the_right_secret(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    """Unknown device, wrong secret, another's secret, none, no name: the same answer to all."""
    _, gateway = house
    off = f"off-{v5}"
    enrol(gateway, **{off: "full"})
    disable(gateway, off)
    secret = gateway.secrets["full"]
    attempts: list[dict[str, object]] = [
        {"username": "nobody", "password": secret},
        {"username": "full", "password": secret[:-1]},
        {"username": "full", "password": secret + "x"},
        {"username": "full", "password": gateway.secrets["thermo"]},
        {"username": "full", "password": ""},
        {"username": off, "password": gateway.secrets[off]},
        {"username": "full"},
        {"username": ""},
        {"username": "", "password": secret},
        {"username": "fu%", "password": secret},
        {"username": "full\u0000", "password": secret},
        {"username": "FULL", "password": secret},
        {"username": "full ", "password": secret},
        {},
    ]
    answers = set()
    for attempt in attempts:
        with Device(gateway, v5=v5) as one:
            answers.add(one.connect(**attempt))
            assert one.read() == b"", attempt
    # A name with U+0000 is malformed and gets no answer [MQTT-1.5.4-2].
    assert answers == {b"\x20\x03\x00\x87\x00" if v5 else b"\x20\x02\x00\x05", b""}
    assert gateway.health("/health")[0] == 200


@both_versions
def test_when_the_store_is_gone_nobody_new_comes_in_until_it_is_back(
    mosquitto: Mosquitto, gateway: Gateway, v5: bool
) -> None:
    enrol(gateway, full="full")
    database = Path(gateway.env["GATEWAY_DATA_DIR"]) / "gateway.db"
    with join(gateway, "full", "inside", v5=v5) as inside:
        names = [path for path in database.parent.iterdir() if path.name.startswith("gateway.db")]
        for path in names:
            path.rename(path.with_name("gone-" + path.name))
        assert wait_for(lambda: gateway.health("/ready")[0] == 503)
        with Device(gateway, v5=v5) as one:
            # Its secret is remembered: that alone must not be enough.
            connack = one.connect(username="full", password=gateway.secrets["full"])
            assert connack[3] == (0x88 if v5 else 3)
        assert inside.publish("a", b"who is in stays in", qos=1) == 0
        for path in names:
            path.with_name("gone-" + path.name).rename(path)
        assert wait_for(lambda: gateway.health("/ready")[0] == 200)
        join(gateway, "full", v5=v5).close()


def test_a_damaged_row_lets_nobody_in(gateway: Gateway) -> None:
    enrol(gateway, full="full")
    database = Path(gateway.env["GATEWAY_DATA_DIR"]) / "gateway.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE devices SET roles = '\"full\"'")
        connection.execute("INSERT INTO changes (device_id, at) VALUES ('full', strftime('%s'))")
    connection.close()
    assert wait_for(lambda: gateway.health("/ready")[0] == 503)
    with Device(gateway, v5=True) as one:
        assert one.connect(username="full", password=gateway.secrets["full"])[3] == 0x88


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


# What is broken does not start


@pytest.fixture(scope="module")
def sound(world: tuple[Mosquitto, Gateway], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that has run once and stands still, to be copied and broken."""
    bus, _ = world
    gateway = Gateway(tmp_path_factory.mktemp("sound") / "gateway", bus.port)
    gateway.start()
    enrol(gateway, full="full")
    with join(gateway, "full") as one:
        one.publish("devices/full/private/x", b"so that the key has been used")
    gateway.stop()
    yield gateway
    gateway.kill()


@pytest.fixture
def still(sound: Gateway, tmp_path: Path) -> Gateway:
    """A copy of it."""
    shutil.copytree(sound.folder, tmp_path / "gateway", dirs_exist_ok=True)
    copy = Gateway(tmp_path / "gateway", None)
    copy.env["MQTT_BROKER"], copy.env["MQTT_PORT"] = sound.env["MQTT_BROKER"], sound.env["MQTT_PORT"]
    return copy


def refusal(gateway: Gateway, *, command: str = "run") -> str:
    """What the gateway says instead of starting."""
    if command == "run":
        with (gateway.folder / "said").open("w+b") as said:
            assert fork_server.Process(gateway.env, gateway.folder, said).wait(30) == 1
            said.seek(0)
            text = said.read().decode()
        assert "Traceback" not in text
        return text
    done = subprocess.run(
        [f"{fork_server.folder()}/gateway", command],
        cwd=gateway.folder,
        env=gateway.env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr


POLICY_FILES = ("roles/sensor.toml", "encryption.toml", "limits.toml", "cases.toml")
BROKEN = {
    "empty": "",
    "no TOML": "[[allow]\n",
    "an unknown key": 'allow_anonymous = true\n[[allow]]\nactions = ["publish"]\ntopics = ["a"]\n',
    "binary": "\x00\x01",
}


@pytest.mark.parametrize("damage", BROKEN)
def test_broken_policy_files_refuse_to_start(still: Gateway, damage: str) -> None:
    # A file of limits and one of cases may be empty: then the limits are the documented ones.
    damaged = POLICY_FILES[:2] if damage == "empty" else POLICY_FILES
    for name in damaged:
        (still.acl / name).write_text(BROKEN[damage])
    told = refusal(still)
    assert [name for name in damaged if name not in told] == []


@pytest.mark.parametrize("name", ["encryption.toml", "limits.toml", "roles"])
def test_a_missing_part_of_the_policy_refuses_to_start(still: Gateway, name: str) -> None:
    (still.acl / name).rename(still.folder / "elsewhere")
    assert name in refusal(still)


DAMAGES: dict[str, Callable[[Gateway], object]] = {
    "data/keys/encryption.key": lambda gateway: (gateway.folder / "data/keys/encryption.key").unlink(),
    "gateway.db": lambda gateway: (gateway.folder / "data/gateway.db").write_bytes(b"not a database" * 99),
    "TLS_CERT_PATH": lambda gateway: (gateway.folder / "certs/server.crt").write_text(""),
    "TLS_ENABLED": lambda gateway: gateway.env.update(TLS_ENABLED="false", GATEWAY_MQTT_BIND="0.0.0.0:0"),
    "TLS_CLIENT_CA_PATH": lambda gateway: gateway.env.update(TLS_CLIENT_CA_PATH="/nowhere"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_broken_part_refuses_to_start(still: Gateway, name: str) -> None:
    DAMAGES[name](still)
    assert name in refusal(still)


def test_every_problem_is_told_at_once(still: Gateway) -> None:
    still.write_policy("limits.toml", "packet_size = 0\nno_such_limit = 1\n")
    still.write_policy("roles/sensor.toml", '[[allow]]\nactions = ["fly"]\ntopics = ["a/#/b"]\n')
    (still.folder / "certs/server.key").unlink()
    (still.folder / "data/keys/encryption.key").write_text("")
    for command in ("run", "check"):
        told = refusal(still, command=command)
        for problem in (
            "limits.toml:1",
            "no_such_limit",
            "fly",
            "a/#/b",
            "TLS_KEY_PATH",
            "encryption.key",
        ):
            assert problem in told, (command, told)
    still.env |= {"GATEWAY_ON_DENY": "allow", "MQTT_PORT": "x", "GATEWAY_NO_SUCH": "1"}
    told = refusal(still)
    assert "GATEWAY_ON_DENY" in told
    assert "MQTT_PORT" in told
    assert "GATEWAY_NO_SUCH" in told


def test_the_copy_starts_when_nothing_is_broken(still: Gateway) -> None:
    """Else the tests above would prove nothing."""
    still.start()
    try:
        with Device(still) as one:
            one.send(raw.PINGREQ)
            assert one.read() == b""
    finally:
        still.stop()
