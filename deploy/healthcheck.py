#!/usr/bin/env python3
"""Whether the gateway in this container is alive: asks its /health, and ends with 0 or 1.

Follows GATEWAY_HEALTH_BIND. It runs every few seconds, so it imports no more than it needs: the settings are
read as the gateway reads them only where a file may hold that one.
"""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path

_TIMEOUT = 4.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def address() -> tuple[str, int]:
    """Where it answers: the first address of several."""
    given = [value for name, value in os.environ.items() if name.upper() == "GATEWAY_HEALTH_BIND" and value]
    if not given and (Path(".env").exists() or Path("gateway.toml").exists()):
        from gateway.config import ConfigError, read_settings

        try:
            bind = read_settings()[0].gateway_health_bind[0]
        except ConfigError:
            pass  # the gateway that runs was started with other words
        else:
            return bind.host, bind.port
    host, _, port = (given or ["127.0.0.1:8000"])[0].partition(",")[0].strip().rpartition(":")
    return host.strip("[]"), int(port)


def main() -> int:
    """The exit code."""
    host, port = address()
    connection = http.client.HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        said = answer.read(4_096).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer at {host}:{port}: {error}")
        return 1
    print(said)  # `docker inspect` shows it
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
