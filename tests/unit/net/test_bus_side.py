"""The bus's socket of one connection, on the event loop that the gateway runs on."""

from __future__ import annotations

import asyncio
import gc
import weakref

import uvloop

from gateway.net.bus_endpoint import Bus
from gateway.net.bus_side import BusSide


class Device:
    """Whose bus it is."""

    def bus_lost(self, _exc):
        pass


class LeavesJustThen(BusSide):
    """Its device leaves in the moment in which the bus accepts."""

    def connection_made(self, transport):
        super().connection_made(transport)
        asyncio.get_running_loop().call_soon(self.connecting.cancel)


async def scenario():
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    device = Device()
    left, side = weakref.ref(device), LeavesJustThen(device)
    bus = Bus("127.0.0.1", server.sockets[0].getsockname()[1])
    side.connecting = asyncio.ensure_future(side.connect(bus))
    await asyncio.wait({side.connecting})
    was_cancelled = side.connecting.cancelled()
    del side.connecting
    del side, device
    await asyncio.sleep(0.05)
    server.close()
    await server.wait_closed()
    return was_cancelled, left()


def test_whose_device_leaves_just_as_the_bus_accepts_is_freed_at_once():
    """Kind: an end of which the loop does not tell leaves two objects that refer to each other."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(scenario()) == (True, None)
    finally:
        gc.enable()
