"""Promise 3: no plaintext of a sensitive topic reaches the bus, its disk, our log or our metrics.

Each test plants a word that is nowhere else and looks for it everywhere but at its reader.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from harness import raw
from harness.device import SESSION_FOREVER, Device, Message, join, spy, topic_alias
from harness.enrol import enrol
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from harness.receivers import wait_until

PIN = "devices/lamp-1/private/pin"
BLIND = """description = "Is delivered the sealed messages, and can't open them."
[[allow]]
actions = ["subscribe"]
topics = ["devices/#"]
"""
MIXED = """description = "Speaks on open and sensitive topics."
[[allow]]
actions = ["publish"]
topics = ["open/#", "devices/{device}/private/#"]
"""

both_versions = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


@dataclass
class Vault:
    """A bus that saves to disk, a gateway that logs all it can, and somebody who listens on the bus."""

    bus: Mosquitto
    gateway: Gateway
    listener: Device
    heard: bytes = b""
    """All payloads and properties that ever passed the listener."""

    def word(self) -> bytes:
        """Something to plant."""
        return b"planted-" + secrets.token_hex(12).encode()

    def on_bus(self, topic: str = PIN) -> Message:
        """The next message of this topic as it stands on the bus."""
        while True:
            message = self.listener.message()
            self.heard += message.payload + message.properties
            if message.topic == topic:
                return message

    def hear(self) -> list[Message]:
        """All messages on the bus until it is quiet."""
        messages = self.listener.messages(0.3)
        self.heard += b"".join(message.payload + message.properties for message in messages)
        return messages

    def assert_nowhere(self, word: bytes) -> None:
        """`word` is neither on the bus, nor in its files, nor in ours, nor in the metrics."""
        self.hear()
        size = -1
        os.kill(self.bus.pid, signal.SIGUSR1)  # Mosquitto saves now
        while (now := (self.bus.folder / "mosquitto.db").stat().st_size) != size:
            size = now
            time.sleep(0.05)
        places = {"the bus": self.heard, "/metrics": self.gateway.health("/metrics")[1].encode()}
        for folder in (self.bus.folder, self.gateway.folder):
            places |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        forms = [word, base64.b64encode(word)[:-4], word.hex().encode()]
        found = [name for name, content in places.items() if any(form in content for form in forms)]
        assert found == []


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    folder = tmp_path_factory.mktemp("vault")
    bus = Mosquitto(folder / "bus", persistent=True).start()
    gateway = Gateway(folder / "gateway", bus.port)
    gateway.write_policy("roles/blind.toml", BLIND)
    gateway.write_policy("roles/mixed.toml", MIXED)
    try:
        gateway.start()
        enrol(gateway, lamp_1="sensor", lamp_2="mixed", op="operator", blind="blind")
        # Somebody is away, so that the bus queues for them and writes that to its disk.
        with join(gateway, "op", "away", v5=True, clean=False, props=SESSION_FOREVER) as away:
            assert away.subscribe("devices/#", qos=2) == [2]
        os.kill(bus.pid, signal.SIGUSR1)
        while not (bus.folder / "mosquitto.db").exists():
            time.sleep(0.02)
        with spy(bus.port, qos=2) as listener:
            yield Vault(bus, gateway, listener)
    finally:
        gateway.kill()
        bus.kill()


@both_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True], ids=["", "retained"])
def test_a_message_is_sealed_on_the_bus_and_plain_for_its_reader(
    vault: Vault, v5: bool, qos: int, retain: bool
) -> None:
    word = vault.word()
    with join(vault.gateway, "op", v5=v5) as reader, join(vault.gateway, "lamp-1", v5=v5) as lamp:
        reader.subscribe(PIN, qos=2)
        reader.messages(0.2)  # what an earlier test retained
        assert not lamp.publish(PIN, word, qos=qos, retain=retain)
        message = reader.message()
        assert (message.payload, message.qos) == (word, qos)
        sealed = vault.on_bus()
        assert json.loads(sealed.payload)["encrypted"] is True
        if retain:
            with join(vault.gateway, "op", "late", v5=v5) as late:
                late.subscribe(PIN)
                assert (late.message().payload, late.inbox) == (word, [])
        vault.assert_nowhere(word)


@both_versions
@pytest.mark.parametrize("retain", [False, True], ids=["", "retained"])
def test_a_will_is_sealed_before_the_bus_knows_it(vault: Vault, v5: bool, retain: bool) -> None:
    word = vault.word()
    with join(vault.gateway, "op", v5=v5) as reader:
        reader.subscribe(PIN)
        reader.messages(0.2)
        join(vault.gateway, "lamp-1", v5=v5, will=(PIN, word, 1, retain)).close()
        assert reader.message().payload == word
    assert json.loads(vault.on_bus().payload)["sender"] == "lamp-1"
    vault.assert_nowhere(word)


def test_no_way_round_by_topic_aliases(vault: Vault) -> None:
    """The topic is in the first packet only, and an alias may come to mean something else."""
    word = vault.word()
    pin = "devices/lamp-2/private/pin"
    with (
        join(vault.gateway, "op", v5=True) as reader,
        join(vault.gateway, "lamp-2", v5=True) as lamp,
    ):
        reader.subscribe("devices/#")
        reader.messages(0.2)
        lamp.publish(pin, word + b"1", props=topic_alias(1))
        lamp.publish("", word + b"2", props=topic_alias(1))
        lamp.publish("open/a", b"not secret 1", props=topic_alias(2))
        lamp.publish("", b"not secret 2", props=topic_alias(2))
        lamp.publish(pin, word + b"3", props=topic_alias(2))
        lamp.publish("", word + b"4", qos=2, props=topic_alias(2))
        lamp.publish("open/a", b"not secret 3", props=topic_alias(1))
        lamp.publish("", b"not secret 4", props=topic_alias(1))
        lamp.publish(pin, word + b"5", props=topic_alias(1), qos=2)
        lamp.publish("", word + b"6", props=topic_alias(1), qos=0)
        assert [reader.message().payload for _ in range(6)] == [word + b"%d" % n for n in range(1, 7)]
    heard = vault.hear()
    assert [one.payload for one in heard if one.topic == "open/a"] == [
        b"not secret %d" % n for n in range(1, 5)
    ]
    assert len([one for one in heard if one.topic == pin]) == 6
    assert not [one for one in heard if word in one.payload]
    vault.assert_nowhere(word)


@both_versions
def test_without_the_decrypt_right_the_message_stays_sealed(vault: Vault, v5: bool) -> None:
    word = vault.word()
    with join(vault.gateway, "blind", v5=v5) as blind, join(vault.gateway, "lamp-1", v5=v5) as lamp:
        blind.subscribe("devices/#")
        blind.messages(0.2)
        lamp.publish(PIN, word)
        assert json.loads(blind.message().payload)["key_id"]
    vault.assert_nowhere(word)


@both_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_refused_message_is_told_of_without_its_payload(vault: Vault, v5: bool, qos: int) -> None:
    def told() -> bool:
        """The line comes from a thread of its own, which may write after the device's answer."""
        lines = vault.gateway.log_lines()
        return any(line.get("topic") == "devices/lamp-2/private/pin" for line in lines)

    word = vault.word()
    with join(vault.gateway, "lamp-1", v5=v5) as lamp:
        lamp.publish("devices/lamp-2/private/pin", word, qos=qos)
        lamp.barrier()
    wait_until(told)
    vault.assert_nowhere(word)


