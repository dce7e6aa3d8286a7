"""Services straight on the bus: what their authors do, with paho-mqtt in both versions."""

from __future__ import annotations

import base64
import json
import queue
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.bus_service_client import Caller
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
LIMITS = "packet_size = 1_000_000\nservice_requests_per_second = 300\n"


def wait_for_services(gateway: Gateway, *, up: bool = True) -> None:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        check = json.loads(gateway.health("/health")[1])["checks"].get("services", {})
        if check.get("ok") is up:
            return
        time.sleep(0.03)
    raise AssertionError(f"the services are not {'up' if up else 'down'}: {check}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Gateway]]:
    folder = tmp_path_factory.mktemp("world")
    bus = Mosquitto(folder / "bus").start()
    gateway = Gateway(folder / "gateway", bus.port, GATEWAY_BUS_SERVICES="true")
    gateway.write_policy("limits.toml", LIMITS)
    try:
        gateway.start()
        gateway.add_device("svc", "full")
        gateway.add_device("corner", "service")
        wait_for_services(gateway)
        yield bus, gateway
    finally:
        gateway.kill()
        bus.kill()


@pytest.fixture
def make_caller(world: tuple[Mosquitto, Gateway]) -> Iterator[Callable[..., Caller]]:
    callers: list[Caller] = []

    def make(*filters: str, v5: bool = True) -> Caller:
        callers.append(Caller(world[0].port, *filters, v5=v5))
        return callers[-1]

    yield make
    for caller in callers:
        caller.__exit__()


@both
def test_a_service_gets_a_token_seals_and_opens(world, make_caller, v5):
    _, gateway = world
    caller = make_caller(v5=v5)
    given = caller.ask(
        "auth", {"device_id": "svc", "credentials": {"secret": gateway.secrets["svc"]}, "request_id": "r-1"}
    )
    answer = given.fields
    assert (given.topic, given.qos, given.retain) == ("gateway/auth_response", 0, False)
    assert list(answer) == ["success", "token", "permissions", "expires_at", "timestamp", "request_id"]
    assert (answer["success"], answer["request_id"]) == (True, "r-1")
    assert answer["permissions"]["decrypt"] == ["#", "$SYS/#"]
    assert answer["expires_at"] - answer["timestamp"] > 86_000_000
    token = answer["token"]

    valid = caller.ask("validate", {"token": token}).fields
    assert (valid["valid"], valid["device_id"], valid["expires_at"]) == (True, "svc", answer["expires_at"])

    message = {"pin": 4711, "who": ["é", None, 1.50]}
    sealed = caller.ask("encrypt", {"token": token, "message": message, "topic": "vault/1", "request_id": 7})
    envelope = sealed.fields
    assert {"encrypted", "data", "algorithm", "timestamp"} <= envelope.keys()
    assert (envelope["encrypted"], envelope["algorithm"]) == (True, "AES-256-GCM")
    assert (envelope["topic"], envelope["sender"], envelope["request_id"]) == ("vault/1", "svc", 7)
    opened = caller.ask("decrypt", {"token": token, "message": envelope}).fields
    assert opened == {
        "success": True,
        "message": message,
        "topic": "vault/1",
        "sender": "svc",
        "timestamp": envelope["timestamp"],
    }


@both
def test_bytes_and_the_common_message(world, make_caller, v5):
    caller = make_caller(v5=v5)
    token = caller.token("svc", world[1].secrets["svc"])
    data = bytes(range(256))

    def wrapped(kind: str, payload: dict[str, object]) -> dict[str, object]:
        return {
            "message_id": str(uuid.uuid4()),
            "source": "rules",
            "destination": "gateway",
            "message_type": f"{kind}_request",
            "payload": {"token": token} | payload,
        }

    request = wrapped("encrypt", {"data": base64.b64encode(data).decode(), "topic": "vault/2"})
    answer = caller.ask("encrypt", request).fields
    assert uuid.UUID(answer["message_id"])
    assert (answer["source"], answer["destination"]) == ("gateway", "rules")
    assert answer["message_type"] == "encrypt_response"
    assert answer["payload"]["request_id"] == request["message_id"]
    opened = caller.ask("decrypt", wrapped("decrypt", {"message": answer["payload"]})).fields["payload"]
    assert base64.b64decode(opened["data"]) == data


def test_the_answer_comes_to_the_response_topic_with_its_correlation_data(world, make_caller):
    caller = make_caller("gateway/reply/svc/#", "devices/x/answers", v5=True)
    with Caller(world[0].port, v5=True) as other:
        token = other.token("svc", world[1].secrets["svc"])
    request = {"token": token, "message": 1, "topic": "vault/1", "reply_to": "gateway/reply/svc/unused"}
    heard = caller.ask(
        "encrypt", request, response_topic="gateway/reply/svc/7", correlation=b"\0\xff\0", user=(("a", "b"),)
    )
    assert (heard.topic, heard.correlation) == ("gateway/reply/svc/7", b"\0\xff\0")
    assert heard.fields["encrypted"] is True
    heard = caller.ask("encrypt", request, response_topic="devices/x/answers")
    assert (heard.topic, heard.correlation) == ("devices/x/answers", None)
    assert caller.ask("encrypt", request).topic == "gateway/reply/svc/unused"


@both
def test_what_is_wrong_is_answered(world, make_caller, v5):
    caller = make_caller(v5=v5)
    token = caller.token("corner", world[1].secrets["corner"])
    asked = {"token": token, "message": 1, "topic": "services/corner/x"}
    wrong = {
        "invalid_request": [
            b"{",
            b"",
            b'{"message":' + b"[" * 200_000,
            b"\xff\xfe",
            {"token": token, "topic": "a"},
        ],
        "invalid_token": [
            {"message": 1, "topic": "a"},
            asked | {"token": "x"},
            asked | {"token": token[:-1]},
            asked | {"token": "eyJhbGciOiJub25lIn0.e30."},
        ],
        "not_authorized": [asked | {"topic": "services/other/x"}],
        "reply_not_allowed": [
            asked | {"reply_to": "devices/x/commands/go"},
            asked | {"reply_to": "gateway/encrypt"},
            asked | {"reply_to": "gateway/reply/svc/1"},
        ],
    }
    for code, requests in wrong.items():
        for request in requests:
            expected = "invalid_token" if request == b"" else code
            heard = caller.ask("encrypt", request)
            assert (heard.topic, heard.fields["error"]) == ("gateway/encrypt_response", expected)
            assert heard.fields["success"] is False
            assert heard.fields["message"]
    assert (
        caller.ask("decrypt", {"token": token, "message": {"encrypted": True}}).fields["error"]
        == "decrypt_failed"
    )
    for answer in (caller.ask("validate", {"token": "x"}), caller.ask("validate", b"[]")):
        assert answer.fields["valid"] is False


@both
def test_a_request_is_answered_once(world, make_caller, v5):
    caller = make_caller(v5=v5)
    token = caller.token("svc", world[1].secrets["svc"])
    request = {"token": token, "message": 1, "topic": "vault/1", "request_id": f"once-{v5}"}
    assert "error" not in caller.ask("encrypt", request).fields
    for again in (request, request | {"message": 2}, request | {"topic": "vault/2"}):
        answer = caller.ask("encrypt", again).fields
        assert (answer["error"], answer["request_id"]) == ("replayed", f"once-{v5}")
    assert "error" not in caller.ask("encrypt", request | {"request_id": f"twice-{v5}"}).fields
    # With another token it is another request.
    other = caller.token("svc", world[1].secrets["svc"])
    assert "error" not in caller.ask("encrypt", request | {"token": other}).fields


@both
def test_the_longest_request_and_one_that_is_too_long(world, make_caller, v5):
    caller = make_caller(v5=v5)
    token = caller.token("svc", world[1].secrets["svc"])
    long = caller.ask("encrypt", {"token": token, "message": "x" * 990_000, "topic": "vault/1"}).fields
    assert len(base64.b64decode(long["data"])) == 990_002 + 28
    over = {"token": token, "message": "x" * 1_000_000, "topic": "vault/1"}
    answer = caller.ask("encrypt", over)
    assert (answer.topic, answer.fields["error"]) == ("gateway/encrypt_response", "too_large")
    if v5:
        back = {"response_topic": "gateway/reply/svc/big", "correlation": b"c"}
        answer = caller.ask("encrypt", over, **back)
        assert (answer.topic, answer.correlation) == ("gateway/reply/svc/big", b"c")
        # To a stranger's wish nothing is published anywhere else.
        assert caller.ask("encrypt", over, response_topic="vault/1").topic == "gateway/encrypt_response"
    # What follows it is read as what it is.
    assert caller.ask("validate", {"token": token}).fields["valid"] is True


def test_an_answer_that_the_bus_does_not_take_costs_only_itself(tmp_path: Path, start_gateway):
    bus = Mosquitto(tmp_path / "bus", settings="max_packet_size 2000").start()
    try:
        gateway = start_gateway(bus.port, GATEWAY_BUS_SERVICES="true")
        wait_for_services(gateway)
        with Caller(bus.port) as caller:
            # A stranger's: with so much Correlation Data given back no answer fits.
            heard = caller.ask("decrypt", {"token": "x"}, correlation=b"c" * 1_900)
            assert (heard.topic, heard.correlation) == ("gateway/decrypt_response", None)
            assert heard.fields["error"] == "too_large"
            assert caller.ask("validate", {"token": "x"}).fields["valid"] is False
        assert "bus unavailable" not in gateway.log_text()
    finally:
        bus.kill()


@both
def test_wrong_secrets_learn_nothing(world, make_caller, v5):
    caller = make_caller(v5=v5)
    answers = []
    for device, secret in (("svc", "wrong"), ("nobody", "wrong"), ("a/b", "wrong"), ("svc", "eyJ.e.e")):
        answer = caller.ask("auth", {"device_id": device, "credentials": {"secret": secret}}).fields
        answers.append({name: value for name, value in answer.items() if name != "timestamp"})
    assert answers == [{"success": False, "message": "Invalid credentials", "error": "not_accepted"}] * 4
    for request in ({}, {"device_id": "svc"}, {"device_id": "svc", "credentials": {}}, {"credentials": "x"}):
        assert caller.ask("auth", request).fields["error"] == "invalid_request"


def test_a_token_is_a_way_to_another_token(world, make_caller):
    caller = make_caller()
    token = caller.token("svc", world[1].secrets["svc"])
    answer = caller.ask("auth", {"device_id": "svc", "credentials": {"secret": token}}).fields
    assert answer["success"] is True
    assert answer["token"] != token


def test_a_revoked_token_opens_nothing(world, make_caller):
    caller = make_caller()
    token = caller.token("corner", world[1].secrets["corner"])
    assert caller.ask("validate", {"token": token}).fields["valid"] is True
    world[1].admin("token", "revoke", "--device", "corner")
    deadline = time.monotonic() + 5
    while (answer := caller.ask("validate", {"token": token}).fields)[
        "valid"
    ] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert answer["error"] == "token_revoked"
    request = {"token": token, "message": 1, "topic": "services/corner/x"}
    assert caller.ask("encrypt", request).fields["error"] == "token_revoked"


def test_a_caller_over_its_rate_hears_so(world, make_caller):
    caller = make_caller()
    token = caller.token("svc", world[1].secrets["svc"])
    request = json.dumps({"token": token, "message": 1, "topic": "vault/1"}).encode()
    for _ in range(1_200):
        caller.send("gateway/encrypt", request, qos=0)
    errors = [caller.hear().fields.get("error") for _ in range(1_200)]
    assert set(errors) == {None, "rate_limited"}
    assert errors.count(None) >= 300
    # Nobody else is held up by it.
    other = caller.token("corner", world[1].secrets["corner"])
    assert caller.ask("validate", {"token": other}).fields["valid"] is True


def test_a_retained_request_is_not_answered_at_each_reconnect(mosquitto, start_gateway):
    with Caller(mosquitto.port) as caller:
        caller.send("gateway/validate", b'{"token":"x"}', retain=True)
        gateway = start_gateway(mosquitto.port, GATEWAY_BUS_SERVICES="true")
        wait_for_services(gateway)
        with pytest.raises(queue.Empty):
            caller.hear(0.5)
        # A live one is, whatever flag it has.
        caller.send("gateway/validate", b'{"token":"x"}', retain=True)
        assert caller.hear().fields["valid"] is False


@pytest.mark.parametrize("v5", [True])
def test_the_services_come_back_with_the_bus(tmp_path: Path, start_gateway, v5):
    bus = Mosquitto(tmp_path / "bus").start()
    try:
        gateway = start_gateway(bus.port, GATEWAY_BUS_SERVICES="true")
        gateway.add_device("svc", "full")
        wait_for_services(gateway)
        bus.kill()
        wait_for_services(gateway, up=False)
        bus.start()
        wait_for_services(gateway)
        with Caller(bus.port, v5=v5) as caller:
            assert caller.token("svc", gateway.secrets["svc"])
    finally:
        bus.kill()


def test_the_embedded_bus_has_them_too(start_gateway):
    gateway = start_gateway(None, GATEWAY_BUS_SERVICES="true")
    gateway.add_device("svc", "full")
    wait_for_services(gateway)
    detail = json.loads(gateway.health("/health")[1])["checks"]["services"]["detail"]
    assert detail.endswith("MQTT 3.1.1")


def test_without_the_setting_nobody_listens(mosquitto, start_gateway):
    gateway = start_gateway(mosquitto.port)
    with Caller(mosquitto.port) as caller:
        caller.send("gateway/validate", b'{"token":"x"}')
        with pytest.raises(queue.Empty):
            caller.hear(0.5)
    assert "services" not in json.loads(gateway.health("/health")[1])["checks"]


def test_the_log_says_who_reads_along_and_shows_nothing_of_it(world, make_caller):
    _, gateway = world
    caller = make_caller()
    secret = gateway.secrets["svc"]
    token = caller.token("svc", secret)
    caller.ask("encrypt", {"token": token, "message": "planted-plaintext", "topic": "vault/1"})
    caller.ask("auth", {"device_id": "svc", "credentials": {"secret": "planted-secret"}, "request_id": "r-9"})
    caller.ask("decrypt", {"token": token, "message": {"planted-key": 1}})
    (warning,) = [line for line in gateway.log_lines() if line["event"] == "services on the bus"]
    assert warning["level"] == "warning"
    assert "reads" in str(warning["reason"])
    refused = [line for line in gateway.log_lines() if line.get("request_id") == "r-9"]
    assert [(line["kind"], line["outcome"], line["device"], line["address"]) for line in refused] == [
        ("service", "refused", "svc", "bus")
    ]
    text = gateway.log_text()
    for hidden in ("planted", secret, token):
        assert hidden not in text
