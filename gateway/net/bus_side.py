"""The bus's socket of one device connection: connects, and passes bytes both ways."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from gateway.net.bus_endpoint import Bus
from gateway.net.fault_containment import contained
from gateway.net.pause_reasons import BUS_FULL, PausedReading


class Owner(Protocol):
    """The device's side of the same connection: `gateway.net.device_side.DeviceSide`."""

    def bus_bytes(self, data: bytes) -> None:
        """A chunk from the bus."""

    def bus_lost(self, exc: Exception | None) -> None:
        """The connection to the bus has ended, from either side."""

    def pause_reading(self, reason: int) -> None:
        """Read nothing from the device for this reason."""

    def resume_reading(self, reason: int) -> None:
        """This reason holds no longer."""

    def fault(self, error: Exception) -> None:
        """A fault of ours: it ends this connection and no other."""


class BusSide(PausedReading, asyncio.Protocol):
    """Passes what the bus sends to the device's side."""

    __slots__ = ("_device",)

    def __init__(self, device: Owner) -> None:
        super().__init__()
        self._device = device

    async def connect(self, bus: Bus) -> None:
        """Connect to the bus. Raises OSError: see `not_connected`. Leaves no socket if it fails."""
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: self, bus.host, bus.port, ssl=bus.tls, ssl_shutdown_timeout=2 if bus.tls else None
            )
        except asyncio.CancelledError:
            # Just after `connection_made`: then uvloop closes the transport and calls no `connection_lost`.
            if (transport := self.transport) is not None:
                self.transport = None
                transport.abort()
            raise

    def fault(self, error: Exception) -> None:
        """A fault of ours: it ends the whole connection."""
        self._device.fault(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The bus accepted."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """A chunk from the bus."""
        self._device.bus_bytes(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection to the bus has ended, from either side."""
        self.transport = None
        self._device.bus_lost(exc)

    @contained
    def pause_writing(self) -> None:
        """The bus reads slower than the device writes."""
        self._device.pause_reading(BUS_FULL)

    @contained
    def resume_writing(self) -> None:
        """The bus caught up."""
        self._device.resume_reading(BUS_FULL)


def not_connected(error: OSError) -> str:
    """Why there is no connection to the bus, in words: never empty."""
    return str(error) or "it ended the connection in the TLS handshake"
