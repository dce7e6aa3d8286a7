"""Promise 8: a reason code to a v5 client, a line in the audit log, and `gateway-admin acl why`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest
from harness import raw
from harness.device import Device, code_of, join
from harness.enrol import disable, enrol, in_store
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from harness.one_minute import in_one_minute
from harness.receivers import wait_until
from harness.stored_rows import wait_for_refusal

NARROW = """description = "A rule of each kind."
[[allow]]
actions = ["publish"]
topics = ["narrow/#"]
max_qos = 1
retain = false
max_payload = 10

[[deny]]
actions = ["publish"]
topics = ["narrow/closed"]

[[allow]]
actions = ["subscribe"]
topics = ["narrow/#", "devices/+/private/#"]

[[deny]]
actions = ["subscribe"]
topics = ["narrow/hidden"]
"""
LIMITS = """subscriptions = 3
connections_per_device = 2
packet_size = 100_000
topic_levels = 10
login_failures_per_minute = 3
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Gateway]]:
    folder = tmp_path_factory.mktemp("house")
    bus = Mosquitto(folder / "bus").start()
    gateway = Gateway(folder / "gateway", bus.port)
    gateway.write_policy("roles/narrow.toml", NARROW)
    gateway.write_policy("limits.toml", LIMITS)
    try:
        gateway.start()
        enrol(gateway, n="narrow", full="full", off="full", leaver="full", guessed="full")
        disable(gateway, "off")
        yield bus, gateway
    finally:
        gateway.kill()
        bus.kill()


def told(gateway: Gateway, **fields: object) -> dict[str, object]:
    """The audit line with these fields; it is written before or soon after the device's answer."""
    deadline = time.monotonic() + 5
    while True:
        for line in gateway.log_lines():
            if line["event"] == "audit" and fields.items() <= line.items():
                assert line["reason"]
                assert str(line["address"]).startswith("127.0.0.")
                return line
        assert time.monotonic() < deadline, f"no audit line with {fields}"
        time.sleep(0.02)


def closed(gateway: Gateway, **fields: object) -> list[dict[str, object]]:
    """The lines of connections that ended, waited for: the peer may see the end before it is logged."""

    def found() -> list[dict[str, object]]:
        wanted = {"event": "closed", **fields}
        return [line for line in gateway.log_lines() if wanted.items() <= line.items()]

    wait_until(lambda: bool(found()))
    return found()


def why(gateway: Gateway, *words: str) -> dict[str, object]:
    """What `acl why` answers to a question that is denied."""
    done = gateway.admin("acl", "why", *words, "--json", check=False)
    assert done.returncode == 1, done
    answer: dict[str, object] = json.loads(done.stdout)
    assert answer["allowed"] is False
    return answer


def why_logged(gateway: Gateway, line: dict[str, object]) -> dict[str, object]:
    """What `acl why` answers to the id in an audit line, once that is saved."""
    wait_for_refusal(gateway, line["id"])
    done = gateway.admin("acl", "why", str(line["id"]), "--json", check=False)
    answer: dict[str, object] = json.loads(done.stdout)
    logged = answer["refusal"]
    assert isinstance(logged, dict)
    assert logged["id"] == line["id"]
    assert logged["reason"] == line["reason"]
    assert logged["rule"] == line.get("rule")
    assert (answer["device_id"], answer["topic"]) == (line["device"], line["topic"])
    return answer


def reason_string(packet: bytes) -> str:
    """Of a PUBACK, PUBREC or DISCONNECT; empty when there is none."""
    at = packet.find(b"\x1f", 4 if packet[0] >> 4 != 14 else 3)
    return packet[at + 3 :].decode() if at >= 0 else ""


def refused_publish(gateway: Gateway, topic: str, payload: bytes = b"", **words: object) -> bytes:
    with join(gateway, "n", v5=True) as one:
        one.send(raw.publish(topic, payload, packet_id=1, v5=True, **words))  # type: ignore[arg-type]
        return one.read()


