"""What a device may hold on a real Mosquitto: retained topics, sessions and their filters, over restarts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import raw
from harness.device import SESSION_FOREVER, Device, join, spy
from harness.enrol import enrol, in_store
from harness.gateway import ROOT, Gateway
from harness.mosquitto import Mosquitto
from harness.receivers import wait_until

LIMITS = """retained_topics = 20
sessions = 3
subscriptions = 10
connections_per_device = 6
connects_per_minute = 12
"""
OPENED: list[Device] = []
both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Gateway]]:
    """A bus that keeps what it has, and a gateway with small limits."""
    folder = tmp_path_factory.mktemp("small")
    bus = Mosquitto(folder / "bus", persistent=True).start()
    gateway = Gateway(folder / "gateway", bus.port)
    gateway.write_policy("limits.toml", LIMITS)
    try:
        gateway.start()
        names = ("kept", "away", "ears", "on", "killed", "busy", "many", "gone")
        enrol(gateway, **{f"{name}_{version}": "full" for name in names for version in (4, 5)})
        yield bus, gateway
    finally:
        gateway.kill()
        bus.kill()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Whatever a test leaves open is closed behind it."""
    yield
    while OPENED:
        OPENED.pop().close()


def device_of(name: str, v5: bool) -> str:
    return f"{name}-{5 if v5 else 4}"


def lasting(gateway: Gateway, device: str, client: str, *, v5: bool) -> tuple[Device, bytes]:
    """A connection whose session stays, and its CONNACK."""
    one = Device(gateway, v5=v5)
    OPENED.append(one)
    words = {"clean": False} | ({"props": SESSION_FOREVER} if v5 else {})
    answer = one.connect(client_id=client, username=device, password=gateway.secrets[device], **words)
    return one, answer


def session_present(answer: bytes) -> bool:
    return bool(answer[2])


