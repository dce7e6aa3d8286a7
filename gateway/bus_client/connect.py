"""Connects the gateway to the bus in its own name, in MQTT 5 if the bus speaks it."""

from __future__ import annotations

import asyncio

from gateway.bus_client.connection import BACKLOG, DEADLINE, Account, BusConnection, BusError, Handler
from gateway.bus_client.refusal_words import of_connack
from gateway.mqtt.packets import Version
from gateway.mqtt.reason_codes import Reason, ReturnCode
from gateway.net.bus_endpoint import Bus
from gateway.net.bus_side import not_connected

_OTHER_VERSION = {Reason.UNSUPPORTED_PROTOCOL_VERSION, ReturnCode.UNACCEPTABLE_PROTOCOL_VERSION}


async def connect(
    bus: Bus, account: Account, handler: Handler, *, max_size: int, backlog: int = BACKLOG, v5: bool = True
) -> BusConnection:
    """A connection that the bus accepted, in MQTT 5 if the bus speaks it. Raises BusError.

    `handler` is called with every message; if its packet has more than `max_size` bytes, without the payload.
    At most `max_size` and `backlog` bytes are held that came and were not handled yet: then nothing more is
    read from the bus.
    """
    versions = (Version.V5, Version.V311) if v5 else (Version.V311,)
    for version in versions:
        connection = await _open(bus, BusConnection(version, handler, max_size, backlog))
        code = -1
        try:
            code = await connection.send_connect(account)
        except BusError:
            # Some buses that don't speak MQTT 5 just close the connection.
            if version is versions[-1] or not connection.hung_up:
                raise
            continue
        finally:
            # Also when the caller's deadline cancels this: the connection would stay open for ever.
            if code:
                connection.close()
        if code == 0:
            return connection
        if code not in _OTHER_VERSION:
            raise BusError(of_connack(code, account.client_id))
    raise BusError("it speaks neither MQTT 5 nor MQTT 3.1.1")


async def _open(bus: Bus, connection: BusConnection) -> BusConnection:
    try:
        async with asyncio.timeout(DEADLINE):
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                bus.host,
                bus.port,
                ssl=bus.tls,
                ssl_shutdown_timeout=2 if bus.tls else None,
            )
    except TimeoutError:
        raise BusError("no answer in time") from None
    except OSError as error:
        raise BusError(not_connected(error)) from None
    return connection
