"""Where the bus is, how it is believed, and whether it answered when it was last asked."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from gateway.system.addresses import shown


@dataclass(slots=True)
class Bus:
    """Mosquitto, as all connections of a process reach it."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    reachable: bool = False
    detail: str = "not asked yet"
    losses: int = 0
    """Connections of devices that the bus ended, or that broke: when many do, it is worth asking it."""

    def answered(self) -> None:
        """It took a connection."""
        self.reachable, self.detail = True, shown(self.host, self.port)

    def failed(self, why: str) -> None:
        """It did not."""
        self.reachable, self.detail = False, f"{shown(self.host, self.port)}: {why}"
