"""What somebody tries at the service topics on a bus: to be answered elsewhere, to ask again, to flood."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.bus_service_client import Caller
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

TOKENS: dict[str, str] = {}
"""By device: asked for before anybody listens to everything."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Gateway]]:
    folder: Path = tmp_path_factory.mktemp("world")
    # Mosquitto 2.1 would not take what is too large, as it comes.
    bus = Mosquitto(folder / "bus", settings="max_packet_size 268435455").start()
    gateway = Gateway(folder / "gateway", bus.port, GATEWAY_BUS_SERVICES="true")
    gateway.write_policy("limits.toml", "service_requests_per_second = 50\n")
    try:
        gateway.start()
        for device in ("svc", "other", "greedy"):
            gateway.add_device(device, "service")
        gateway.add_device("all", "full")
        with Caller(bus.port) as caller:
            wait_until_heard(caller)
            TOKENS.update(
                {device: caller.token(device, secret) for device, secret in gateway.secrets.items()}
            )
        yield bus, gateway
    finally:
        gateway.kill()
        bus.kill()


def wait_until_heard(caller: Caller) -> None:
    for _ in range(100):
        caller.send("gateway/validate", b"{}")
        try:
            caller.hear(0.3)
        except queue.Empty:
            continue
        return
    raise AssertionError("nobody answers")


@pytest.fixture
def caller(world: tuple[Mosquitto, Gateway]) -> Iterator[Caller]:
    """Hears everything on the bus, as anybody there does."""
    with Caller(world[0].port, "#") as one:
        yield one


def answer_of(
    caller: Caller, service: str, request: dict[str, object], **options: object
) -> tuple[str, dict]:
    """Topic and fields of the first message that is not the request itself."""
    heard = caller.ask(service, request, **options)
    assert heard.topic == f"gateway/{service}"
    heard = caller.hear()
    return heard.topic, heard.fields


def silent(caller: Caller) -> bool:
    try:
        caller.hear(0.5)
    except queue.Empty:
        return True
    return False


def test_the_reply_topic_of_somebody_else(world, caller):
    """Nobody has the gateway speak on a topic where another listens and the caller may not."""
    asked = {"token": TOKENS["svc"], "message": 1, "topic": "services/svc/x"}
    foreign = (
        "gateway/reply/other/1",
        "services/other/commands",
        "devices/lamp-1/commands/open",
        "devices/lamp-1/private/pin",
        "gateway/encrypt",
        "gateway/auth",
        "$CONTROL/dynamic-security/v1",
        "$SYS/broker/version",
    )
    for topic in foreign:
        for way in ({"reply_to": topic}, {}):
            options = {} if way else {"response_topic": topic}
            where, answer = answer_of(caller, "encrypt", asked | way, **options)
            assert (where, answer["error"]) == ("gateway/encrypt_response", "reply_not_allowed")
    assert silent(caller)


def test_an_operator_has_no_plaintext_sent_where_it_is_sealed(world, caller):
    """Who may hear a sensitive topic must not have the gateway publish there in plain."""
    request = {
        "token": TOKENS["all"],
        "message": {"encrypted": 1},
        "reply_to": "devices/lamp-1/private/x",
    }
    where, answer = answer_of(caller, "decrypt", request)
    assert (where, answer["error"]) == ("gateway/decrypt_response", "reply_not_allowed")


def test_strangers_choose_no_topic_but_ours(world, caller):
    for topic in (
        "services/svc/x",
        "gateway/encrypt",
        "gateway/other",
        "a/#",
        "gateway/reply/../+",
        "$SYS/x",
    ):
        where, answer = answer_of(caller, "encrypt", {"reply_to": topic, "request_id": topic})
        assert (where, answer["error"]) == ("gateway/encrypt_response", "invalid_token")
    where, _ = answer_of(caller, "encrypt", {"reply_to": "gateway/reply/svc/1"})
    assert where == "gateway/reply/svc/1"


@pytest.mark.parametrize("topic", ["gateway/encrypt", "gateway/validate", "gateway/auth", "gateway/decrypt"])
def test_an_answer_is_never_the_next_request(world, caller, topic):
    token = TOKENS["all"]
    for service in ("encrypt", "validate", "decrypt"):
        request = {"token": token, "reply_to": topic, "message": 1, "topic": "a"}
        where, answer = answer_of(caller, service, request)
        assert (where, answer["error"]) == (f"gateway/{service}_response", "reply_not_allowed")
        where, answer = answer_of(caller, service, request, response_topic=topic)
        assert answer["error"] == "reply_not_allowed"
    assert silent(caller)


