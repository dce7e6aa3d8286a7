"""Asks the bus whether it would serve a device now: for health, before a device finds out.

It does what devices do: it connects with a client id of the same form, subscribes, publishes, and receives
what it published; then it connects a second client, and the first has to stay. The Maximum Packet Size that
the bus has in its CONNACK is noted for connections in MQTT 3.1.1, in which it is not sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.bus_client.connect import connect
from gateway.bus_client.connection import PACKET_MAX_TOO_SMALL, Account, BusConnection, BusError, Handler
from gateway.bus_client.packet_reader import Delivery
from gateway.connection.process_context import Context
from gateway.mqtt.errors import PacketTooLarge
from gateway.mqtt.packets import Subscription
from gateway.net.bus_endpoint import Bus
from gateway.observe.logs import get_logger
from gateway.policy.engine.service_names import CHECKS

_DEADLINE = 1.2
"""Seconds for all of it."""
_ECHO_DEADLINE = 0.5
"""Seconds for the message to come back once the bus has acknowledged it."""
_FRESH = 1.0
"""Seconds for which a finding is given again, without asking the bus."""
_PACKET_MAX = 65_536
"""Bytes of the longest packet that the probe reads whole."""
_SILENT = "no answer in time"

_log = get_logger()


class BusProbe:
    """Connects under a client id that no device has, sends a message to itself, and disconnects."""

    def __init__(
        self,
        bus: Bus,
        context: Context,
        prefix: str,
        node: str,
        *,
        heard: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`prefix` is that of the service topics, below which no device sends or receives on the bus.

        `node` is the name of this gateway (GATEWAY_NODE): two on one bus must not take each other's session.
        `heard` is called with the seconds that a message took to the bus and back.
        """
        self._heard = heard
        self._bus = bus
        self._context = context
        # No device id has a tilde. In a device's client ids on the bus one stands before the digest of a
        # narrowed token's rights, and a digest never is "gateway" or "check": these sessions are nobody's
        # (promise 4).
        # Both have a slash, as all devices' ids on the bus, and the second begins with a letter, as most do.
        self._shaped = f"~gateway/{node}", f"gateway~check/{node}"
        self._plain = f"~gateway-{node}", f"gateway~check-{node}"
        self._topic = f"{prefix}{CHECKS}{node}"
        self._v5 = context.bus_speaks_v5
        self._asked_at = float("-inf")
        self._logged: tuple[bool, str] | None = None
        """What was logged last: whether the bus is reachable, and the detail."""
        self._lock = asyncio.Lock()

    def last(self) -> tuple[bool, str]:
        """What this check found last; or that a device's connection has since found the bus gone."""
        return self._bus.reachable, self._bus.detail

    async def check(self) -> tuple[bool, str]:
        """Whether the bus serves, and how. Asks at most once a second, and logs what changes."""
        async with self._lock:
            if asyncio.get_running_loop().time() - self._asked_at > _FRESH:
                await self._ask()
                self._asked_at = asyncio.get_running_loop().time()
        found = self.last()
        if found != self._logged:
            self._logged = found
            if self._bus.reachable:
                _log.info("bus reachable", bus=self._bus.detail)
            else:
                _log.error("bus unavailable", reason=self._bus.detail)
        return found

    async def _ask(self) -> None:
        why = await self._fault(self._shaped)
        if why == _SILENT and self._v5:
            # Some buses that don't speak MQTT 5 wait for more of the CONNECT instead of closing.
            self._v5 = False
            why = await self._fault(self._shaped)
        if why is None:
            self._bus.accepted()
            return
        self._v5 = self._context.bus_speaks_v5  # the next time it may be a different bus
        if why == _SILENT:
            self._bus.failed(why)
        elif await self._fault(self._plain) is None:
            what = why.partition(": ")[0]  # what it advises is of no use here: another client id is served
            self._bus.failed(
                f"it serves no client id with a slash, and every device has one ({what}): if it is "
                "Mosquitto 2.1 with a plugin, set auth_plugin_deny_special_chars false there"
            )
        else:
            self._bus.failed(why)

    async def _fault(self, client_ids: tuple[str, str]) -> str | None:
        """Why clients with these ids are not served; None if they are."""
        try:
            async with asyncio.timeout(_DEADLINE):
                await self._speak_to_itself(*client_ids)
        except TimeoutError:
            return _SILENT
        except BusError as error:
            return str(error)
        except PacketTooLarge:
            return PACKET_MAX_TOO_SMALL
        return None

    async def _speak_to_itself(self, client_id: str, second: str) -> None:
        context = self._context
        marker = context.new_client_id().encode()
        marker_came = asyncio.Event()

        def listen(_: BusConnection, message: Delivery) -> None:
            if message.payload == marker:
                marker_came.set()

        connection = await self._connect(client_id, listen)
        try:
            await connection.subscribe([Subscription(self._topic.encode(), 0)])
            began = asyncio.get_running_loop().time()
            await connection.publish(self._topic, marker, retain=False)
            try:
                async with asyncio.timeout(_ECHO_DEADLINE):
                    await marker_came.wait()
            except TimeoutError:
                raise BusError(
                    f"it takes what the gateway publishes to {self._topic} and does not deliver it: "
                    "check its access list"
                ) from None
            self._heard(asyncio.get_running_loop().time() - began)
            await self._check_two_clients(connection, client_id, second)
            context.bus_packet_max = connection.max_size
        finally:
            connection.close()

    async def _check_two_clients(self, first: BusConnection, client_id: str, second: str) -> None:
        """Connect a second client, and see that the first is still served.

        Raises BusError, with the setting of Mosquitto's to look at, if it is not.
        """
        try:
            other = await self._connect(second, _ignore)
        except BusError as error:
            what, _, _ = str(error).partition(": ")
            if second not in what:
                raise
            raise BusError(
                f"{what}; it serves {client_id}, but client ids of devices begin with the device id: leave "
                "its clientid_prefixes off"
            ) from None
        try:
            await first.subscribe([Subscription(self._topic.encode(), 0)])
        except BusError as error:
            raise BusError(
                f"one client has to go when another comes ({error}): leave its use_username_as_clientid off"
            ) from None
        finally:
            other.close()

    async def _connect(self, client_id: str, handler: Handler) -> BusConnection:
        account = Account(client_id, self._context.bus_username, self._context.bus_password)
        return await connect(self._bus, account, handler, max_size=_PACKET_MAX, v5=self._v5)


def _ignore(_: BusConnection, message: Delivery) -> None:
    """The handler of a client that subscribed to nothing."""
