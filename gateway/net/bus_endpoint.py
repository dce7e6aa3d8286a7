"""Where the bus is, how its certificate is checked, and whether the last connection to it succeeded."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from gateway.system.ip_address_blocks import shown


@dataclass(slots=True)
class Bus:
    """Mosquitto, as all connections of a process reach it."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    reachable: bool = False
    detail: str = "not asked yet"
    """Its address; after a failure also why."""
    losses: int = 0
    """Established connections that the bus ended or that broke, counted to notice when many do at once."""

    def accepted(self) -> None:
        """The bus accepted a connection."""
        self.reachable, self.detail = True, shown(self.host, self.port)

    def failed(self, why: str) -> None:
        """The bus did not accept one; `why` says how it failed."""
        self.reachable, self.detail = False, f"{shown(self.host, self.port)}: {why}"
