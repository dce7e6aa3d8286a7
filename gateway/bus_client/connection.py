"""A connection to the bus in the gateway's own name: subscribes, publishes, and hands messages over.

Must not know what messages say. `gateway.bus_client.connect` makes one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import TypeVar, cast

from gateway.bus_client.packet_reader import BusReader, Delivery, Packet
from gateway.bus_client.refusal_words import of_answer
from gateway.mqtt.decode import decode_connack, decode_packet_id
from gateway.mqtt.encode import (
    DISCONNECT,
    PINGREQ,
    encode_ack,
    encode_connect,
    encode_properties,
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
)
from gateway.mqtt.errors import MqttError, PacketTooLarge, ProtocolError
from gateway.mqtt.packets import Connect, PacketType, Subscription, Version
from gateway.mqtt.properties import Property, PropertyId, find_number
from gateway.observe.logs import get_logger

DEADLINE = 5.0
"""Seconds that the bus may take to accept a connection, and to answer a CONNECT, SUBSCRIBE or PUBLISH."""
_KEEP_ALIVE_SECONDS = 60
_PING_SECONDS = 15.0
"""Seconds between two PINGREQs. A bus that sends nothing from one to the next is gone."""
_IN_FLIGHT_MAX = 20
"""Messages of QoS 1 that wait for their PUBACK."""
BACKLOG = 16_777_216
"""Bytes of messages that are held while others are handled."""
_PACKETS_AT_A_TIME = 64
"""Packets handled in one iteration of the event loop."""
_WRITE_BYTES = 65_536
"""Bytes of answers after which these are written before the end of the iteration."""
_BACKLOG_FULL, _BUS_FULL = 1, 2
"""Why nothing is read from the bus: too much is not handled yet, or the bus does not read our answers."""
_ANY_SIZE = 268_435_455 + 5
"""Bytes of the longest packet there can be (MQTT 5, 2.1.4)."""

_log = get_logger()
_Value = TypeVar("_Value")

Handler = Callable[["BusConnection", Delivery], None]

PACKET_MAX_TOO_SMALL = (
    "it takes no packet as long as those that the gateway has to send: raise its max_packet_size"
)
"""What is wrong with a bus whose Maximum Packet Size leaves no room for a SUBSCRIBE of ours."""


class BusError(Exception):
    """The bus is not there, or does not do what it is asked. The text says what to look at."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the gateway's CONNECT to the bus says of it."""

    client_id: str
    """No other client has it, and no device's is like it: those begin with the device id, which has neither a
    slash nor a tilde."""
    username: bytes | None
    password: bytes | None = field(repr=False)


