"""The same connection twice: one of the two gets each chunk whole, the other gets it in pieces.

Both have to say the same, and whatever they say is held against what must never happen: a topic the
device may not use reaches the bus or the device, or a plaintext gets where it must not be. What is
allowed is said here once more, in three lines, apart from `gateway.policy.engine.policy`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from functools import cache
from itertools import pairwise

from hypothesis import HealthCheck, settings

from gateway.connection.commands import Authenticate, Close, Command, OpenBus, SendToBus, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import (
    Authenticated,
    BusBytes,
    DeviceBytes,
    Event,
    PolicyChanged,
)
from gateway.connection.process_context import OnDeny
from gateway.connection.transition_table import State
from gateway.policy.engine.policy import Effect, Policy, Role
from harness import raw, reference_parser
from harness.playbook import BOTH, LAMP, READER, ROLES, connack, context, open_payload, policy, react, rule
from harness.reference_parser import Packet, Peer

# `HYPOTHESIS_PROFILE=long pytest tests/fuzz --timeout=0` looks for half an hour, and elsewhere each time.
_SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
settings.register_profile(
    "short", max_examples=200, derandomize=True, deadline=None, suppress_health_check=_SLOW
)
settings.register_profile(
    "long", max_examples=20_000, deadline=None, suppress_health_check=_SLOW, print_blob=True
)
PROFILE = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

SECRET = b"TOP-SECRET"
"""In every payload that is said in private, and nowhere else."""
SENSITIVE = ("private/", "vault/")
TOPICS = (
    "ok",
    "ok/a",
    "ok/no/a",
    "low/a",
    "vault/a",
    "private/a",
    "private/no/a",
    "flip",
    "other",
    "$SYS/a",
    "gateway/auth",
)
ALIASES_MAX = 3

_FLIPPED = [
    Role("lamp", "", (*ROLES[0].rules, rule("flip", *BOTH), rule("ok/a", *BOTH, effect=Effect.DENY))),
    ROLES[1],
]


@cache
def _policies(**limits: int) -> tuple[Policy, Policy]:
    """The one that a connection begins with, and the one that `Twin.flip` puts in its place."""
    return policy(packet_size=4096, **limits), policy(_FLIPPED, packet_size=4096, **limits)


def allowed(topic: str, *, qos: int, retain: bool, size: int, flipped: bool) -> bool:
    """Whether the device may say this, or hear it (`qos` 0 then)."""
    levels = topic.split("/")
    if topic == "flip" or (topic == "ok/a" and flipped):
        return flipped and topic == "flip"
    if levels[0] in {"low", "vault"}:
        return qos < 2 and not retain and size <= 16
    return levels[0] in {"ok", "private"} and levels[1:2] != ["no"]


@dataclasses.dataclass
class Said:
    """What both connections said, once."""

    to_bus: list[Packet]
    to_device: list[Packet]


class Twin:
    """`begin` goes through the CONNECT of a device that is let in."""

    def __init__(
        self,
        *,
        v5: bool,
        reader: bool = False,
        on_deny: OnDeny = OnDeny.DROP,
        max_size: int | None = None,
        keep_alive: int = 0,
        **limits: int,
    ) -> None:
        self.v5, self.reader = v5, reader
        self._keep_alive = keep_alive
        # When the heartbeat beats, and what waits for the next second, depends on how the chunks are cut.
        self._uncut = bool(keep_alive) or "messages_per_second" in limits
        self.max_size = max_size
        """Maximum Packet Size of the device; Mosquitto does not count the first byte, nor do we then."""
        self.flipped = False
        self.closed = self._goodbye = False
        self.sound = True
        """No check has failed: what is found out at the end would hide it."""
        self.garbled = False
        """The device said what are no packets: bytes it meant for one may now stand in another."""
        self.device = READER if reader else LAMP
        self._policies = _policies(**limits)
        self._shareds = [context(self._policies[0], on_deny=on_deny) for _ in range(2)]
        self._connections = [DeviceConnection(one) for one in self._shareds]
        self._bus = Peer(v5=v5, aliases_max=ALIASES_MAX)
        self._device = Peer(v5=v5)

    def begin(self) -> Twin:
        props = b"\x27" + self.max_size.to_bytes(4, "big") if self.max_size else b""
        self.from_device(
            raw.connect(
                "c", v5=self.v5, username="lamp-1", password="s", props=props, keep_alive=self._keep_alive
            )
        )
        answer = connack(v5=self.v5, props=b"\x22" + ALIASES_MAX.to_bytes(2, "big") if self.v5 else b"")
        said = self.from_bus(answer)
        assert [packet.kind for packet in said.to_device] == [reference_parser.CONNACK]
        return self

    @property
    def state(self) -> State:
        return self._connections[0].state

    def from_device(self, data: bytes, cuts: Iterable[int] = ()) -> Said:
        return self._both(DeviceBytes, data, cuts)

    def from_bus(self, data: bytes, cuts: Iterable[int] = ()) -> Said:
        return self._both(BusBytes, data, cuts)

    def happens(self, event: Event) -> Said:
        return self._compare([react(connection, event) for connection in self._connections])

    def flip(self) -> Said:
        """Put the other policy in force."""
        self.flipped = not self.flipped
        for one in self._shareds:
            one.policy = self._policies[self.flipped]
        return self.happens(PolicyChanged(self.device))

    def _both(self, kind: type[DeviceBytes | BusBytes], data: bytes, cuts: Iterable[int]) -> Said:
        if not data:
            return Said([], [])  # no event loop gives an empty chunk
        whole = self._receive(0, kind(data))
        pieces: list[Command] = []
        inner = set() if self._uncut else {cut % len(data) for cut in cuts}
        marks = [0, *sorted(inner - {0}), len(data)]
        for start, end in pairwise(marks):
            pieces += self._receive(1, kind(data[start:end]))
        return self._compare([whole, pieces])

    def _receive(self, which: int, event: Event) -> list[Command]:
        commands = react(self._connections[which], event)
        # The shell lets everybody in: who may come in is not the question here.
        for command in list(commands):
            if isinstance(command, Authenticate):
                commands += self._connections[which].receive(Authenticated(self.device))
        return commands

    def _compare(self, answers: list[list[Command]]) -> Said:
        was_closed = self.closed
        self.sound = False
        one, other = (_summary(commands) for commands in answers)
        assert one == other, "cut otherwise, said otherwise"
        to_bus, to_device, closes = one
        if was_closed:
            assert one == (b"", b"", []), "something after the end"
        self.closed = was_closed or bool(closes)
        assert self.closed == (self.state is State.CLOSED)
        assert self.garbled or SECRET not in to_bus, "plaintext on the bus"
        bus, device = self._bus.feed(to_bus), self._device.feed(to_device)
        assert not self._bus.rest, "half a packet to the bus"
        assert not self._device.rest, "half a packet to the device"
        for packet in bus:
            self._check_bus(packet)
        for packet in device:
            self._check_device(packet)
        self.sound = True
        return Said(bus, device)

    def _check_bus(self, packet: Packet) -> None:
        # [MQTT-3.14.4-1]
        assert not self._goodbye, f"after a DISCONNECT: {packet}"
        self._goodbye = packet.kind == reference_parser.DISCONNECT
        if packet.kind == reference_parser.CONNECT:
            introduction = reference_parser.introduction(packet)
            assert introduction.client_id.startswith("lamp-1/"), "another one's session"
            if introduction.will is None:
                return
            packet = introduction.will
        elif packet.kind != reference_parser.PUBLISH:
            return
        size = len(packet.payload)
        if packet.topic.startswith(SENSITIVE) and not (packet.retain and not packet.payload):
            plain, sender = open_payload(packet.payload, packet.topic)
            assert sender == "lamp-1"
            assert plain or not packet.retain, "sealed, what clears the topic"
            packet.payload, size = plain, len(plain)
        fine = allowed(packet.topic, qos=packet.qos, retain=packet.retain, size=size, flipped=self.flipped)
        assert fine, f"denied, and on the bus: {packet}"

    def _check_device(self, packet: Packet) -> None:
        assert not self.max_size or 1 + len(packet.body) <= self.max_size, "longer than it takes"
        if packet.kind != reference_parser.PUBLISH:
            return
        size = len(packet.payload)
        if packet.topic.startswith(SENSITIVE) and not self.reader:
            assert packet.payload or packet.retain, "nobody vouches for it"
        if packet.topic.startswith(SENSITIVE) and packet.payload and not self.reader:
            assert SECRET not in packet.payload
            size = len(open_payload(packet.payload, packet.topic)[0])
        fine = allowed(packet.topic, qos=0, retain=packet.retain, size=size, flipped=self.flipped)
        assert fine, f"denied, and delivered: {packet}"


def _summary(commands: list[Command]) -> tuple[bytes, bytes, list[Close]]:
    to_bus = b"".join(
        one.data if isinstance(one, SendToBus) else one.connect
        for one in commands
        if isinstance(one, SendToBus | OpenBus)
    )
    to_device = b"".join(one.data for one in commands if isinstance(one, SendToDevice))
    return to_bus, to_device, [one for one in commands if isinstance(one, Close)]
