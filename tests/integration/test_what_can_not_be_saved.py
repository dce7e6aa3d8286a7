"""A store that moved away under a running gateway: seen in health and status, and told in a few lines."""

from __future__ import annotations

import json
import time
from pathlib import Path

from harness.device import join
from harness.gateway import Gateway


def test_a_store_that_moved_away_is_told_once_and_shown(gateway: Gateway) -> None:
    gateway.add_device("lamp")
    store = Path(gateway.env["GATEWAY_DATA_DIR"]) / "gateway.db"
    with join(gateway, "lamp") as lamp:
        away = store.rename(store.with_name("elsewhere.db"))
        lamp.publish("devices/lamp/private/pin", b"1")  # a use of the sealing key
        deadline = time.monotonic() + 20
        while (checks := json.loads(gateway.health("/ready")[1])["checks"])["saving"]["ok"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "key uses" in checks["saving"]["detail"]
        assert "taken away" in checks["saving"]["detail"]
        assert json.loads(gateway.health("/health")[1])["checks"]["saving"]["ok"] is False
        time.sleep(6)  # several attempts of each part
        assert "saving: " in gateway.admin("status", check=False).stdout
        lines = [line for line in gateway.log_lines() if line["event"] == "not saved"]
        assert len(lines) == len({line["part"] for line in lines})
        assert len([line for line in gateway.log_lines() if line["level"] == "error"]) <= 10
        away.rename(store)
        while not json.loads(gateway.health("/ready")[1])["checks"]["saving"]["ok"]:
            assert time.monotonic() < deadline + 20
            time.sleep(0.1)
        lamp.barrier()
