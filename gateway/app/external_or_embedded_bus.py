"""Opens the way to the bus: an external Mosquitto by the settings, or else an embedded one to try it out."""

from __future__ import annotations

from typing import NamedTuple

from gateway.app.followers.certificates import BusAuthority
from gateway.app.running_parts import RunningParts
from gateway.config import Settings
from gateway.connection.process_context import Context
from gateway.net.bus_endpoint import Bus
from gateway.net.data_plane_parts import DataPlane
from gateway.net.tasks import Tasks
from gateway.net.tls_contexts import bus_context
from gateway.observe.audit_dispatch import Audit
from gateway.observe.logs import get_logger
from gateway.services.bearer_cache import BearerCache
from gateway.services.direct_bus_requests import BusServices
from gateway.services.request_handler import RequestHandler

_log = get_logger()


class OpenedBus(NamedTuple):
    """Where the bus is."""

    bus: Bus
    authority: BusAuthority | None
    """Follows the file of the CA that its certificate is verified with; None where no CA is set."""
    note: str
    """What the startup banner says of it."""


async def open_bus(settings: Settings, context: Context, parts: RunningParts) -> OpenedBus:
    """Return the bus, and put the credentials for it into `context`. Raises OSError or SSLError."""
    address = settings.bus
    if address is None:
        return await _embedded(context, parts)
    if settings.mqtt_username is not None:
        context.bus_username = settings.mqtt_username.encode()
    if settings.mqtt_password is not None:
        context.bus_password = settings.mqtt_password.reveal()
    path = settings.mqtt_ca_path
    authority = BusAuthority(path) if path else None  # before the file is read
    bus = Bus(address.host, address.port, bus_context(path) if path else None)
    if authority is not None:
        authority.serve(bus)
    return OpenedBus(bus, authority, f"the Mosquitto bus at {address}")


async def _embedded(context: Context, parts: RunningParts) -> OpenedBus:
    from gateway.net.embedded_amqtt import EmbeddedBus

    embedded = EmbeddedBus()
    await embedded.start()
    parts.closing.push_async_callback(embedded.stop)
    context.bus_username, context.bus_password = embedded.username.encode(), embedded.password.encode()
    context.bus_speaks_v5 = False
    _log.warning(
        "embedded bus",
        reason="MQTT_BROKER is not set; this bus is for trying out: 3.1.1 only, and it forgets",
    )
    note = f"an embedded bus on 127.0.0.1:{embedded.port}, for trying out (MQTT 3.1.1 only)"
    return OpenedBus(Bus("127.0.0.1", embedded.port), None, note)


def bus_services(
    settings: Settings,
    plane: DataPlane,
    handler: RequestHandler,
    bearer_cache: BearerCache,
    audit: Audit,
    *,
    tasks: Tasks,
) -> BusServices:
    """What serves the service topics on the bus itself (GATEWAY_BUS_SERVICES); the caller runs it."""
    return BusServices(
        plane.context,
        plane.bus,
        request_handler=handler,
        bearer_cache=bearer_cache,
        login=plane.login,
        audit=audit,
        tasks=tasks,
        prefix=settings.service_topic_prefix,
    )
