"""A store that moved away under a running gateway: seen in health and status, and told in a few lines."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from harness.background_tasks import until
from harness.device import Device, join
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto


def checks_of(gateway: Gateway) -> dict[str, dict[str, object]]:
    return json.loads(gateway.health("/ready")[1])["checks"]


def test_a_store_that_moved_away_is_told_once_and_shown(gateway: Gateway) -> None:
    gateway.add_device("lamp")
    store = Path(gateway.env["GATEWAY_DATA_DIR"]) / "gateway.db"
    with join(gateway, "lamp") as lamp:
        away = store.rename(store.with_name("elsewhere.db"))
        lamp.publish("devices/lamp/private/pin", b"1")  # a use of the sealing key
        deadline = time.monotonic() + 20
        while "key uses" not in (saving := checks_of(gateway)["saving"])["detail"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert saving["ok"] is False
        assert "taken away" in saving["detail"]
        assert json.loads(gateway.health("/health")[1])["checks"]["saving"]["ok"] is False
        time.sleep(6)  # several attempts of each part
        assert "saving: " in gateway.admin("status", check=False).stdout
        lines = [line for line in gateway.log_lines() if line["event"] == "not saved"]
        assert len(lines) == len({line["part"] for line in lines})
        assert len([line for line in gateway.log_lines() if line["level"] == "error"]) <= 10
        away.rename(store)
        while not checks_of(gateway)["saving"]["ok"]:
            assert time.monotonic() < deadline + 20
            time.sleep(0.1)
        lamp.barrier()


def test_a_data_folder_that_moved_away_is_told_by_each_part_that_needs_it(gateway: Gateway) -> None:
    """And its place stays free, and its gateway is nobody else's to `status`."""
    gateway.add_device("lamp")
    folder = Path(gateway.env["GATEWAY_DATA_DIR"])
    away = folder.rename(folder.with_name("elsewhere"))
    try:
        asyncio.run(until(lambda: gateway.health("/ready")[0] == 503))
        store = checks_of(gateway)["store"]
        assert store["ok"] is False
        assert f"{folder}/gateway.db was replaced or taken away" in store["detail"]
        with Device(gateway) as lamp:
            assert lamp.connect(client_id="c", username="lamp", password=gateway.secrets["lamp"])[3] == 3
        shown = gateway.admin("status", check=False)
        assert shown.returncode == 1
        assert f"FAILED store: the database {folder}/gateway.db was replaced or taken away" in shown.stdout
        assert "a different data folder" not in shown.stdout
        assert "put it back if it was moved away" in shown.stdout
        assert not folder.exists()
    finally:
        away.rename(folder)
    gateway.wait_for_devices()
    asyncio.run(until(lambda: gateway.health("/ready")[0] == 200))
    assert "ready" in gateway.admin("status").stdout


def test_a_store_that_another_process_holds_is_not_ready_though_it_is_read(
    mosquitto: Mosquitto, start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway(mosquitto.port, HEALTH_CHECK_INTERVAL="1")
    gateway.add_device("lamp")
    held = sqlite3.connect(f"{gateway.env['GATEWAY_DATA_DIR']}/gateway.db", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    asyncio.run(until(lambda: gateway.health("/ready")[0] == 503))
    store = checks_of(gateway)["store"]
    assert (store["ok"], store["state"]) == (False, "unhealthy")
    assert "database is locked): another process holds it" in store["message"]
    assert gateway.health("/health")[0] == 200
    join(gateway, "lamp").close()
    held.execute("ROLLBACK")
    held.close()
    asyncio.run(until(lambda: gateway.health("/ready")[0] == 200))
