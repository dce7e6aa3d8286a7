"""Puts together the control socket: what an administrator can ask of the running gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.app.running_parts import RunningParts
from gateway.config import Settings
from gateway.control.commands import AlertsNow, Look, Pokes, RefusedLately, WhoIsHere, commands
from gateway.control.server import ControlServer
from gateway.control.traces import Traces
from gateway.net.data_plane_parts import DataPlane
from gateway.net.live_updates import LiveUpdates
from gateway.observe.device_watchers import EventListeners
from gateway.observe.logs import get_logger
from gateway.observe.recent_refusals import RefusedClients
from gateway.store import Store
from gateway.store.alerts import AlertRow

_log = get_logger()


async def open_control(
    settings: Settings,
    plane: DataPlane,
    updates: LiveUpdates,
    store: Store,
    *,
    refused: RefusedClients,
    listeners: EventListeners,
    alerts: Callable[[], Sequence[AlertRow]],
    looks: Mapping[str, Look],
    parts: RunningParts,
) -> None:
    """Listen, if a socket can be made. Without one the gateway serves, and finds changes by its own looks.

    `looks` are what a poke calls, by the subject that it names.
    """
    asked = commands(
        Pokes(looks, parts.tasks.start),
        WhoIsHere(plane, updates, store, parts.tasks.start),
        RefusedLately(refused),
        AlertsNow(alerts),
        Traces(plane, store, listeners),
    )
    control = ControlServer(settings.gateway_data_dir, asked, start=parts.tasks.start)
    parts.closing.push_async_callback(control.close)
    try:
        await control.open()
    except OSError as error:
        _log.warning("no control socket", reason=f"{error}; gateway-admin can't ask who is connected")