# Topic, message, the words of `acl why`, the line of the rule that decides.
PUBLISHES = {
    "no rule": ("elsewhere", {}, (), None),
    "a deny": ("narrow/closed", {}, (), "narrow.toml:9"),
    "max_qos": ("narrow/a", {"qos": 2}, ("--qos", "2"), "narrow.toml:2"),
    "retain": ("narrow/b", {"retain": True}, ("--retain",), "narrow.toml:2"),
    "max_payload": ("narrow/c", {"payload": b"x" * 11}, ("--size", "11"), "narrow.toml:2"),
    "too many levels": ("narrow/" + "x/" * 9, {}, (), None),
    "the gateway's own": ("gateway/x", {}, (), None),
}


@pytest.mark.parametrize("case", PUBLISHES)
def test_a_refused_publish(house: tuple[Mosquitto, Gateway], case: str) -> None:
    _, gateway = house
    topic, message, words, rule = PUBLISHES[case]
    answer = refused_publish(gateway, topic, **{"qos": 1, **message})
    assert answer[0] >> 4 == (5 if message.get("qos") == 2 else 4)
    assert answer[4] == 0x87
    line = told(gateway, kind="publish", device="n", topic=topic)
    assert reason_string(answer) == line["reason"]
    explained = why(gateway, "n", "publish", topic, *words)
    assert explained["reason"] == line["reason"]
    for place in (line.get("rule"), explained["rule"]):
        assert place is None if rule is None else str(place).rpartition("/")[2].startswith(rule[:-1]), place
    assert explained["rule"] == line.get("rule")
    assert explained["change"]
    assert why_logged(gateway, line)["topic"] == topic