def test_a_refused_will_and_a_broken_packet_are_told_of_without_payload(vault: Vault) -> None:
    word = vault.word()
    with Device(vault.gateway, v5=True) as lamp:
        connack = lamp.connect(
            username="lamp-1",
            password=vault.gateway.secrets["lamp-1"],
            will=("devices/lamp-2/private/pin", word, 1, True),
        )
        assert connack[3] == 0x87
    with join(vault.gateway, "lamp-1") as lamp:
        lamp.send(raw.publish("devices/+/private/pin", word, qos=1, packet_id=1))
        assert lamp.ended() == b""
    with Device(vault.gateway) as lamp:
        lamp.send(raw.packet(0x10, raw.text("MQTT") + b"\x04\xff\x00\x00" + raw.text(word)))
        lamp.ended()
    vault.assert_nowhere(word)


@both_versions
def test_a_retained_message_is_cleared_by_an_empty_one(vault: Vault, v5: bool) -> None:
    with join(vault.gateway, "lamp-1", v5=v5) as lamp:
        lamp.publish(PIN, b"x", retain=True)
        assert lamp.publish(PIN, b"", retain=True) == 0
    with Device(vault.bus.port) as late:
        late.connect(client_id="late")
        late.subscribe(PIN)
        assert late.messages(0.3) == []


RETAIN_AS_PUBLISHED = 0x08


def test_a_live_clear_is_heard_with_its_flag_only(vault: Vault) -> None:
    """The bus takes the flag away for who did not ask to keep it, and an empty message anybody can write."""
    before = metric(vault.gateway, "gateway_empty_unsealed_dropped_total")
    with (
        join(vault.gateway, "op", v5=True) as reader,
        join(vault.gateway, "blind", v5=True) as asked,
        join(vault.gateway, "lamp-1", v5=True) as lamp,
    ):
        reader.subscribe(PIN)
        asked.subscribe(PIN, options=RETAIN_AS_PUBLISHED)
        lamp.publish(PIN, b"x", retain=True)
        lamp.publish(PIN, b"", retain=True)
        lamp.publish(PIN, b"", retain=False)
        assert [one.payload for one in reader.messages()] == [b"x", b""], "the sealed empty one, no other"
        heard = asked.messages()
    assert [(bool(one.payload), one.retain) for one in heard] == [(True, True), (False, True), (True, False)]
    wait_until(lambda: metric(vault.gateway, "gateway_empty_unsealed_dropped_total") - before == 1)


