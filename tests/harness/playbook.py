"""Playbooks: what a test does to a DeviceConnection reads as the trace of a protocol.

    assert (
        established()
        >> DeviceBytes(raw.publish("ok", b"1"))
        << SendToBus(raw.publish("ok", b"1"))
    )

`>>` gives the connection an event, `<<` names the next command it answered with; what was answered and
not named fails the test, and the trace so far is shown. Packets are built by `harness.raw`, sealed
payloads are opened here with `cryptography` alone: nothing in here repeats a fault of the gateway.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterable
from itertools import count
from unittest.mock import ANY

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.connection.audit_vocabulary import Report
from gateway.connection.commands import (
    Authenticate,
    AwaitTurn,
    Close,
    Command,
    Established,
    OpenBus,
    SendToDevice,
)
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import Authenticated, BusBytes, DeviceBytes, Event, Turn
from gateway.connection.process_context import Context
from gateway.keys.key_ring import Key, KeyRing, KeyState, Nonces
from gateway.policy.engine.identity import Device, Grant
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule
from harness import raw

NOW = 1_764_000_000_000
KEY = bytes(range(32))
KEY_ID = "k1"

LAMP = Device(
    device_id="lamp-1",
    roles=("lamp",),
    labels={},
    enabled=True,
    credential="",
    version=1,
    created_at=0,
    updated_at=0,
)
READER = dataclasses.replace(LAMP, roles=("lamp", "reader"))
"""The same device, with the right to open what is sealed."""


def rule(topic: str, *actions: str, effect: Effect = Effect.ALLOW, **conditions: object) -> Rule:
    return Rule(effect, frozenset(map(Action, actions)), topic, file="lamp.toml", line=1, **conditions)  # type: ignore[arg-type]


BOTH = ("publish", "subscribe")
ROLES = (
    Role(
        "lamp",
        "",
        (
            rule("ok", *BOTH),
            rule("ok/#", *BOTH),
            rule("ok/no/#", *BOTH, effect=Effect.DENY),
            rule("low/#", *BOTH, max_qos=1, retain=False, max_payload=16),
            rule("private/#", *BOTH),
            rule("private/no/#", *BOTH, effect=Effect.DENY),
            rule("vault/#", *BOTH, max_qos=1, retain=False, max_payload=16),
        ),
    ),
    Role("reader", "", (rule("private/#", "decrypt"), rule("vault/#", "decrypt"))),
)


def policy(roles: Iterable[Role] = ROLES, **limits: int) -> Policy:
    """Sensitive are `private/#` and `vault/#`; `limits` are fields of Limits."""
    return Policy(roles, sensitive=["private/#", "vault/#"], limits=Limits(**limits), reserved="gateway")


def ring() -> KeyRing:
    # Nonces that can be foretold: two rings give the same envelopes.
    return KeyRing([Key(KEY_ID, KEY, KeyState.ACTIVE, 0)], Nonces(bytes), {})


def context(in_force: Policy | None = None, **settings: object) -> Context:
    ids = count(1)
    account = {"bus_username": b"gate", "bus_password": b"way"}
    return Context(
        policy=in_force or policy(),
        ring=ring(),
        now=lambda: NOW,
        new_client_id=lambda: f"auto-{next(ids)}",
        **account | settings,  # type: ignore[arg-type]
    )


def seal(plaintext: bytes, topic: str, *, sender: str = "lamp-2", nonce: bytes = b"n" * 12) -> bytes:
    """An envelope, made apart from `gateway.keys.payload_envelope`."""
    bound = f"1\0AES-256-GCM\0{KEY_ID}\0{NOW}\0{topic}\0{sender}".encode()
    envelope = {
        "encrypted": True,
        "algorithm": "AES-256-GCM",
        "key_id": KEY_ID,
        "data": base64.b64encode(nonce + AESGCM(KEY).encrypt(nonce, plaintext, bound)).decode(),
        "timestamp": NOW,
        "v": 1,
        "topic": topic,
        "sender": sender,
    }
    return json.dumps(envelope, separators=(",", ":")).encode()


def open_payload(envelope: bytes, topic: str) -> tuple[bytes, str]:
    """Payload and sender. Raises whatever goes wrong."""
    fields = json.loads(envelope)
    assert list(fields) == ["encrypted", "algorithm", "key_id", "data", "timestamp", "v", "topic", "sender"]
    assert fields["topic"] == topic
    names = ("v", "algorithm", "key_id", "timestamp", "topic", "sender")
    bound = "\0".join(str(fields[name]) for name in names).encode()
    data = base64.b64decode(fields["data"], validate=True)
    return AESGCM(KEY).decrypt(data[:12], data[12:], bound), fields["sender"]


class Sealed:
    """Equals a PUBLISH like this one whose payload is an envelope of `payload`, sent by lamp-1."""

    def __init__(self, topic: str, payload: bytes, **publish: object) -> None:
        self._topic, self._payload = topic, payload
        self._publish = publish

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, bytes) or b'{"encrypted":true' not in other:
            return False
        envelope = other[other.index(b'{"encrypted":true') :]
        return (
            open_payload(envelope, self._topic) == (self._payload, "lamp-1")
            and raw.publish(self._topic, envelope, **self._publish) == other  # type: ignore[arg-type]
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Sealed({self._topic!r}, {self._payload!r}, {self._publish})"


def refused(kind: str, topic: str, action: str = "publish") -> Report:
    """The report of a refusal, whatever its words."""
    return Report(kind, "refused", ANY, action, topic, ANY)


def limited(place: str = "acl/limits.toml") -> Report:
    """The report of a limit that was reached; `place` is where it stands."""
    return Report("limit", "refused", ANY, rule=place)


TURNED_AWAY = Report("login", "refused", ANY)
"""What the admins are told of a connection that is refused before anybody is authenticated."""


def connack(code: int = 0, *, v5: bool = False, session_present: bool = False, props: bytes = b"") -> bytes:
    return raw.packet(0x20, bytes([session_present, code]) + (raw.properties(props) if v5 else b""))


def suback(packet_id: int, *codes: int, v5: bool = False, props: bytes = b"") -> bytes:
    return raw.packet(
        0x90, packet_id.to_bytes(2, "big") + (raw.properties(props) if v5 else b"") + bytes(codes)
    )


def told(kind: int, packet_id: int, code: int, text: str) -> bytes:
    """A v5 acknowledgement with a Reason String."""
    reason = raw.properties(b"\x1f" + raw.text(text))
    return raw.packet(kind, packet_id.to_bytes(2, "big") + bytes([code]) + reason)


def disconnect(code: int) -> bytes:
    """A v5 DISCONNECT with nothing but its reason."""
    return raw.packet(0xE0, bytes([code]))


class Ends:
    """The connection ends for a fault of a peer: Close, and perhaps a DISCONNECT with an error before it.

    Which faults get one, and with which code, is Mosquitto's choice: compared with Mosquitto itself, not
    here. Where the code is ours, it is given.
    """

    def __init__(self, code: int | None = None) -> None:
        self._code = code

    def fits(self, commands: list[Command]) -> bool:
        match commands:
            case [Close()]:
                return self._code is None
            case [SendToDevice(data), Close()]:
                return data[0] == 0xE0 and data[2] >= 0x80 and self._code in {None, data[2]}
        return False

    def __repr__(self) -> str:
        return f"Ends({self._code})"


def react(connection: DeviceConnection, event: Event) -> list[Command]:
    """All that comes of an event: as many turns as it takes, as if nobody else were there."""
    connection._stage._context.budgets.work.begin()
    commands = connection.receive(event)
    while AwaitTurn() in commands:
        commands = [one for one in commands if one != AwaitTurn()]
        connection._stage._context.budgets.work.begin()
        commands += connection.receive(Turn())
    return commands


class Playbook:
    """Compares as it goes. Use it in an `assert`, which also sees that nothing is left at the end."""

    def __init__(self, connection: DeviceConnection) -> None:
        self.connection = connection
        self._left: list[Command] = []
        self._trace: list[str] = []

    def __rshift__(self, event: Event) -> Playbook:
        self._nothing_left()
        self._trace.append(f">> {_show(event)}")
        self.connection._stage._context.budgets.work.begin()
        self._left = self.connection.receive(event)
        return self

    def __lshift__(self, command: Command | Ends) -> Playbook:
        if isinstance(command, Ends):
            if not command.fits(self._left):
                self._fail(f"<< {command!r}   was expected, and there came", *self._left)
            self._left = []
            return self
        got = self._left.pop(0) if self._left else None
        if got != command:
            self._fail(f"<< {_show(command)}   was expected, and there came", got)
        self._trace.append(f"<< {_show(command)}")
        return self

    def __bool__(self) -> bool:
        self._nothing_left()
        return True

    def _nothing_left(self) -> None:
        if self._left:
            self._fail("there came, unexpected,", *self._left)

    def _fail(self, what: str, *got: object) -> None:
        raise AssertionError("\n".join([*self._trace, what, *(f"   {_show(one)}" for one in got)]))


def established(
    on: Context | None = None,
    *,
    v5: bool = False,
    device: Device = LAMP,
    grant: Grant | None = None,
    certificate_ends: int | None = None,
    connack_props: bytes = b"",
    passed_on: bytes | None = None,
    client_id: str = "c",
    **connect: object,
) -> Playbook:
    """A playbook in which device and bus have said yes. `connect` as for `raw.connect`.

    `passed_on` are the CONNACK's properties towards the device, where they differ from the bus's.
    """
    answer = connack(v5=v5, props=connack_props)
    told = connack(v5=v5, props=connack_props if passed_on is None else passed_on)
    book = Playbook(DeviceConnection(on or context()))
    assert (
        book
        >> DeviceBytes(raw.connect(client_id, v5=v5, username=device.device_id, password="s", **connect))  # type: ignore[arg-type]
        << Authenticate(device.device_id.encode(), b"s")
        >> Authenticated(device, grant, certificate_ends)
        << OpenBus(ANY)
        >> BusBytes(answer)
        << SendToDevice(told)
        << Established()
    )
    return book


def _show(one: object) -> str:
    # Not the repr, which hides passwords.
    if not dataclasses.is_dataclass(one):
        return repr(one)
    values = ", ".join(f"{field.name}={getattr(one, field.name)!r}" for field in dataclasses.fields(one))
    return f"{type(one).__name__}({values})"
