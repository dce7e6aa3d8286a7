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
    first_steps: bool,
) -> list[str]:
    """The lines. `bus` says which one, `role` is one that exists; the addresses are those in use.

    `first_steps`: say what to type next.
    """
    authority = settings.tls_cert_path.parent / "ca.crt"
    s = "s" if settings.tls_enabled else ""
    lines = [
        *(f"made       {path}" for path in made),
        *(f"devices    mqtt{s}://{bound}{_reach(bound)}" for bound in mqtt),
        f"bus        {bus}",
        *(
            f"API        http{s}://{bound}/api/v1/token and /.well-known/jwks.json{_reach(bound)}"
            for bound in http
        ),
        *(f"health     http://{bound}/health and /ready{_reach(bound)}" for bound in health),
        *([f"CA         {authority}"] if settings.tls_enabled else []),
    ]
    if not all(bound.is_loopback for bound in (*mqtt, *http)):
        here = f"GATEWAY_MQTT_BIND=127.0.0.1:{mqtt[0].port} GATEWAY_HTTP_BIND=127.0.0.1:{http[0].port}"
        lines.append(f"           for this machine alone: {here}")
    return [*lines, *_first_steps(settings, role, mqtt[0].port)] if first_steps else lines


def _reach(bound: Address) -> str:
    """Who can reach it, where that is more than this machine."""
    if bound.is_loopback:
        return ""
    every = bound.host in {"0.0.0.0", "::"}  # noqa: S104 - shown, not bound
    return f"   open to {'every network of this machine' if every else 'the network'}"


def _first_steps(settings: Settings, role: str, port: int) -> list[str]:
    """From no device to a message that somebody sees."""
    folder = Path(sys.argv[0]).parent
    admin = folder / "gateway-admin" if (folder / "gateway-admin").exists() else Path("gateway-admin")
    authority = settings.tls_cert_path.parent / "ca.crt"
    to = f"{f'--cafile {authority} ' if settings.tls_enabled else ''}-h localhost -p {port}"
    return [
        "",
        "Next, in another terminal: add a device that reports and one that listens; each prints its secret.",
        "",
        f"  {admin} device add lamp-1 --role {role}",
        f"  {admin} device add me --role operator",
        f"  mosquitto_sub {to} -u me -P SECRET-OF-ME -t 'devices/#' -v &",
        f"  mosquitto_pub {to} -u lamp-1 -P SECRET-OF-LAMP -t devices/lamp-1/telemetry -m 21.5",
    ]
