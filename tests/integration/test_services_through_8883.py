"""The service topics as a service's author meets them: paho-mqtt through 8883, both versions.

All the while somebody is subscribed to everything on the bus: nothing of this may appear there.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import time
from collections.abc import Iterator
from typing import Self

import paho.mqtt.client as paho
import pytest
from harness import raw
from harness.device import Device
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from harness.receivers import wait_until
from harness.reference_parser import properties
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE = 10.0
SECRET_TOPIC = "devices/lamp-1/private/pin"
World = tuple[Mosquitto, Gateway]
both_versions = pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5], ids=["3.1.1", "5"])
every_qos = pytest.mark.parametrize("qos", [0, 1, 2])
METHOD = b"\x15" + raw.text("gateway-jwt")


class Caller:
    """A paho client that asks and waits for the answer."""

    def __init__(self, gateway: Gateway, name: str, password: str, version: int = paho.MQTTv311) -> None:
        self.name, self.version = name, version
        self.answers: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.ended: queue.Queue[object] = queue.Queue()
        self._connected: queue.Queue[object] = queue.Queue()
        self._subscribed: queue.Queue[list[object]] = queue.Queue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, "caller", protocol=version)
        self.client.tls_set(str(gateway.ca))
        self.client.username_pw_set(name, password)
        self.client.on_connect = lambda *words: self._connected.put(words[3])
        self.client.on_disconnect = lambda *words: self.ended.put(words[3])
        self.client.on_message = lambda _client, _userdata, message: self.answers.put(message)
        self.client.on_subscribe = lambda _client, _userdata, _mid, codes, _props: self._subscribed.put(codes)
        self.client.connect("localhost", gateway.port)
        self.client.loop_start()
        self.code = self._connected.get(timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, topic: str) -> None:
        self.client.subscribe(topic, 1)
        assert [getattr(code, "value", code) for code in self._subscribed.get(timeout=PATIENCE)] == [1]

    def ask(self, service: str, request: object, qos: int = 0) -> dict[str, object]:
        """The 3.1.1 way: the answer comes on `<request topic>_response`."""
        payload = request if isinstance(request, bytes) else json.dumps(request)
        self.client.publish(f"gateway/{service}", payload, qos).wait_for_publish(PATIENCE)
        message = self.answers.get(timeout=PATIENCE)
        assert message.topic == f"gateway/{service}_response"
        return json.loads(message.payload)


@pytest.fixture(scope="module")
def house(world: World) -> Iterator[World]:
    """With a watcher on the bus, who must have heard nothing of it at the end."""
    bus, gateway = world
    gateway.add_device("svc")
    heard: list[str] = []
    watcher = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    watcher.on_message = lambda _client, _userdata, message: heard.append(message.topic)
    seen: queue.Queue[object] = queue.Queue()
    watcher.on_subscribe = lambda *_: seen.put(True)
    watcher.connect("127.0.0.1", bus.port)
    watcher.loop_start()
    watcher.subscribe("#")
    seen.get(timeout=PATIENCE)
    yield world
    # What is published last is heard last.
    watcher.publish("the/end", qos=1)
    deadline = time.monotonic() + PATIENCE
    while "the/end" not in heard:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    watcher.disconnect()
    watcher.loop_stop()
    # What the tests themselves published; and the gateway asks the bus now and then whether it serves.
    assert {topic for topic in heard if not topic.startswith("gateway/check/")} <= {"a/b", "the/end"}
    # Nor did Mosquitto see a subscription to any of it.
    others = [line for line in bus.log.read_text().splitlines() if "~gateway/" not in line]
    assert "gateway/" not in "\n".join(others).replace("gateway/check/", "")


@both_versions
@every_qos
def test_encrypt_and_decrypt(house: World, version: int, qos: int) -> None:
    gateway = house[1]
    with Caller(gateway, "svc", gateway.secrets["svc"], version) as caller:
        caller.subscribe("gateway/encrypt_response")
        caller.subscribe("gateway/decrypt_response")
        request = {
            "message": {"pin": "1234", "n": [1, 2.5, None]},
            "topic": SECRET_TOPIC,
            "request_id": "r-1",
        }
        sealed = caller.ask("encrypt", request, qos)
        assert list(sealed)[:4] == ["encrypted", "algorithm", "key_id", "data"]
        assert sealed["encrypted"] is True
        assert sealed["request_id"] == "r-1"
        assert (sealed["topic"], sealed["sender"]) == (SECRET_TOPIC, "svc")
        assert "1234" not in json.dumps(sealed)
        opened = caller.ask("decrypt", {"message": sealed, "request_id": 7}, qos)
        assert opened == {
            "success": True,
            "message": request["message"],
            "topic": SECRET_TOPIC,
            "sender": "svc",
            "timestamp": sealed["timestamp"],
            "request_id": 7,
        }


@both_versions
def test_binary_payloads_up_to_the_packet_limit(house: World, version: int) -> None:
    # By hand: paho 2.2 lets a packet that is whole after just a hundred reads wait for the next one.
    gateway = house[1]
    with Device(gateway, v5=version == paho.MQTTv5) as device:

        def ask(service: str, request: object) -> dict[str, object]:
            device.publish(f"gateway/{service}", json.dumps(request).encode())
            return json.loads(device.message().payload)

        connack = device.connect(username="svc", password=gateway.secrets["svc"])
        told = dict(properties(connack, 4)[0]) if version == paho.MQTTv5 else {}
        most = int.from_bytes(told.get(0x27, b"\xff\xff\xff"), "big")
        # As base64, twice, in the sealed message.
        binary = os.urandom(min(5_000_000, (most - 1_000) * 9 // 16))
        sealed = ask("encrypt", {"data": base64.b64encode(binary).decode(), "topic": "a/b"})
        opened = ask("decrypt", {"message": sealed})
        assert base64.b64decode(str(opened["data"])) == binary


def test_requests_that_come_at_once_are_answered_in_order_and_before_the_end(house: World) -> None:
    gateway = house[1]
    with Device(gateway, v5=True) as device:
        device.connect(username="svc", password=gateway.secrets["svc"])
        requests = [{"topic": "a/b", "message": n, "request_id": n} for n in range(40)]
        packets = [raw.publish("gateway/encrypt", json.dumps(one).encode(), v5=True) for one in requests]
        goodbye = b"\xe0\x00"
        device.send(b"".join(packets) + goodbye)
        assert [json.loads(device.message().payload)["request_id"] for _ in requests] == list(range(40))
        assert device.read() == b""


@both_versions
def test_the_common_message(house: World, version: int) -> None:
    gateway = house[1]
    with Caller(gateway, "svc", gateway.secrets["svc"], version) as caller:
        wrapped = {
            "message_id": "m-1",
            "source": "intent-service",
            "destination": "gateway",
            "message_type": "request",
            "payload": {"message": "hello", "topic": "a/b"},
        }
        answer = caller.ask("encrypt", wrapped)
        assert set(answer) == set(wrapped)
        assert answer["destination"] == "intent-service"
        sealed = answer["payload"]
        assert sealed["request_id"] == "m-1"
        opened = caller.ask("decrypt", {**wrapped, "payload": {"message": sealed}})["payload"]
        assert (opened["success"], opened["message"]) == (True, "hello")


def test_response_topic_and_correlation_data(house: World) -> None:
    gateway = house[1]
    with Caller(gateway, "svc", gateway.secrets["svc"], paho.MQTTv5) as caller:
        caller.subscribe("gateway/reply/svc/#")
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = "gateway/reply/svc/17"
        properties.CorrelationData = b"\x00\xff"
        caller.client.publish("gateway/encrypt", b'{"message": 1, "topic": "a"}', properties=properties)
        answer = caller.answers.get(timeout=PATIENCE)
        assert answer.topic == "gateway/reply/svc/17"
        assert answer.properties.CorrelationData == b"\x00\xff"
        assert json.loads(answer.payload)["encrypted"] is True


@both_versions
def test_reply_to_in_the_request(house: World, version: int) -> None:
    gateway = house[1]
    with Caller(gateway, "svc", gateway.secrets["svc"], version) as caller:
        request = {"message": 1, "topic": "a", "reply_to": "gateway/reply/svc/x"}
        caller.client.publish("gateway/encrypt", json.dumps(request))
        assert caller.answers.get(timeout=PATIENCE).topic == "gateway/reply/svc/x"
        # Somebody else's: the answer says so, where it may be.
        answer = caller.ask("encrypt", {**request, "reply_to": "gateway/reply/lamp-1/x"})
        assert (answer["success"], answer["error"]) == (False, "reply_not_allowed")


@both_versions
def test_a_token_for_the_next_time(house: World, version: int) -> None:
    gateway = house[1]
    with Caller(gateway, "svc", gateway.secrets["svc"], version) as caller:
        answer = caller.ask("auth", {})
        assert answer["success"] is True
        assert abs(answer["expires_at"] - answer["timestamp"] - 86_400_000) < 5_000
        assert set(answer["permissions"]) == {"publish", "subscribe", "encrypt", "decrypt"}
        validated = caller.ask("validate", {"token": answer["token"]})
        assert (validated["valid"], validated["device_id"]) == (True, "svc")
        assert validated["permissions"] == answer["permissions"]
        assert caller.ask("validate", {"token": changed(answer["token"])})["valid"] is False
    hashed = metric(gateway, "gateway_logins_verified_total")
    for name in ("svc", ""):
        with Caller(gateway, name, answer["token"], version) as again:
            assert getattr(again.code, "value", again.code) == 0
            assert again.ask("encrypt", {"message": 1, "topic": "a"})["sender"] == "svc"
    # No Argon2 was run for them.
    assert metric(gateway, "gateway_logins_verified_total") == hashed


@both_versions
def test_whatever_is_sent_gets_an_answer(house: World, version: int) -> None:
    gateway = house[1]
    with Caller(gateway, "svc", gateway.secrets["svc"], version) as caller:
        for service in ("encrypt", "decrypt", "validate"):
            for payload in (
                b"",
                b"\xff\x00",
                b"[" * 100_000,
                b"{}",
                b'{"message": 1}',
                b'{"token": 5}',
                b"null",
            ):
                answer = caller.ask(service, payload)
                assert answer.get("success", answer.get("valid")) is False, (service, payload[:20])
                assert answer["error"] in {"invalid_request", "invalid_token", "decrypt_failed"}


def changed(token: str) -> str:
    """With another signature."""
    at = len(token) - 40
    return token[:at] + ("B" if token[at] == "A" else "A") + token[at + 1 :]


def metric(gateway: Gateway, name: str) -> float:
    for line in gateway.health("/metrics")[1].splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def test_the_first_keys_are_told(house: World) -> None:
    def told() -> list[str]:
        return [line["reason"] for line in house[1].log_lines() if line.get("kind") == "key"]

    wait_until(lambda: len(told()) >= 4)
    assert told()[:4] == [
        "the first sealing key to be made",
        "the first sealing key made",
        "the first signing key to be made",
        "the first signing key made",
    ]


# A session and its token


def token_for(gateway: Gateway, device: str, *words: str) -> str:
    return json.loads(gateway.admin("token", "issue", device, "--json", *words).stdout)["token"]


@pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
def test_the_session_ends_with_its_token(house: World, v5: bool) -> None:
    gateway = house[1]
    with Device(gateway, v5=v5) as device:
        connack = device.connect(username="", password=token_for(gateway, "svc", "--ttl", "5s"))
        assert connack[3] == 0
        end = device.read(timeout=PATIENCE)
        if v5:
            assert end[0] == 0xE0
            assert end[2] == 0x87
            assert b"expired" in end
            end = device.read(timeout=PATIENCE)
        assert end == b""


def test_a_token_is_renewed_without_reconnecting(house: World) -> None:
    gateway = house[1]
    long, short = token_for(gateway, "svc"), token_for(gateway, "svc", "--ttl", "5s")
    with Device(gateway, v5=True) as device:
        connack = device.connect(client_id="renew", props=METHOD + b"\x16" + raw.text(short))
        assert connack[3] == 0
        assert METHOD in connack
        device.send(raw.packet(0xF0, b"\x19" + raw.properties(METHOD + b"\x16" + raw.text(long))))
        assert device.read() == raw.packet(0xF0, b"\x00" + raw.properties(METHOD))
        until = time.monotonic() + 6.5
        while time.monotonic() < until:
            assert device.publish("a/b", b"x") == 0
            time.sleep(0.2)


@pytest.mark.parametrize("another", ["bad", "of another device"])
def test_a_renewal_that_fails_ends_the_session(house: World, another: str) -> None:
    gateway = house[1]
    if "other" not in gateway.secrets:
        gateway.add_device("other")
    good = token_for(gateway, "svc")
    wrong = token_for(gateway, "other") if another == "of another device" else changed(good)
    with Device(gateway, v5=True) as device:
        assert device.connect(props=METHOD + b"\x16" + raw.text(good))[3] == 0
        device.send(raw.packet(0xF0, b"\x19" + raw.properties(METHOD + b"\x16" + raw.text(wrong))))
        end = device.read()
        assert (end[0], end[2]) == (0xE0, 0x87)
        assert device.read() == b""


@pytest.mark.parametrize("how", ["by id", "by device", "the first of its chain"])
def test_revoking_ends_the_session_and_the_token(house: World, how: str) -> None:
    gateway = house[1]
    with Caller(gateway, "svc", gateway.secrets["svc"]) as caller:
        first = token = caller.ask("auth", {})["token"]
    if how == "the first of its chain":
        with Caller(gateway, "", first) as caller:
            token = caller.ask("auth", {})["token"]
    assert token_id(token) != token_id(first) or how != "the first of its chain"
    with Device(gateway, v5=True) as device:
        assert device.connect(client_id="revoked", username="", password=token)[3] == 0
        gone = ["--device", "svc"] if how == "by device" else [wait_until_listed(gateway, token_id(first))]
        gateway.admin("token", "revoke", *gone)
        end = device.read(timeout=PATIENCE)
        assert (end[0], end[2]) == (0xE0, 0x87)
    with Device(gateway, v5=True) as device:
        assert device.connect(username="svc", password=token)[3] == 0x87
    # A token that is issued right after is good.
    with Device(gateway, v5=True) as device:
        assert device.connect(username="svc", password=token_for(gateway, "svc"))[3] == 0


def wait_until_listed(gateway: Gateway, jti: str) -> str:
    """Issued tokens are recorded within a second."""
    deadline = time.monotonic() + PATIENCE
    while jti not in gateway.admin("token", "list", "--json").stdout:
        assert time.monotonic() < deadline
    return jti


def token_id(token: str) -> str:
    body = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["jti"])


def test_what_a_narrower_token_may(house: World) -> None:
    gateway = house[1]
    token = token_for(gateway, "svc", "--publish", "a/+", "--encrypt", "a/b")
    with Device(gateway, v5=True) as device:
        assert device.connect(username="svc", password=token)[3] == 0
        assert device.publish("a/b", b"x") in {0, 0x10}
        assert device.publish("a/b/c", b"x") == 0x87
        assert device.subscribe("a/b") == [0x87]
    with Caller(gateway, "svc", token) as caller:
        assert caller.ask("encrypt", {"message": 1, "topic": "a/b"})["encrypted"] is True
        assert caller.ask("encrypt", {"message": 1, "topic": "a/c"})["error"] == "not_authorized"
        # Nor does it buy more than itself.
        assert caller.ask("auth", {})["permissions"] == {
            "publish": ["a/+"],
            "subscribe": [],
            "encrypt": ["a/b"],
            "decrypt": [],
        }