def saved(gateway: Gateway, device: str, retained: int, sessions: int) -> None:
    """Wait until the store has it: it is saved beside the message path."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        rows = in_store(gateway, lambda store: store.holdings.read(device))
        topics = sum(len(row.keys) // 8 for row in rows if row.kind == "retained")
        if (topics, sum(row.kind == "session" for row in rows)) == (retained, sessions):
            return
        time.sleep(0.2)
    raise AssertionError(rows)


@both
def test_retained_topics_end_at_the_limit_and_an_empty_message_makes_room(small, v5):
    bus, gateway = small
    device = device_of("kept", v5)
    with join(gateway, device, v5=v5) as one:
        codes = [one.publish(f"{device}/{number}", b"x", retain=True) for number in range(30)]
        # MQTT 3.1.1 has no word for it: acknowledged and dropped, as GATEWAY_ON_DENY says.
        assert codes == [0] * 20 + [0x97 if v5 else 0] * 10
        assert one.publish(f"{device}/3", b"again", retain=True) == 0
        with spy(bus.port, f"{device}/#") as listener:
            assert len({message.topic for message in listener.messages()}) == 20
        assert one.publish(f"{device}/3", b"", retain=True) == 0
        assert one.publish(f"{device}/new", b"x", retain=True) == 0
        with spy(bus.port, f"{device}/#") as listener:
            found = {message.topic for message in listener.messages()}
    assert len(found) == 20
    assert f"{device}/new" in found


@both
def test_a_retained_will_above_the_limit_is_refused(small, v5):
    _, gateway = small
    device = device_of("many", v5)
    with join(gateway, device, v5=v5) as one:
        for number in range(20):
            assert one.publish(f"{device}/{number}", b"x", qos=1, retain=True) == 0
    other = Device(gateway, v5=v5)
    secret = gateway.secrets[device]
    will = (f"{device}/will", b"x", 0, True)
    answer = other.connect(client_id="w", username=device, password=secret, will=will)
    assert answer[3] == (0x97 if v5 else 3)
    other.close()


@both
def test_absent_sessions_end_at_the_limit_and_a_clean_connect_makes_room(small, v5):
    _, gateway = small
    device, code = device_of("away", v5), 0x97 if v5 else 3
    for number in range(3):
        one, answer = lasting(gateway, device, f"s{number}", v5=v5)
        assert answer[3] == 0
        one.send(raw.DISCONNECT)
        one.ended()
    one, answer = lasting(gateway, device, "s3", v5=v5)
    assert answer[3] == code
    one.close()
    one, answer = lasting(gateway, device, "s1", v5=v5)
    assert session_present(answer)
    one.close()
    join(gateway, device, "s2", v5=v5).close()
    one, answer = lasting(gateway, device, "s3", v5=v5)
    assert answer[3] == 0
    one.close()


@both
def test_one_session_gets_no_more_filters_by_coming_again(small, v5):
    _, gateway = small
    device, codes = device_of("ears", v5), []
    for turn in range(3):
        one, answer = lasting(gateway, device, "c", v5=v5)
        assert session_present(answer) is bool(turn)
        codes += one.subscribe(*(f"{device}/{turn}/{number}/#" for number in range(6)), qos=0)
        one.send(raw.DISCONNECT)
        one.ended()
    refused = 0x97 if v5 else 0x80
    assert codes == [0] * 10 + [refused] * 8
    # A session that the bus does not have any more has no filters either.
    join(gateway, device, "c", v5=v5).close()
    one, answer = lasting(gateway, device, "c", v5=v5)
    assert not session_present(answer)
    assert one.subscribe(f"{device}/again") == [1]
    one.close()


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
@both
def test_a_restart_of_the_gateway_counts_on(small, v5, kill):
    _, gateway = small
    device = device_of("killed" if kill else "on", v5)
    for number in range(3):
        one, answer = lasting(gateway, device, f"s{number}", v5=v5)
        assert answer[3] == 0
    assert one.subscribe(*(f"{device}/f/{number}" for number in range(10)), qos=0) == [0] * 10
    for number in range(20):
        assert one.publish(f"{device}/{number}", b"x", retain=True) == 0
    if kill:
        # What was saved: the last two seconds may be lost.
        saved(gateway, device, retained=20, sessions=3)
        gateway.kill()
    else:
        gateway.stop()
    gateway.start()
    one, answer = lasting(gateway, device, "s3", v5=v5)
    assert answer[3] == (0x97 if v5 else 3)
    one, answer = lasting(gateway, device, "s2", v5=v5)
    assert session_present(answer)
    assert one.subscribe(f"{device}/more") == [0x97 if v5 else 0x80]
    assert one.publish(f"{device}/more", b"x", retain=True) == (0x97 if v5 else 0)
    held = gateway.admin("device", "held", device).stdout
    assert "retained topics  20 of 20" in held
    assert "sessions         3 of 3" in held


@both
def test_what_an_administrator_forgets_is_free_within_seconds(small, v5):
    bus, gateway = small
    device = device_of("gone", v5)
    with join(gateway, device, v5=v5) as one:
        for number in range(20):
            assert one.publish(f"{device}/{number}", b"x", retain=True) == 0
        gateway.admin("device", "held", device, "--forget")
        deadline = time.monotonic() + 15
        while not forgotten(gateway, device) and time.monotonic() < deadline:
            time.sleep(0.1)
        for number in range(20, 50):
            assert one.publish(f"{device}/{number}", b"x", retain=True) == (0x97 if v5 and number > 39 else 0)
    with spy(bus.port, f"{device}/#") as listener:
        assert len({message.topic for message in listener.messages()}) == 40


def forgotten(gateway: Gateway, device: str) -> bool:
    event = "what the device holds on the bus is counted anew"
    return any(line["event"] == event and line.get("device") == device for line in gateway.log_lines())


def test_a_device_that_connects_without_end_is_refused_and_told_of_once(small):
    _, gateway = small
    for v5, code in ((False, 3), (True, 0x9F)):
        device, codes = device_of("busy", v5), []
        secret = gateway.secrets[device]
        for number in range(16):
            with Device(gateway, v5=v5) as one:
                codes.append(one.connect(client_id=f"c{number}", username=device, password=secret)[3])
        assert codes[:12] == [0] * 12
        assert codes[-3:] == [code] * 3
        reason = "more connects a minute than the device may make (connects_per_minute)"
        # All of it is in the log once it says that the last of them went.
        wait_until(lambda: any(line.get("address") == one.address for line in gateway.log_lines()))
        assert (
            sum(line.get("device") == device and line.get("reason") == reason for line in gateway.log_lines())
            == 1
        )


def test_the_bus_starts_with_the_configuration_we_ship(tmp_path: Path):
    shipped = (ROOT / "deploy" / "mosquitto.conf").read_text()
    lines = [line.split() for line in shipped.splitlines() if line and not line.startswith("#")]
    settings = {words[0]: words[1] for words in lines}
    for bounded in ("max_queued_bytes", "max_queued_messages", "max_connections", "memory_limit"):
        assert int(settings[bounded]) > 0
    # It counts what devices publish, too: above it Mosquitto 2.1 acknowledges a message and forgets it.
    assert "max_inflight_bytes" not in settings
    # The longest packet of a device, sealed (base64, and the JSON round it).
    assert int(settings["max_packet_size"]) > 16_777_216 * 4 / 3 + 1_000
    own = {"listener", "allow_anonymous", "persistence", "persistence_location", "set_tcp_nodelay"}
    text = "\n".join(" ".join(words) for words in lines if words[0] not in own)
    bus = Mosquitto(tmp_path / "bus", persistent=True, settings=text).start()
    try:
        with Device(bus.port, v5=True) as one:
            assert b"\x27" + (33_554_432).to_bytes(4, "big") in one.connect(client_id="c")
        assert "Error" not in bus.log.read_text()
        assert "Unknown" not in bus.log.read_text()
    finally:
        bus.kill()
