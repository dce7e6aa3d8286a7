"""The services on a real bus, inside this process: what a whole gateway can't be brought to."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from harness.mosquitto import Mosquitto
from harness.request_handler import SECRET, Counter

from gateway.auth.claimed_name_redaction import ClaimedNames
from gateway.auth.login import Login
from gateway.auth.login_gate import LoginGate
from gateway.auth.passwords import PasswordPool, VerifiedSecrets
from gateway.bus_client.connect import connect
from gateway.bus_client.connection import Account
from gateway.mqtt.packets import Subscription
from gateway.net.bus_endpoint import Bus
from gateway.net.tasks import Tasks
from gateway.observe.audit_dispatch import Audit
from gateway.policy.engine.limits import Limits
from gateway.services import direct_bus_requests
from gateway.services.direct_bus_requests import BusServices


class House:
    """A request handler with its services on the bus, and somebody who asks."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.pool = PasswordPool()
        login = Login(
            counter.devices,
            self.pool,
            VerifiedSecrets(),
            counter.tokens,
            limits=Limits(login_failures_per_minute=2),
            rehash=lambda *_: None,
        )
        names, counters = ClaimedNames(counter.devices), counter.context.counters
        self.logins_told = []
        self.login = LoginGate(
            login, names, counters, lambda *told: self.logins_told.append(told), lambda *_: None
        )
        self.told = []
        self.answers: asyncio.Queue[tuple[str, dict]] = asyncio.Queue()

    async def send(self, service: str, **fields: object) -> None:
        await self.caller.publish(f"gateway/{service}", json.dumps(fields).encode(), retain=False)

    async def ask(self, service: str, **fields: object) -> dict:
        await self.send(service, **fields)
        return await self.hear()

    async def hear(self) -> dict:
        async with asyncio.timeout(15):
            return (await self.answers.get())[1]

    async def log_in(self, device_id: str, secret: str) -> dict:
        return await self.ask("auth", device_id=device_id, credentials={"secret": secret})


@asynccontextmanager
async def open_house(port: int, counter: Counter | None = None):
    house = House(counter or Counter())
    counter, bus, tasks = house.counter, Bus("127.0.0.1", port), Tasks()
    services = BusServices(
        counter.context,
        bus,
        request_handler=counter.request_handler,
        bearer_cache=counter.bearer_cache,
        login=house.login,
        audit=Audit(counter.context.counters, house.told.append),
        tasks=tasks,
        prefix="gateway",
    )
    running = tasks.start(services.run())

    def take(_connection, delivery) -> None:
        house.answers.put_nowait((delivery.topic, json.loads(delivery.payload)))

    house.caller = await connect(bus, Account("/test/caller", None, None), take, max_size=10_000_000)
    names = ("auth", "validate", "encrypt", "decrypt")
    await house.caller.subscribe([Subscription(f"gateway/{name}_response".encode(), 0) for name in names])
    try:
        async with asyncio.timeout(15):
            while not services.check()[0]:
                assert not running.done()
                await asyncio.sleep(0.01)
        yield house
    finally:
        house.caller.close()
        await tasks.stop()
        house.pool.close()


async def test_what_a_bus_of_3_1_1_retains_is_no_request(mosquitto):
    early = await connect(Bus("127.0.0.1", mosquitto.port), Account("/t/1", None, None), None, max_size=1_000)
    await early.publish("gateway/validate", b'{"token":"x"}', retain=True)
    early.close()
    counter = Counter()
    counter.context.bus_speaks_v5 = False
    async with open_house(mosquitto.port, counter) as house:
        answer = await house.ask("validate", token="y", request_id="live")
        assert answer["request_id"] == "live"
        assert house.answers.empty()
        assert counter.context.counters.service_requests.total() == 1


async def test_an_answer_that_the_bus_does_not_take(tmp_path):
    bus = Mosquitto(tmp_path / "bus", settings="max_packet_size 4000").start()
    try:
        async with open_house(bus.port) as house:
            token = house.counter.token()
            answer = await house.ask("encrypt", token=token, message="x" * 2_900, topic="a", request_id="r")
            assert (answer["error"], answer["request_id"]) == ("too_large", "r")
            assert "error" not in await house.ask("encrypt", token=token, message="x" * 100, topic="a")
    finally:
        bus.kill()