def test_a_device_that_wants_no_reasons_gets_none(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house
    with join(gateway, "n", v5=True, props=b"\x17\x00") as one:
        one.send(raw.publish("elsewhere", qos=1, packet_id=1, v5=True))
        assert one.read() in (b"\x40\x03\x00\x01\x87", b"\x40\x04\x00\x01\x87\x00")


def test_a_refused_subscription(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house
    with join(gateway, "n", v5=True) as new, join(gateway, "n", "old") as old:
        assert new.subscribe("narrow/a", "elsewhere/#", "narrow/hidden", "narrow/#") == [1, 0x87, 0x87, 1]
        assert old.subscribe("narrow/a", "elsewhere/#", "narrow/hidden", "narrow/#") == [1, 0x80, 0x80, 1]
    told(gateway, kind="subscribe", device="n", topic="elsewhere/#", outcome="refused")
    rule = told(gateway, kind="subscribe", device="n", topic="narrow/hidden")["rule"]
    assert why(gateway, "n", "subscribe", "narrow/hidden")["rule"] == rule
    assert why(gateway, "n", "subscribe", "elsewhere/#")["nearest"]


def test_a_swallowed_delivery(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house
    with join(gateway, "n", v5=True) as ear, join(gateway, "full") as talker:
        ear.subscribe("narrow/#", "devices/+/private/#")
        talker.publish("narrow/hidden", b"x")
        talker.publish("narrow/a", b"heard")
        assert [one.payload for one in ear.messages()] == [b"heard"]
    line = told(gateway, kind="delivery", device="n", topic="narrow/hidden")
    assert why(gateway, "n", "subscribe", "narrow/hidden")["rule"] == line["rule"]
    assert why_logged(gateway, line)["rule"] == line["rule"]


def test_a_message_that_does_not_open(house: tuple[Mosquitto, Gateway]) -> None:
    bus, gateway = house
    with join(gateway, "n", v5=True) as ear, Device(bus.port) as forger:
        ear.subscribe("devices/+/private/#")
        forger.connect(client_id="forger")
        forger.publish("devices/x/private/y", b"not sealed")
        assert ear.messages() == []
    told(gateway, kind="open", outcome="failed", device="n", topic="devices/x/private/y")


LOGINS = {
    "wrong secret": ("full", "wrong"),
    "unknown device": ("nobody", "wrong"),
    "disabled device": ("off", None),
}


@pytest.mark.parametrize("why_not", LOGINS)
def test_a_refused_login(house: tuple[Mosquitto, Gateway], why_not: str) -> None:
    """The log says why, the peer learns only that."""
    _, gateway = house
    device, secret = LOGINS[why_not]
    with Device(gateway, v5=True) as one:
        connack = one.connect(username=device, password=secret or gateway.secrets[device])
        assert connack == b"\x20\x03\x00\x87\x00"
    # A name that nobody has may be a secret typed in the wrong place: a digest stands for it.
    named = {} if device == "nobody" else {"device": device}
    line = told(gateway, kind="login", outcome="refused", reason=why_not, **named)
    assert named or str(line["device"]).startswith("unknown:")


def test_a_throttled_login_and_one_connection_too_many(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house

    def guess(attempt: int) -> list[int]:
        answers = []
        for _ in range(5):
            with Device(gateway, v5=True, source=f"127.0.0.{attempt + 7}") as one:
                answers.append(one.connect(username="guessed", password="wrong")[3])
        return answers

    assert in_one_minute(guess) == [0x87, 0x87, 0x87, 0x9F, 0x9F]
    told(gateway, kind="login", reason="throttled after too many wrong logins")
    with join(gateway, "full", "1"), join(gateway, "full", "2"), Device(gateway, v5=True) as third:
        connack = third.connect(client_id="3", username="full", password=gateway.secrets["full"])
        assert connack[3] == 0x97
        why = "as many connections as the device may have (connections_per_device = 2, acl/limits.toml)"
        told(gateway, kind="login", device="full", reason=why)


def test_a_refused_will(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house
    for v5 in (True, False):
        with Device(gateway, v5=v5) as one:
            connack = one.connect(
                username="n", password=gateway.secrets["n"], will=("narrow/closed", b"x", 0, False)
            )
            assert connack[3] == (0x87 if v5 else 5)
    line = told(gateway, kind="will", outcome="refused", device="n", topic="narrow/closed")
    assert why(gateway, "n", "publish", "narrow/closed")["rule"] == line["rule"]
    assert why_logged(gateway, line)["action"] == "publish"


def test_a_limit(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house
    with join(gateway, "full", v5=True) as one:
        own = one.address
        assert one.subscribe("1", "2", "3", "4") == [1, 1, 1, 0x97]
        told(gateway, kind="subscribe", device="full", topic="4")
        one.send(b"\x30\xa1\x8d\x06")
        last = one.ended()
        assert code_of(last) == 0x95
        assert b"packet_size = 100,000" in last
    (line,) = closed(gateway, address=own, device="full")
    assert "a packet of 100,005 bytes, and packet_size = 100,000" in str(line["reason"])


def test_withdrawn_access(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house
    with join(gateway, "leaver", v5=True) as one:
        in_store(gateway, lambda store: store.devices.set_enabled("leaver", enabled=False))
        last = one.ended()
        assert last[2] == 0x87
        assert reason_string(last) == "The device was disabled."
    told(gateway, kind="session", device="leaver", reason="The device was disabled.")
    explained = why(gateway, "leaver", "publish", "a")
    assert explained["enabled"] is False


@pytest.mark.parametrize(
    ("send", "said"),
    [
        (raw.PINGREQ, "the first packet is not a CONNECT"),
        (b"\x10\xff\xff\xff\x7f", "longer than the 65,536 bytes that may come before authentication"),
        (b"GET / HTTP/1.1\r\n\r\n", "the first packet is not a CONNECT"),
    ],
)
def test_a_peer_without_a_name(house: tuple[Mosquitto, Gateway], send: bytes, said: str) -> None:
    _, gateway = house
    with Device(gateway) as one:
        own = one.address
        one.send(send)
        assert one.ended() == b""
    (line,) = closed(gateway, address=own)
    assert said in str(line["reason"])


def test_on_deny_disconnect_closes_and_says_why(
    mosquitto: Mosquitto, start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway(mosquitto.port, GATEWAY_ON_DENY="disconnect")
    enrol(gateway, thermo="sensor")
    with join(gateway, "thermo") as old:
        old.send(raw.publish("elsewhere", qos=1, packet_id=1))
        assert old.ended() == b""
    told(gateway, kind="publish", device="thermo", topic="elsewhere")
    with join(gateway, "thermo", v5=True) as new:
        assert new.publish("elsewhere") == 0x87
        new.barrier()