@both_versions
def test_nobody_is_told_beside_an_envelope_what_was_not_sealed(vault: Vault, v5: bool) -> None:
    """A genuine envelope that somebody on the bus wrote so that it says more."""
    with (
        join(vault.gateway, "op", v5=v5) as reader,
        join(vault.gateway, "blind", v5=v5) as blind,
        join(vault.gateway, "lamp-1", v5=v5) as lamp,
        Device(vault.bus.port) as forger,
    ):
        for ear in (reader, blind):
            ear.subscribe(PIN, qos=2)
            ear.messages(0.2)
        vault.hear()
        lamp.publish(PIN, b"genuine")
        envelope = vault.on_bus().payload
        forger.connect(client_id="forger")
        written = [
            b'{"sender":"read me",' + envelope[1:],
            envelope[:-1] + b',"request_id":"read me"}',
            json.dumps(json.loads(envelope), indent=2).encode(),
            envelope + b"\t \t\t",
        ]
        for payload in written:
            forger.publish(PIN, payload, qos=1)
        forger.barrier()
        assert [one.payload for one in blind.messages()] == [envelope] * 5
        assert [one.payload for one in reader.messages()] == [b"genuine"] * 5


def forgeries(envelope: bytes, word: bytes) -> dict[str, tuple[str, bytes]]:
    """What somebody on the bus can make of a sealed message, by what was done: topic and payload."""
    fields = json.loads(envelope)
    data = bytearray(base64.b64decode(fields["data"]))

    def changed(**parts: object) -> bytes:
        return json.dumps(fields | parts).encode()

    def flipped(at: int) -> bytes:
        other = bytearray(data)
        other[at] ^= 1
        return changed(data=base64.b64encode(other).decode())

    return {
        "plaintext": (PIN, word),
        "plain JSON": (PIN, json.dumps({"message": word.decode()}).encode()),
        "said to be sealed": (PIN, json.dumps({"encrypted": True, "data": word.decode()}).encode()),
        "said not to be sealed": (PIN, changed(encrypted=False, data=base64.b64encode(word).decode())),
        "nonce flipped": (PIN, flipped(0)),
        "ciphertext flipped": (PIN, flipped(12)),
        "tag flipped": (PIN, flipped(-1)),
        "cut off": (PIN, changed(data=base64.b64encode(data[:-1]).decode())),
        "no ciphertext": (PIN, changed(data="")),
        "other time": (PIN, changed(timestamp=fields["timestamp"] + 1)),
        "other sender": (PIN, changed(sender="lamp-2")),
        "other key": (PIN, changed(key_id="k9")),
        "other version": (PIN, changed(v=2)),
        "other algorithm": (PIN, changed(algorithm="none")),
        "moved": ("devices/lamp-1/private/door", envelope),
        "moved, and its topic changed": (
            "devices/lamp-1/private/door",
            changed(topic="devices/lamp-1/private/door"),
        ),
        "one field more": (PIN, changed(plain=word.decode())),
        "a long request id": (PIN, changed(request_id=word.decode() * 99)),
    }


@both_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_forged_message_is_delivered_to_nobody(vault: Vault, v5: bool, qos: int) -> None:
    """Dropped, counted and audited, for those who may open it and for those who may not."""
    word = vault.word()
    before = metric(vault.gateway, "gateway_open_failed_total")
    with (
        join(vault.gateway, "op", v5=v5) as reader,
        join(vault.gateway, "blind", v5=v5) as blind,
        join(vault.gateway, "lamp-1", v5=v5) as lamp,
        Device(vault.bus.port) as forger,
    ):
        for ear in (reader, blind):
            ear.subscribe("devices/lamp-1/private/#", qos=2)
            ear.messages(0.2)
        vault.hear()
        lamp.publish(PIN, b"genuine")
        envelope = vault.on_bus().payload
        assert reader.message().payload == b"genuine"
        assert blind.message().payload == envelope
        forger.connect(client_id="forger")
        made = forgeries(envelope, word)
        for topic, payload in made.values():
            forger.publish(topic, payload, qos=qos)
        forger.barrier()
        lamp.publish("devices/lamp-1/private/last", b"last")
        assert [one.payload for one in reader.messages()] == [b"last"]
        assert [one.topic for one in blind.messages()] == ["devices/lamp-1/private/last"]
    # Three ears: the reader, the one who can't open, and the one who is away is not connected.
    wait_until(lambda: metric(vault.gateway, "gateway_open_failed_total") - before == 2 * len(made))
    told = [line for line in vault.gateway.log_lines() if line.get("kind") == "open"]
    assert {line["outcome"] for line in told} == {"failed"}
    assert {line["device"] for line in told} == {"op", "blind"}
    for path in vault.gateway.folder.rglob("*"):
        assert not path.is_file() or word not in path.read_bytes()


def metric(gateway: Gateway, name: str) -> int:
    """As it was within the last second: it is not asked for more often."""
    lines = gateway.health("/metrics")[1].splitlines()
    return int(next(float(line.split()[-1]) for line in lines if line.startswith(name + " ")))
