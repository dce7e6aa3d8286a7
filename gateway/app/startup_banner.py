"""What a start says to whoever started it: what was made, what listens where, and what to type next."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.config import Address, Settings


def banner(
    settings: Settings,
    made: Sequence[str],
    *,
    bus: str,
    role: str,
    mqtt: Sequence[Address],
    http: Sequence[Address],
    health: Sequence[Address],
) -> list[str]:
    """The lines. `bus` says which one, `role` is one that exists; the addresses are those in use."""
    authority = settings.tls_cert_path.parent / "ca.crt"
    folder = Path(sys.argv[0]).parent
    admin = folder / "gateway-admin" if (folder / "gateway-admin").exists() else Path("gateway-admin")
    security = f"--cafile {authority} " if settings.tls_enabled else ""
    message = "-u lamp-1 -P SECRET -t devices/lamp-1/telemetry -m 21.5"
    s = "s" if settings.tls_enabled else ""
    return [
        *(f"made       {path}" for path in made),
        *(f"devices    mqtt{s}://{bound}" for bound in mqtt),
        f"bus        {bus}",
        *(f"API        http{s}://{bound}/api/v1/token and /.well-known/jwks.json" for bound in http),
        *(f"health     http://{bound}/health and /ready" for bound in health),
        *([f"CA         {authority}"] if settings.tls_enabled else []),
        "",
        "Next, in another terminal: add a device, and send a message with the secret it prints.",
        "",
        f"  {admin} device add lamp-1 --role {role}",
        f"  mosquitto_pub {security}-h localhost -p {mqtt[0].port} {message}",
    ]
