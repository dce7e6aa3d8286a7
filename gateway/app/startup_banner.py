"""What a start says to whoever started it: what was made, what listens where, and what to type next."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.config import Address, Settings
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Policy, Rights
from gateway.policy.engine.rules import Action

_TOPIC = "devices/lamp-1/telemetry"
_FILTER = "devices/#"


def banner(
    settings: Settings,
    made: Sequence[str],
    *,
    bus: str,
    policy: Policy,
    mqtt: Sequence[Address],
    http: Sequence[Address],
    health: Sequence[Address],
    first_steps: bool,
) -> list[str]:
    """The lines.

    `made` are the files made for this start; `bus` says which bus it is; the addresses are those that are
    listened at.

    `first_steps`: say what to type next, with roles of `policy` that may do it.
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
    return [*lines, *_first_commands(settings, policy, mqtt[0].port)] if first_steps else lines


def _reach(bound: Address) -> str:
    """Who can reach it, where that is more than this machine."""
    if bound.is_loopback:
        return ""
    every = bound.host in {"0.0.0.0", "::"}  # noqa: S104 - shown, not bound
    return f"   open to {'every network of this machine' if every else 'the network'}"


def _first_commands(settings: Settings, policy: Policy, port: int) -> list[str]:
    """From no device to a message that somebody sees."""
    folder = Path(sys.argv[0]).parent
    admin = folder / "gateway-admin" if (folder / "gateway-admin").exists() else Path("gateway-admin")
    reports = _role(policy, "sensor", "lamp-1", lambda role: role.decide(Action.PUBLISH, _TOPIC).allowed)
    listens = _role(policy, "operator", "me", _may_listen)
    if not reports or not listens:
        roles = ", ".join(sorted(policy.roles)) or "write a role first"
        return [
            "",
            "Next, in another terminal: add a device, which prints its secret, and see what it may do.",
            "",
            f"  {admin} device add ID --role ROLE   # {roles}",
            f"  {admin} acl show ID",
        ]
    authority = settings.tls_cert_path.parent / "ca.crt"
    to = f"{f'--cafile {authority} ' if settings.tls_enabled else ''}-h localhost -p {port}"
    return [
        "",
        "Next, in another terminal: add a device that reports and one that listens; each prints its secret.",
        "",
        f"  {admin} device add lamp-1 --role {reports}",
        f"  {admin} device add me --role {listens}",
        f"  mosquitto_sub {to} -u me -P SECRET-OF-ME -t '{_FILTER}' -v &",
        f"  mosquitto_pub {to} -u lamp-1 -P SECRET-OF-LAMP -t {_TOPIC} -m 21.5",
    ]


def _may_listen(rights: Rights) -> bool:
    return rights.decide_filter(_FILTER).allowed and rights.decide(Action.SUBSCRIBE, _TOPIC).allowed


def _role(policy: Policy, preferred: str, device: str, serves: Callable[[Rights], bool]) -> str:
    """A role that gives this device rights for which `serves` is true; empty if none does."""
    for role in sorted(policy.roles, key=lambda name: (name != preferred, name)):
        if serves(policy.rights(Identity(device, (role,), {}, device))):
            return role
    return ""
