"""Asks the bus whether it would serve a device now: for health, before a device finds out.

It does what devices do: connects with a client id of their shape, subscribes, publishes, and hears what it
said; then a second client comes, with a client id that begins as theirs do, and the first has to stay. What
the bus says of itself on the way (its longest packet) is noted for connections in MQTT 3.1.1, which are not
told.
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
"""For all of it, in seconds."""
_ECHO_DEADLINE = 0.5
"""For the message to come back once the bus has it, in seconds."""
_FRESH = 1.0
"""How long an answer is believed, in seconds."""
_PACKET_MAX = 65_536
_SILENT = "no answer in time"

_log = get_logger()


class BusProbe:
    """Connects as nobody's device, speaks to itself, and leaves."""

    def __init__(
        self,
        bus: Bus,
        shared: Context,
        prefix: str,
        node: str,
        *,
        heard: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`prefix` is that of the service topics, below which no device says or hears anything on the bus.

        `node` is the name of this gateway (GATEWAY_NODE): two on one host must not take each other's session.
        `heard` gets how many seconds a message took to the bus and back.
        """
        self._heard = heard
        self._bus = bus
        self._shared = shared
        # No device id has a tilde. In a device's client ids on the bus one stands before the digest of a
        # narrowed token's rights, and a digest never is "gateway" or "check": these sessions are nobody's
        # (promise 4).
        # They have the slash of all, and the second begins with a letter, as most devices' do.
        self._shaped = f"~gateway/{node}", f"gateway~check/{node}"
        self._plain = f"~gateway-{node}", f"gateway~check-{node}"
        self._topic = f"{prefix}{CHECKS}{node}"
        self._v5 = shared.bus_speaks_v5
        self._asked_at = float("-inf")
        self._logged: tuple[bool, str] | None = None
        """What the log was told last: reachable or not, and the detail."""
        self._lock = asyncio.Lock()

    def last(self) -> tuple[bool, str]:
        """What this check found, or a device's connection since, which may have met a bus that is gone."""
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
            # Some that don't speak MQTT 5 wait for more of its CONNECT instead of hanging up.
            self._v5 = False
            why = await self._fault(self._shaped)
        if why is None:
            self._bus.accepted()
            return
        self._v5 = self._shared.bus_speaks_v5  # what comes back may be a different bus
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
        """What keeps clients of these ids from being served."""
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
        shared = self._shared
        marker = shared.new_client_id().encode()
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
            await self._have_company(connection, client_id, second)
            shared.bus_packet_max = connection.max_size
        finally:
            connection.close()

    async def _have_company(self, first: BusConnection, client_id: str, second: str) -> None:
        """A second client comes, and the first, which was served a moment ago, is served still.

        Raises BusError with the setting of Mosquitto's to look at if not.
        """
        try:
            company = await self._connect(second, _ignore)
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
            company.close()

    async def _connect(self, client_id: str, handler: Handler) -> BusConnection:
        account = Account(client_id, self._shared.bus_username, self._shared.bus_password)
        return await connect(self._bus, account, handler, max_size=_PACKET_MAX, v5=self._v5)


def _ignore(_: BusConnection, message: Delivery) -> None:
    """Of one that subscribed to nothing."""