async def test_more_logins_than_can_be_looked_at(mosquitto, monkeypatch):
    monkeypatch.setattr(direct_bus_requests, "_LOGINS_MAX", 2)
    async with open_house(mosquitto.port) as house:
        threads, house.pool._slots = house.pool._slots, 0
        for _ in range(3):
            await house.send("auth", device_id="svc", credentials={"secret": SECRET})
        assert (await house.hear())["error"] == "rate_limited"
        house.pool._slots = threads
        house.pool._give_slots()
        assert [(await house.hear())["success"] for _ in range(2)] == [True, True]
        # Those are done, and there is room again.
        assert (await house.log_in("other", SECRET))["success"] is True
        counters = house.counter.context.counters
        assert (counters.logins_verified, counters.logins_remembered) == (3, 0)
        # Known now: without a hash.
        assert (await house.log_in("svc", SECRET))["success"] is True
        assert counters.logins_remembered == 1


async def test_why_nobody_can_log_in_now(mosquitto):
    async with open_house(mosquitto.port) as house:
        for _ in range(2):
            assert (await house.log_in("svc", "wrong"))["error"] == "not_accepted"
        assert (await house.log_in("svc", "wrong"))["error"] == "rate_limited"

        house.pool._slots, house.pool._patience = 0, 0.01
        assert (await house.log_in("other", SECRET))["error"] == "unavailable"
        house.counter.devices.available = False
        assert (await house.log_in("other", SECRET))["error"] == "unavailable"
        assert house.counter.context.counters.logins_refused == 5
        assert house.logins_told == [], "each is told once: as a call that was refused"
    assert [(event.device, event.reason) for event in house.told][:3] == [
        ("svc", "not_accepted: wrong secret"),
        ("svc", "not_accepted: wrong secret"),
        ("svc", "rate_limited: throttled after too many wrong logins"),
    ]


async def test_a_disabled_device_learns_nothing_more_than_a_wrong_secret(mosquitto):
    async with open_house(mosquitto.port) as house:
        devices = house.counter.devices.devices
        devices["other"] = replace(devices["other"], enabled=False)
        answers = [await house.log_in(*words) for words in (("other", SECRET), ("svc", "x"), ("gone", "x"))]
        assert [answer["message"] for answer in answers] == ["Invalid credentials"] * 3
        assert {answer["error"] for answer in answers} == {"not_accepted"}


async def test_a_secret_longer_than_any_is_not_hashed(mosquitto, monkeypatch):
    async with open_house(mosquitto.port) as house:
        monkeypatch.setattr(house.pool, "slot", None)
        assert (await house.log_in("svc", "x" * 65_536))["error"] == "invalid_request"
        assert (await house.log_in("svc", "€" * 30_000))["error"] == "invalid_request"


async def test_what_was_done_is_set_against_its_device_and_a_refusal_against_strangers(mosquitto):
    async with open_house(mosquitto.port) as house:
        for _ in range(60):
            await house.send("encrypt", token="x", request_id="r-1")
        for _ in range(60):
            assert (await house.hear())["error"] == "invalid_token"
        for _ in range(30):
            assert (await house.log_in("svc", SECRET))["success"] is True
    refused = [event for event in house.told if event.outcome == "refused"]
    assert {(event.kind, event.address, event.source) for event in refused} == {
        ("service", "bus", "stranger")
    }
    assert refused[0].request_id == "r-1"
    assert sum(event.kind == "token" for event in house.told) == 30
    issued = {(event.device, event.source) for event in house.told if event.kind == "token"}
    assert issued == {("svc", "device")}


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"null", b"\xff", b'{"token":1}', b'{"token":"a\\u0000"}']
)
async def test_whatever_is_sent_is_answered(mosquitto, payload):
    async with open_house(mosquitto.port) as house:
        for name in ("auth", "validate", "encrypt", "decrypt"):
            await house.caller.publish(f"gateway/{name}", payload, retain=False)
            assert (await house.hear())["error"] in {"invalid_request", "invalid_token"}
