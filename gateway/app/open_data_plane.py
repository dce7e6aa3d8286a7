"""Puts together what all device connections use, with the bounds on how many there are."""

from __future__ import annotations

from gateway.app.file_descriptors import allowed, connections_that_fit
from gateway.app.running_parts import RunningParts
from gateway.auth.login_gate import LoginGate
from gateway.connection.context import Context
from gateway.net.bus_endpoint import Bus
from gateway.net.connection_registry import ConnectionRegistry
from gateway.net.connection_reports import ConnectionReports
from gateway.net.data_plane import DataPlane
from gateway.observe.audit_dispatch import Audit
from gateway.observe.refused_clients import RefusedClients
from gateway.services.request_handler import RequestHandler
from gateway.services.request_rates import Rates


def open_data_plane(
    context: Context,
    bus: Bus,
    login: LoginGate,
    handler: RequestHandler,
    audit: Audit,
    *,
    refused: RefusedClients,
    parts: RunningParts,
) -> DataPlane:
    """Nobody is connected yet. What got no line of its own is logged at the end."""
    rates = Rates(context.now)
    plane = DataPlane(
        context=context,
        bus=bus,
        login=login,
        services=handler.answer,
        registry=ConnectionRegistry(
            lambda: context.policy.limits,
            may_connect=lambda device_id: rates.take(
                device_id, context.policy.limits.connects_per_minute, 60_000
            ),
            room=connections_that_fit(allowed()),
        ),
        reports=ConnectionReports(audit, context.now, refused.again),
        tasks=parts.tasks,
    )
    parts.closing.callback(plane.reports.connects.log_rest)
    parts.closing.callback(plane.reports.strangers.log_rest)
    return plane
