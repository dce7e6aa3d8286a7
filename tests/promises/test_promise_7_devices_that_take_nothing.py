"""Promise 7: what a device does not take is held in bytes that are its own, and not by the bus.

Sixty connections that subscribed and never read made the bus queue for each of them by the number of packets,
until it had no memory left and threw out honest clients.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import raw
from harness.device import Device, join
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

MIB = 1 << 20
DEVICES = 7
READERS = 3
"""Of each device. All that comes for them is less than may be looked at in one second of theirs."""
MESSAGES = 1_400
PARTS = 14
SIZE = 20_000


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Gateway]]:
    """A bus that queues as the shipped one does: by number alone it would take all that is sent here."""
    folder = tmp_path_factory.mktemp("world")
    bus = Mosquitto(folder / "bus", settings="max_queued_messages 10000\nmax_inflight_messages 1000").start()
    gateway = Gateway(folder / "gateway", bus.port)
    try:
        gateway.start()
        gateway.add_device("good", "full")
        gateway.add_device("bad", "full")
        for number in range(DEVICES):
            gateway.add_device(f"bad-{number}", "full")
        yield bus, gateway
    finally:
        gateway.kill()
        bus.kill()


def counted(gateway: Gateway, name: str, labels: str = "") -> int:
    text = gateway.health("/metrics")[1]
    found = re.search(rf"(?m)^gateway_{name}{re.escape(labels)} (\S+)$", text)
    assert found, name
    return int(float(found[1]))


def wait_until_counted(gateway: Gateway, name: str, least: int) -> None:
    end = time.monotonic() + 60
    while (now := counted(gateway, name)) < least:
        assert time.monotonic() < end, f"{name} stays at {now:,}, and {least:,} came to the bus"
        time.sleep(0.1)


def memory_of(bus: Mosquitto) -> int:
    status = Path(f"/proc/{bus.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def deaf(
    gateway: Gateway, device: str, client_id: str, *filters: str, qos: int = 0, v5: bool = False
) -> Device:
    one = join(gateway, device, client_id, v5=v5)
    one.subscribe(*filters, qos=qos)
    return one


def talker_on(bus: Mosquitto) -> Device:
    one = Device(bus.port, timeout=60)
    one.connect(client_id="talker")
    return one


def test_the_bus_holds_nothing_for_subscribers_that_never_read(house: tuple[Mosquitto, Gateway]) -> None:
    """588 MB for 21 readers. The gateway takes all of it from the bus, and drops most."""
    bus, gateway = house
    came, dropped = counted(gateway, "bytes_to_devices_total"), counted(gateway, "deliveries_dropped_total")
    with contextlib.ExitStack() as stack:
        for number in range(DEVICES * READERS):
            device = f"bad-{number % DEVICES}"
            stack.enter_context(deaf(gateway, device, f"deaf-{number}", "flood/#", v5=number % 2 == 0))
        talker = stack.enter_context(talker_on(bus))
        good = stack.enter_context(deaf(gateway, "good", "good", "quiet/#"))
        before = gateway.memory(), memory_of(bus)
        for part in range(1, PARTS + 1):
            talker.send(raw.publish("flood/a", bytes(SIZE)) * (MESSAGES // PARTS))
            talker.barrier()
            # A bus that is faster than the gateway queues for a moment, but not for longer.
            least = came + DEVICES * READERS * MESSAGES // PARTS * part * SIZE
            wait_until_counted(gateway, "bytes_to_devices_total", least)
        lost = counted(gateway, "deliveries_dropped_total") - dropped
        assert lost > DEVICES * READERS * MESSAGES // 2
        assert counted(gateway, "unfinished_bytes") < DEVICES * 9 * MIB
        assert memory_of(bus) - before[1] < 100 * MIB
        assert gateway.memory() - before[0] < 100 * MIB
        talker.publish("quiet/a", b"heard")
        assert good.message().payload == b"heard"
        said = [
            one for one in gateway.log_lines() if one.get("kind") == "limit" and one.get("device") == "bad-0"
        ]
        assert len(said) == 1
        assert "takes less than it is sent" in str(said[0]["reason"])


def test_a_slow_device_gets_a_burst_whole(house: tuple[Mosquitto, Gateway]) -> None:
    """5,000 retained messages after one SUBSCRIBE, to a device that reads nothing until all are there."""
    bus, gateway = house
    count = 5_000
    with talker_on(bus) as talker:
        for at in range(0, count, 500):
            talker.send(
                b"".join(
                    raw.publish(f"kept/{number}", b"%200d" % number, retain=True)
                    for number in range(at, at + 500)
                )
            )
            talker.barrier()
    came, dropped = counted(gateway, "bytes_to_devices_total"), counted(gateway, "deliveries_dropped_total")
    with join(gateway, "good", "slow") as slow:
        slow.send(raw.subscribe(1, ("kept/#", 0)))
        wait_until_counted(gateway, "bytes_to_devices_total", came + count * 200)
        assert slow.answer(9)[4] == 0
        found = [slow.message() for _ in range(count)]
    assert {int(one.payload) for one in found} == set(range(count))
    assert counted(gateway, "deliveries_dropped_total") == dropped


@pytest.mark.parametrize("v5", [False, True])
def test_what_has_to_be_acknowledged_is_not_dropped(house: tuple[Mosquitto, Gateway], v5: bool) -> None:
    """Among a flood of QoS 0 that is."""
    bus, gateway = house
    dropped = counted(gateway, "deliveries_dropped_total")
    with deaf(gateway, "bad", "mixed", "mixed/#", qos=1, v5=v5) as one, talker_on(bus) as talker:
        for number in range(100):
            talker.send(raw.publish("mixed/zero", bytes(SIZE)) * 20)
            assert talker.publish("mixed/one", b"%d" % number) == 0
        end = time.monotonic() + 30
        while counted(gateway, "deliveries_dropped_total") == dropped:
            assert time.monotonic() < end
            time.sleep(0.1)
        found = []
        while len(found) < 100:
            message = one.message()
            if message.topic == "mixed/one":
                found.append(int(message.payload))
    assert found == list(range(100))
