"""Clients that keep their half of a session as the standard says (MQTT 3.1.1, 4.3 and 4.4), in threads.

They come back whenever the connection ends, send again what was not acknowledged, and remember the
QoS 2 packet ids that were not released: what is lost or doubled beside them was lost on the way.
"""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from harness import raw
from harness.device import SESSION_FOREVER, Device, code_of, message_of

_RETRY = 0.02
_NO_SERVICE = {0x03, 0x88}
"""CONNACK codes of a server that is not there now; another refusal is a fault."""


class Faithful(threading.Thread, ABC):
    """A client with a session that must never be lost."""

    def __init__(self, dial: Callable[[], Device], client_id: str, username: str, password: str) -> None:
        super().__init__(daemon=True)
        self._dial = dial
        self._name = {"client_id": client_id, "username": username, "password": password}
        self.finish = threading.Event()
        self._given_up = threading.Event()
        self.faults: list[str] = []
        self.connected = 0
        """How often a connection was established."""

    def run(self) -> None:
        try:
            while not self.faults and not self._over():
                try:
                    with self._dial() as link:
                        self._serve(link)
                except (OSError, TimeoutError):
                    time.sleep(_RETRY)
        except Exception as error:  # noqa: BLE001 - a thread's exception is told by the test
            self.faults.append(f"{type(error).__name__}: {error}")

    def _serve(self, link: Device) -> None:
        props = SESSION_FOREVER if link.v5 else b""
        connack = link.connect(clean=False, props=props, **self._name)
        if not connack:
            raise ConnectionError
        if connack[3] in _NO_SERVICE:
            time.sleep(_RETRY)
            return
        if connack[3]:
            self.faults.append(f"refused with {connack[3]:#04x}")
            return
        if self.connected and not connack[2] & 1:
            self.faults.append("the session was lost")
            return
        self.connected += 1
        self.established(link)
        while not self._over():
            self.fill(link)
            try:
                packet = link.read(0.05)
            except TimeoutError:
                self.idle(link)
                continue
            if not packet:
                return
            self.take(link, packet)

    def _over(self) -> bool:
        return self._given_up.is_set() or self.is_done()

    def give_up(self) -> None:
        """End now, whatever is unfinished: the test is over."""
        self._given_up.set()
        if self.is_alive():
            self.join(15)

    @abstractmethod
    def is_done(self) -> bool: ...

    @abstractmethod
    def established(self, link: Device) -> None: ...

    def fill(self, link: Device) -> None:
        """Before each read."""

    def idle(self, link: Device) -> None:
        """Nothing came."""

    @abstractmethod
    def take(self, link: Device, packet: bytes) -> None: ...


@dataclass
class Letter:
    """One message under way."""

    topic: str
    payload: bytes
    qos: int
    released: bool = field(default=False)
    """QoS 2: the receiver has it, PUBREL is due."""


class Publisher(Faithful):
    """Sends `letters` in order, some at a time, until told to finish; then until all are answered."""

    def __init__(
        self,
        dial: Callable[[], Device],
        client_id: str,
        username: str,
        password: str,
        letters: Iterator[Letter],
        *,
        window: int = 16,
    ) -> None:
        super().__init__(dial, client_id, username, password)
        self._letters = letters
        self._window = window
        self._next_id = 0
        self._under_way: dict[int, Letter] = {}
        self.acknowledged: list[Letter] = []
        self.refused: list[Letter] = []

    def is_done(self) -> bool:
        return self.finish.is_set() and not self._under_way

    def established(self, link: Device) -> None:
        # In the order in which they were first sent [MQTT-4.4.0-1, 4.6.0-1].
        for packet_id, letter in self._under_way.items():
            if letter.released:
                link.send(raw.ack(0x62, packet_id))
            else:
                self._send(link, packet_id, letter, dup=True)

    def fill(self, link: Device) -> None:
        if self.finish.is_set() or len(self._under_way) >= self._window:
            return
        letter = next(self._letters)
        while True:
            self._next_id = self._next_id % 65_535 + 1
            if self._next_id not in self._under_way:
                break
        self._under_way[self._next_id] = letter
        self._send(link, self._next_id, letter, dup=False)
        time.sleep(0.001)

    def _send(self, link: Device, packet_id: int, letter: Letter, *, dup: bool) -> None:
        link.send(
            raw.publish(
                letter.topic, letter.payload, qos=letter.qos, packet_id=packet_id, dup=dup, v5=link.v5
            )
        )

    def take(self, link: Device, packet: bytes) -> None:
        kind, packet_id = packet[0] >> 4, int.from_bytes(packet[2:4], "big")
        letter = self._under_way.get(packet_id)
        if kind == 7:
            self._under_way.pop(packet_id, None)
            return
        if letter is None or kind != 3 + letter.qos:
            if kind == 5:
                link.send(raw.ack(0x62, packet_id))
                return
            self.faults.append(f"an answer to nothing: {packet!r}")
            return
        if code_of(packet) >= 0x80:
            self.refused.append(letter)
            del self._under_way[packet_id]
            return
        if not letter.released:
            self.acknowledged.append(letter)
        if kind == 4:
            del self._under_way[packet_id]
        else:
            letter.released = True
            link.send(raw.ack(0x62, packet_id))


class Subscriber(Faithful):
    """Counts what is delivered to its application: QoS 2 by the first PUBLISH of a packet id."""

    def __init__(
        self,
        dial: Callable[[], Device],
        client_id: str,
        username: str,
        password: str,
        filters: tuple[str, ...],
        chance: random.Random,
    ) -> None:
        super().__init__(dial, client_id, username, password)
        self._filters = filters
        self._chance = chance
        self._held: set[int] = set()
        self._answers: list[bytes] = []
        self.delivered: Counter[tuple[str, bytes, int]] = Counter()
        """By topic, payload and QoS."""
        self.subscribed = threading.Event()

    def is_done(self) -> bool:
        return self.finish.is_set()

    def established(self, link: Device) -> None:
        self._answers.clear()
        if not self.subscribed.is_set():
            codes = link.subscribe(*self._filters, qos=2)
            assert codes == [2] * len(codes), codes
            self.subscribed.set()

    def fill(self, link: Device) -> None:
        # Not at once, so that there is always something unacknowledged when the connection breaks.
        if self._answers and self._chance.random() < 0.3:
            self.idle(link)

    def idle(self, link: Device) -> None:
        if self._answers:
            link.send(*self._answers)
            self._answers.clear()

    def take(self, link: Device, packet: bytes) -> None:
        kind = packet[0] >> 4
        if kind == 6:
            packet_id = int.from_bytes(packet[2:4], "big")
            self._held.discard(packet_id)
            self._answers.append(raw.ack(0x70, packet_id))
            return
        if kind != 3:
            self.faults.append(f"unexpected {packet[:20]!r}")
            return
        message = message_of(packet, v5=link.v5)
        if message.qos == 2:
            self._answers.append(raw.ack(0x50, message.packet_id))
            if message.packet_id in self._held:
                return
            self._held.add(message.packet_id)
        elif message.qos == 1:
            self._answers.append(raw.ack(0x40, message.packet_id))
        self.delivered[message.topic, message.payload, message.qos] += 1
