"""Puts together what all device connections use, with the bounds on how many there are."""

from __future__ import annotations

from collections.abc import Callable

from gateway.app.file_descriptors import allowed, connections_that_fit
from gateway.app.running_parts import RunningParts
from gateway.auth.login_gate import LoginGate
from gateway.connection.gcra_rate_limit import Rates
from gateway.connection.process_context import Context
from gateway.net.bus_endpoint import Bus
from gateway.net.connection_audit_and_log import ConnectionReports
from gateway.net.data_plane_parts import DataPlane
from gateway.net.live_connections import ConnectionRegistry
from gateway.observe.audit_dispatch import Audit
from gateway.observe.recent_refusals import RefusedClients
from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits
from gateway.services.request_handler import RequestHandler


def build_data_plane(
    context: Context,
    bus: Bus,
    login: LoginGate,
    handler: RequestHandler,
    audit: Audit,
    *,
    find: Callable[[str], Device | None],
    refused: RefusedClients,
    parts: RunningParts,
) -> DataPlane:
    """The data plane, with no connection yet.

    `find` gives the device with an id, as the store has it now. When the gateway stops, connects and
    strangers that got no log line of their own are logged as counts.
    """
    rates = Rates(context.now)

    def limits_of(device_id: str) -> Limits:
        device = find(device_id)
        return context.policy.limits_of(device.roles if device else ())

    plane = DataPlane(
        context=context,
        bus=bus,
        login=login,
        services=handler.answer,
        registry=ConnectionRegistry(
            lambda: context.policy.limits,
            limits_of=limits_of,
            counters=context.counters,
            may_connect=lambda device_id, limits: rates.take(device_id, limits.connects_per_minute, 60_000),
            room=connections_that_fit(allowed()),
        ),
        reports=ConnectionReports(audit, context.now, refused.again),
        tasks=parts.tasks,
    )
    parts.closing.callback(plane.reports.connects.log_rest)
    parts.closing.callback(plane.reports.strangers.log_rest)
    return plane
