"""Puts together what is saved off the message path, and loads what was saved before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from gateway.app.running_parts import RunningParts
from gateway.app.savers.bus_holdings import BusHoldingsSaver
from gateway.app.savers.denial_explanations import PolicyDenialsSaver
from gateway.app.savers.history import HistorySaver
from gateway.app.savers.issued_tokens import IssuedTokensSaver
from gateway.app.savers.key_uses import KeyUsesSaver
from gateway.app.savers.recent_refusals import RecentRefusalsSaver
from gateway.app.savers.usage import UsageSaver
from gateway.app.startup_preparation import StartError
from gateway.connection.process_context import Context
from gateway.observe.history import History
from gateway.observe.recent_refusals import RefusedClients
from gateway.observe.save_failures import Saves
from gateway.services.token_issuer import TokenIssuer
from gateway.store import Store, StoreError
from gateway.store.device_directory import Directory

DevicesChanged: TypeAlias = Callable[[frozenset[str]], None]
"""Called with the ids of devices that were added, changed or removed."""


async def open_savers(
    context: Context,
    store: Store,
    directory: Directory,
    token_issuer: TokenIssuer,
    refused_clients: RefusedClients,
    *,
    parts: RunningParts,
    saves: Saves,
    history: History,
    bus_forgets: bool,
) -> tuple[DevicesChanged, PolicyDenialsSaver]:
    """Make all that save to the store; return what tells them of changed devices, and the saver of refusals.

    Raises StartError. With `bus_forgets` the bus keeps nothing over a restart (the embedded one).
    """
    parts.keep_saving(KeyUsesSaver(store, context, saves))
    parts.keep_saving(IssuedTokensSaver(store, token_issuer, saves))
    usage = UsageSaver(store, context, directory.get, saves)
    parts.keep_saving(usage)
    measured = HistorySaver(store, history, saves)
    held = BusHoldingsSaver(store, context, directory.get, saves)
    try:
        await measured.load(context.now())
        await held.load(bus_forgets=bus_forgets)
    except StoreError as error:
        raise StartError([str(error)]) from error
    parts.keep_saving(measured)
    parts.keep_saving(held)
    refusals = PolicyDenialsSaver(store, context.counters, saves)
    parts.keep_saving(refusals)
    clients = RecentRefusalsSaver(store, refused_clients, saves)
    await clients.load()
    parts.keep_saving(clients)

    def devices_changed(touched: frozenset[str]) -> None:
        held.devices_changed(touched)
        usage.devices_changed(touched)

    return devices_changed, refusals
