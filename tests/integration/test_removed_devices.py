"""A new device with the id of a removed one inherits nothing of what a running gateway knew of that one."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator

import pytest
from harness.in_process import House, settle, started
from harness.mosquitto import Mosquitto
from harness.stored_devices import add_devices

from gateway.app.savers.login_priority_file import FILE
from gateway.app.savers.usage import UsageSaver
from gateway.auth.recent_logins import KnownDevices
from gateway.config import Settings
from gateway.store import open_store
from gateway.system.ip_address_blocks import place_of


@pytest.fixture
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    bus = Mosquitto(tmp_path_factory.mktemp("bus")).start()
    folder = tmp_path_factory.mktemp("gateway")
    monitoring = folder / "monitoring.toml"
    monitoring.write_text('metrics_of_devices = ["bad"]\n')
    yield settle(folder, bus).model_copy(update={"monitoring_path": monitoring})
    bus.kill()


def publish_as(house: House, device: str) -> None:
    with house.join(device) as one:
        assert one.publish("t", b"x") == 0


def connects(house: House) -> str:
    """What the metrics say of `bad`; empty while it may not connect."""
    (bound,) = house.gateway._health_bound
    with urllib.request.urlopen(f"http://{bound}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return next((line.split()[1] for line in lines if line.startswith("gateway_device_connects_total{")), "")


async def until_connects(house: House, count: str) -> None:
    async with asyncio.timeout(20):
        while await asyncio.to_thread(connects, house) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_what_was_known_of_a_removed_device_is_not_known_of_a_new_one(settings, monkeypatch):
    monkeypatch.setattr(UsageSaver, "seconds", 3_600.0)  # at the end, and then of a device with that id
    store = await open_store(settings.database_url)
    try:
        async with started(settings, monkeypatch) as house:
            await until_connects(house, "0.0")
            for device in ("good", "bad"):
                await asyncio.to_thread(publish_as, house, device)
            await until_connects(house, "1.0")
            await store.devices.remove("bad")
            await until_connects(house, "")
            await add_devices(store, "bad")
            await until_connects(house, "0.0")
        assert {one.device_id for one in await store.usage.records(0)} == {"good"}
    finally:
        await store.close()
    known = KnownDevices(house.plane.context.now)
    known.load((settings.gateway_data_dir / FILE).read_bytes())
    place = place_of("127.0.0.1")
    assert known.look_up("good", place) == (True, True)
    assert known.look_up("bad", place) == (False, False)