def test_a_request_that_somebody_heard_is_sent_again(world, caller):
    request = {
        "token": TOKENS["svc"],
        "message": 1,
        "topic": "services/svc/x",
        "request_id": "heard",
    }
    _, first = answer_of(caller, "encrypt", request)
    assert first["encrypted"] is True
    # As it was, and made to look new where it is not.
    for again in (
        request,
        {"more": 1} | request,
        request | {"message": 2},
        dict(reversed(list(request.items()))),
    ):
        _, answer = answer_of(caller, "encrypt", again)
        assert answer["error"] == "replayed"
    # The id is what was written: nobody gets a second one by another spelling without the token's owner.
    _, answer = answer_of(caller, "decrypt", request | {"message": first})
    assert answer["error"] == "replayed"


def test_a_token_of_another_gateway(world, caller, tmp_path):
    foreign = Gateway(tmp_path / "foreign", None)
    foreign.admin("init")
    foreign.admin("device", "add", "svc", "--role", "service")
    token = json.loads(foreign.admin("token", "issue", "svc", "--json").stdout)["token"]
    _, answer = answer_of(caller, "validate", {"token": token})
    assert (answer["valid"], answer["error"]) == (False, "invalid_token")
    request = {"token": token, "message": 1, "topic": "services/svc/x"}
    _, answer = answer_of(caller, "encrypt", request)
    assert answer["error"] == "invalid_token"


def test_a_caller_over_its_rate_holds_up_nobody(world):
    token, other = TOKENS["greedy"], TOKENS["other"]
    request = json.dumps({"token": token, "message": 1, "topic": "services/greedy/x"}).encode()
    with Caller(world[0].port, "gateway/encrypt_response") as greedy:
        for _ in range(500):
            greedy.send("gateway/encrypt", request, qos=0)
        with Caller(world[0].port) as polite:
            fields = {"token": other, "message": 1, "topic": "services/other/x"}
            answer = polite.ask("encrypt", fields | {"reply_to": "gateway/reply/other/1"})
            while answer.topic != "gateway/reply/other/1":
                answer = polite.hear()
            assert answer.fields["sender"] == "other"
        errors = [greedy.hear().fields.get("error") for _ in range(500)]
    assert set(errors) == {None, "rate_limited"}


def test_tokens_that_are_no_tokens_are_not_all_looked_at(world):
    """A signature costs 100 µs: who floods with new ones is told to wait, and known tokens pass."""
    known = TOKENS["other"]
    with Caller(world[0].port) as one:
        assert one.ask("validate", {"token": known}).fields["valid"] is True
        for number in range(600):
            one.send("gateway/validate", json.dumps({"token": f"{known}{number}"}).encode(), qos=0)
        errors = [one.hear().fields.get("error") for _ in range(600)]
        assert set(errors) <= {"invalid_token", "rate_limited"}
        assert "rate_limited" in errors
        assert one.ask("validate", {"token": known}).fields["valid"] is True


def test_a_flood_of_refusals_costs_few_lines(world):
    gateway = world[1]
    before = len(gateway.log_lines())
    with Caller(world[0].port) as one:
        for _ in range(2_000):
            one.send("gateway/encrypt", b'{"token":', qos=0)
        for _ in range(2_000):
            assert one.hear().fields["error"] == "invalid_request"
    assert len(gateway.log_lines()) - before < 500


def test_what_is_too_large_is_answered_and_not_held(world):
    before = world[1].memory()
    request = b'{"message":"' + b"x" * 40_000_000 + b'"}'
    with Caller(world[0].port) as one:
        for _ in range(5):
            answer = one.ask("encrypt", request)
            assert answer.fields["error"] == "too_large"
    assert world[1].memory() - before < 40_000_000


def test_a_destroyed_key_takes_what_it_sealed_with_it(world, caller):
    gateway = world[1]
    token = TOKENS["other"]
    _, sealed = answer_of(caller, "encrypt", {"token": token, "message": 1, "topic": "services/other/x"})
    rotated = json.loads(gateway.admin("keys", "rotate", "--json").stdout)
    gateway.admin("keys", "destroy", sealed["key_id"], "--yes")
    deadline = time.monotonic() + 10  # a running gateway looks for it a few times a second, asked or not
    while time.monotonic() < deadline:
        _, answer = answer_of(caller, "decrypt", {"token": token, "message": sealed})
        if "error" in answer:
            break
        time.sleep(0.05)
    assert answer["error"] == "decrypt_failed"
    assert rotated
    _, new = answer_of(caller, "encrypt", {"token": token, "message": 1, "topic": "services/other/x"})
    assert new["key_id"] != sealed["key_id"]