class BusConnection(asyncio.Protocol):
    """One connection, from `connect` on until `closed` is done."""

    def __init__(self, version: Version, handler: Handler, max_size: int, backlog: int) -> None:
        loop = asyncio.get_running_loop()
        self.version = version
        self.closed: asyncio.Future[str] = loop.create_future()
        """Done when the connection has ended; its result says why."""
        self.hung_up = False
        """Whether the bus closed the connection without a DISCONNECT."""
        self.max_size = _ANY_SIZE
        """Longest packet that the bus takes, in bytes."""
        self._loop = loop
        self._handler = handler
        self._reader = BusReader(version, max_size)
        self._held_max = max_size + backlog
        self._working = False
        """Whether `_work` is about to be called."""
        self._unwritten: list[bytes] | None = None
        """Packets to be written together once those that came are handled: each write is costly."""
        self._unwritten_bytes = 0
        self._paused = 0
        self._transport: asyncio.Transport | None = None
        self._connack: asyncio.Future[int] = loop.create_future()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._ids = cycle(range(1, 65_536))
        self._slots = asyncio.Semaphore(_IN_FLIGHT_MAX)
        self._ping_timer: asyncio.TimerHandle | None = None
        self._ping_seconds = _PING_SECONDS
        self._pinged = False

    # Called by the gateway

    async def send_connect(self, account: Account) -> int:
        """Send the CONNECT; return the code of the CONNACK. Unless it is 0 the connection is of no use."""
        connect = Connect(
            version=self.version,
            clean_start=True,
            keep_alive=_KEEP_ALIVE_SECONDS,
            client_id=account.client_id.encode(),
            username=account.username,
            password=account.password,
            will=None,
            properties=[],
        )
        self._write(encode_connect(connect))
        code = await self._answer(self._connack)
        if code == 0:
            self._ping_timer = self._loop.call_later(self._ping_seconds, self._ping)
        return code

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Subscribe to all of these. Raises BusError when the bus refuses one of them, or a packet that long.

        In MQTT 3.1.1 the QoS is the only option of a filter: the others are left out.
        """
        if self.version is Version.V311:
            subscriptions = [Subscription(one.filter, one.qos) for one in subscriptions]
        wanted, properties = list(subscriptions), encode_properties([], self.version)
        try:
            body = await self._ask(lambda packet_id: encode_subscribe(packet_id, properties, wanted))
        except PacketTooLarge:
            raise BusError(PACKET_MAX_TOO_SMALL) from None
        codes = body[-len(wanted) :]
        refused = [(one.filter.decode(), code) for one, code in zip(wanted, codes, strict=False) if code > 2]
        if refused:
            topics = ", ".join(topic for topic, _ in refused)
            raise BusError(f"it lets the gateway not subscribe to {topics}{of_answer(refused[0][1])}")

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool, properties: Sequence[Property] = ()
    ) -> None:
        """Publish at QoS 1 and wait until the bus has it. Raises BusError, PacketTooLarge."""
        first_byte = PacketType.PUBLISH << 4 | 2 | retain
        encoded = encode_properties(list(properties), self.version)
        async with self._slots:
            body = await self._ask(
                lambda packet_id: encode_publish(first_byte, topic.encode(), packet_id, encoded, payload)
            )
        if len(body) > 2 and body[2] >= 0x80:
            raise BusError(f"it refuses what the gateway publishes to {topic}{of_answer(body[2])}")

    def unsubscribe(self, filters: Sequence[bytes]) -> None:
        """Unsubscribe from these. The bus can't refuse that: nobody waits for its answer."""
        packet_id = self._free_id()
        self._write(encode_unsubscribe(packet_id, encode_properties([], self.version), list(filters)))

    def send(self, packet: bytes) -> None:
        """Write a packet whose answer nobody waits for.

        Raises PacketTooLarge: the bus would disconnect us.
        """
        if len(packet) > self.max_size:
            raise PacketTooLarge("longer than the bus takes")
        self._write(packet)

    def close(self) -> None:
        """Send a DISCONNECT and close."""
        self._end("closed", DISCONNECT)

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The bus accepted."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """A chunk from the bus."""
        self._pinged = False
        self._reader.push(data)
        if self._reader.held > self._held_max:
            self._pause(_BACKLOG_FULL)
        if not self._working:
            self._working = True
            self._loop.call_soon(self._work)

    def pause_writing(self) -> None:
        """The bus reads our answers too slowly: nothing is read from it until it has caught up."""
        self._pause(_BUS_FULL)

    def resume_writing(self) -> None:
        """The bus caught up."""
        self._pinged = False
        self._resume(_BUS_FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """The bus is gone, or we closed."""
        self._transport = None
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        if not self.closed.done():
            self.hung_up = True
            self.closed.set_result(str(exc or "it closed the connection"))
        self._connack.cancel()
        for waiting in self._waiting.values():
            waiting.cancel()

    def _work(self) -> None:
        """Handle some of what came.

        The socket is read before the rest is: the bus drops what nobody reads.
        """
        self._working = False
        self._unwritten, self._unwritten_bytes = [], 0
        try:
            for _ in range(_PACKETS_AT_A_TIME):
                if self._paused & _BUS_FULL or self.closed.done():
                    return  # what is held stays until the bus reads again
                packet = self._reader.pop()
                if packet is None:
                    self._resume(_BACKLOG_FULL)
                    return
                self._take(packet)
        except MqttError as error:
            self._end(f"what answers there is no MQTT server: {error}")
        else:
            self._working = True
            self._loop.call_soon(self._work)
        finally:
            self._flush()
            self._unwritten = None

    def _pause(self, reason: int) -> None:
        self._paused |= reason
        if self._transport is not None:
            self._transport.pause_reading()

    def _resume(self, reason: int) -> None:
        before, self._paused = self._paused, self._paused & ~reason
        if before and not self._paused and self._transport is not None:
            self._transport.resume_reading()
        if before & _BUS_FULL and not self._working:
            self._working = True
            self._loop.call_soon(self._work)

    def _take(self, packet: Packet | Delivery) -> None:
        if isinstance(packet, Delivery):
            try:
                self._handler(self, packet)
            except Exception as error:  # noqa: BLE001 - a fault of ours costs this message, not all after it
                _log.error("internal error", topic=packet.topic, exc_info=error)
            if packet.packet_id:
                self._write(encode_ack(PacketType.PUBACK, packet.packet_id))
        else:
            self._control(packet)

    def _control(self, packet: Packet) -> None:
        if packet.kind == PacketType.CONNACK and not self._connack.done():
            connack = decode_connack(packet.body, 0, len(packet.body), self.version)
            self.max_size = find_number(connack.properties, PropertyId.MAXIMUM_PACKET_SIZE, _ANY_SIZE)
            in_flight_max = find_number(connack.properties, PropertyId.RECEIVE_MAXIMUM, _IN_FLIGHT_MAX)
            self._slots = asyncio.Semaphore(min(in_flight_max, _IN_FLIGHT_MAX) or 1)
            keep_alive = find_number(connack.properties, PropertyId.SERVER_KEEP_ALIVE, _KEEP_ALIVE_SECONDS)
            self._ping_seconds = min(_PING_SECONDS, keep_alive / 2) or _PING_SECONDS
            self._connack.set_result(connack.code)
        elif packet.kind in {PacketType.PUBACK, PacketType.SUBACK}:
            packet_id = decode_packet_id(packet.body, 0, len(packet.body))
            waiting = self._waiting.get(packet_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(packet.body)
        elif packet.kind == PacketType.DISCONNECT:
            code = packet.body[0] if packet.body else 0
            self._end(f"it disconnected the gateway with code {code}")
        elif packet.kind not in {PacketType.PINGRESP, PacketType.UNSUBACK}:
            raise ProtocolError("a packet that nobody asked for")

    async def _ask(self, packet_with: Callable[[int], bytes]) -> bytes:
        """Send a packet with a free packet identifier, and return the body of the bus's answer."""
        if self.closed.done():
            raise BusError(self.closed.result())
        packet_id = self._free_id()
        answer = self._waiting[packet_id] = self._loop.create_future()
        try:
            self.send(packet_with(packet_id))
            return await self._answer(answer)
        finally:
            del self._waiting[packet_id]

    def _free_id(self) -> int:
        return next(one for one in self._ids if one not in self._waiting)

    async def _answer(self, answered: asyncio.Future[_Value]) -> _Value:
        try:
            async with asyncio.timeout(DEADLINE):
                await asyncio.wait((answered,))
        except TimeoutError:
            self._end("it does not answer")
        if answered.cancelled() or not answered.done():
            raise BusError(await self.closed)
        return answered.result()

    def _ping(self) -> None:
        if self._pinged:
            self._end("it does not answer")
            return
        # If it is our backlog alone that keeps us from reading, the bus is not to be taken for silent.
        self._pinged = self._paused != _BACKLOG_FULL
        self._write(PINGREQ)
        self._ping_timer = self._loop.call_later(self._ping_seconds, self._ping)

    def _write(self, packet: bytes) -> None:
        if self._unwritten is not None:
            self._unwritten.append(packet)
            self._unwritten_bytes += len(packet)
            if self._unwritten_bytes > _WRITE_BYTES:
                self._flush()
        elif self._transport is not None:
            self._transport.write(packet)

    def _flush(self) -> None:
        if self._unwritten and self._transport is not None:
            self._transport.write(b"".join(self._unwritten))
            self._unwritten, self._unwritten_bytes = [], 0

    def _end(self, why: str, last: bytes = b"") -> None:
        if not self.closed.done():
            self.closed.set_result(why)
        self._flush()
        if self._transport is not None:
            if last:
                self._transport.write(last)
                self._transport.close()
            else:
                self._transport.abort()
