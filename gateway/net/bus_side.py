"""The bus's end of one device's connection: bytes in both directions, and nothing of its own."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast


class Owner(Protocol):
    """The device's side of the same connection: `gateway.net.device_side.DeviceSide`."""

    def bus_bytes(self, data: bytes) -> None:
        """A chunk from the bus."""

    def bus_lost(self, exc: Exception | None) -> None:
        """The bus is gone, or we closed."""

    def pause_reading(self, reason: int) -> None:
        """Read nothing from the device for this reason."""

    def resume_reading(self, reason: int) -> None:
        """This reason is gone."""


class BusSide(asyncio.Protocol):
    """Passes what the bus sends to the device's side."""

    __slots__ = ("_device", "_paused", "transport")

    def __init__(self, device: Owner) -> None:
        self._device = device
        self._paused = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The bus accepted."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """A chunk from the bus."""
        self._device.bus_bytes(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The bus is gone, or we closed."""
        self.transport = None
        self._device.bus_lost(exc)

    def pause_reading(self, reason: int) -> None:
        """Read nothing from the bus for this reason."""
        if not self._paused and self.transport is not None:
            self.transport.pause_reading()
        self._paused |= reason

    def resume_reading(self, reason: int) -> None:
        """This reason is gone."""
        if not self._paused & reason:
            return
        self._paused &= ~reason
        if not self._paused and self.transport is not None:
            self.transport.resume_reading()

    @property
    def paused(self) -> int:
        """Why nothing is read from the bus; 0 for no reason."""
        return self._paused

    def pause_writing(self) -> None:
        """The bus reads slower than the device writes."""
        self._device.pause_reading(BUS_FULL)

    def resume_writing(self) -> None:
        """The bus caught up."""
        self._device.resume_reading(BUS_FULL)


# Why nothing is read from a device, or from the bus. Reading goes on when no reason is left.
AUTHENTICATING = 1
OVER_RATE = 2
BUS_FULL = 4
NOT_ITS_TURN = 8
DEVICE_FULL = 16


def not_connected(error: OSError) -> str:
    """Why there is no connection to the bus, in words: never empty."""
    return str(error) or "it ended the connection in the TLS handshake"
