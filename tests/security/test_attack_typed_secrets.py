"""A secret typed where a name belongs stands nowhere: not in the log, not in the store, not in an answer.

EMQX fix-17491 is about secrets in their own fields (`test_logs_hold_no_secret`). Here they stand in those of
names: everything that somebody may send who has not shown who it is.
"""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from harness import raw
from harness.bus_service_client import Caller
from harness.device import Device
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto


def typed() -> str:
    """Like a device id, as many a secret is."""
    return "typed-" + secrets.token_hex(12)


def over_mqtt(gateway: Gateway, said: dict[str, str], *, v5: bool) -> None:
    attempts: dict[str, dict[str, object]] = {
        "user name": {"username": typed(), "password": "wrong"},
        "user name alone": {"username": typed()},
        "user name, with a token": {"username": typed(), "password": "eyJhbGciOiJub25lIn0.e30.c2ln"},
        "client id": {"client_id": typed(), "username": "nobody", "password": "wrong"},
        "client id of a device": {"client_id": typed(), "username": "lamp", "password": "wrong"},
        "will topic": {"username": "lamp", "password": "wrong", "will": (typed(), b"x", 0, False)},
        "no user name": {"client_id": typed()},
    }
    for field, connect in attempts.items():
        named = next(text for text in (*connect.values(), *connect.get("will", ())) if "typed-" in str(text))
        said[f"{field}, MQTT {5 if v5 else 4}"] = str(named)
        with Device(gateway, v5=v5) as one:
            assert one.connect(**connect)[3] != 0
    # A whole life of somebody who mixed up both fields, and one who goes in between.
    said[f"both fields, {v5}"] = mixed = typed()
    for _ in range(2):
        with Device(gateway, v5=v5) as one:
            one.connect(username=mixed, password="lamp")
    with Device(gateway, v5=v5) as one:
        said[f"and gone, {v5}"] = gone = typed()
        one.send(raw.connect("c", v5=v5, username=gone, password="wrong"))


def over_https(gateway: Gateway, said: dict[str, str]) -> bytes:
    said["device_id of the API"] = name = typed()
    connection = http.client.HTTPSConnection(
        "localhost", gateway.http_port, timeout=10, context=gateway.tls()
    )
    connection.request("POST", "/api/v1/token", json.dumps({"device_id": name, "secret": "wrong"}))
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 401
    return body


def over_the_bus(bus: Mosquitto, said: dict[str, str]) -> None:
    said["device_id of auth"] = name = typed()
    with Caller(bus.port) as caller:
        answer = caller.ask("auth", {"device_id": name, "credentials": {"secret": "wrong"}})
        assert answer.fields["success"] is False


def wait_for_services(gateway: Gateway) -> None:
    deadline = time.monotonic() + 20
    while not json.loads(gateway.health("/health")[1])["checks"]["services"]["ok"]:
        assert time.monotonic() < deadline
        time.sleep(0.03)


def test_a_secret_typed_as_a_name_stands_nowhere(
    tmp_path: Path, start_gateway: Callable[..., Gateway]
) -> None:
    bus = Mosquitto(tmp_path / "bus").start()
    said: dict[str, str] = {}
    try:
        gateway = start_gateway(bus.port, GATEWAY_BUS_SERVICES="true")
        gateway.add_device("lamp", "full")
        wait_for_services(gateway)
        for v5 in (False, True):
            over_mqtt(gateway, said, v5=v5)
        heard = {"answer": over_https(gateway, said)}
        over_the_bus(bus, said)
        heard |= {path: gateway.health(path)[1].encode() for path in ("/metrics", "/health")}
        gateway.stop()  # and saves what it still had
    finally:
        bus.kill()
    heard |= {str(path): path.read_bytes() for path in gateway.folder.rglob("*") if path.is_file()}
    assert len(set(said.values())) == len(said) > 18
    found = [
        (field, where) for field, name in said.items() for where in heard if name.encode() in heard[where]
    ]
    assert found == []
    told = [line for line in gateway.log_lines() if line.get("kind") == "login"]
    assert len(told) > 15
    assert {"lamp"} < {str(line["device"]) for line in told if "device" in line}
    unknown = [str(line["device"]) for line in told if str(line.get("device")).startswith("unknown:")]
    assert len(set(unknown)) < len(unknown), "the same name twice has the same digest"
