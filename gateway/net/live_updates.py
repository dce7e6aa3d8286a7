"""Brings changes to the live connections, so that a decision takes effect at once (promise 6).

The one place where the control side (HTTP, admin commands, followers of files) speaks to the data side. Must
not know where a change came from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.connection.audit_vocabulary import refused_session
from gateway.connection.events import AccessWithdrawn, Event, Kicked, PolicyChanged
from gateway.connection.transition_table import State
from gateway.net.connection_audit_and_log import ConnectionReports
from gateway.net.live_connections import ConnectionRegistry, LiveConnection
from gateway.net.tasks import Tasks
from gateway.policy.engine.identity import Device, Grant

_UPDATED_TOGETHER = 64
"""Connections that get a change in one iteration of the event loop: about a millisecond."""


class LiveUpdates:
    """One per process."""

    def __init__(
        self,
        registry: ConnectionRegistry,
        reports: ConnectionReports,
        tasks: Tasks,
        find: Callable[[str], Device | None],
    ) -> None:
        """`find` returns the device with this id as the store has it now; None if there is none."""
        self._registry = registry
        self._reports = reports
        self._tasks = tasks
        self._find = find
        self.done: Callable[[], None] = lambda: None
        """Called when all connections concerned have got a change of devices."""

    async def policy_changed(self) -> None:
        """A different policy is in force: it applies to each live connection from its next packet on."""

        def update(one: LiveConnection) -> None:
            device = one.connection.device
            if device is not None and one.connection.state is not State.CLOSED:
                self._give(one, self._policy_or_surplus(one, device))

        await _each(self._registry.admitted(), update)

    def devices_changed(self, touched: frozenset[str]) -> None:
        """These devices were added, changed or removed in the store.

        New logins are no concern here: they are checked against what `find` returns by now.
        """
        live = [one for device_id in touched for one in self._registry.of_device(device_id)]
        if live:
            self._tasks.start(self._update_devices(live))
        else:
            self.done()

    async def _update_devices(self, live: Sequence[LiveConnection]) -> None:
        await _each(live, self._device_changed)
        self.done()

    def _device_changed(self, one: LiveConnection) -> None:
        was = one.connection.device
        if was is None or one.connection.state is State.CLOSED:
            return
        self._give(one, self._consequence(one, was, self._find(was.device_id)))

    def _give(self, one: LiveConnection, consequence: Event) -> None:
        if isinstance(consequence, AccessWithdrawn):
            self._reports.report(one, refused_session(consequence.why))
        one.receive(consequence)

    async def kick(self, device_id: str) -> None:
        """End the connections of this device, which may come back at once."""

        def update(one: LiveConnection) -> None:
            if one.connection.state is not State.CLOSED:
                one.receive(Kicked("An administrator ended the connection."))

        await _each(list(self._registry.of_device(device_id)), update)

    async def keys_changed(self, distrust: Callable[[Grant], str]) -> None:
        """The keys that verify tokens changed: end the connections whose token is no longer valid.

        `distrust` returns why a token is not valid; empty if it is. New logins are checked with the new keys.
        """
        why = "The key that signed the token was destroyed, or its time is over."

        def update(one: LiveConnection) -> None:
            grant = one.connection.identity.grant if one.connection.identity is not None else None
            if grant is not None and one.connection.state is not State.CLOSED and distrust(grant):
                self._reports.report(one, refused_session(why))
                one.receive(AccessWithdrawn(why))

        await _each(self._registry.admitted(), update)

    def _consequence(self, one: LiveConnection, was: Device, device: Device | None) -> Event:
        if device is None:
            return AccessWithdrawn("The device was removed.")
        if not device.enabled:
            return AccessWithdrawn("The device was disabled.")
        if not device.is_of_version(was.version):
            return AccessWithdrawn("The device has a different secret.")
        identity = one.connection.identity
        if identity is not None and identity.grant is not None and device.has_revoked(identity.grant):
            return AccessWithdrawn("The token was revoked.")
        if one.method and one.method not in device.methods:
            return AccessWithdrawn(f"The device may not log in by {one.method} any more.")
        if device.version != was.version:
            # It logged in with the next secret, which the store has not noted yet.
            device = device.with_next_secret
        return self._policy_or_surplus(one, device)

    def _policy_or_surplus(self, one: LiveConnection, device: Device) -> Event:
        """The event for it: that rules changed, or that a lowered limit leaves no room for it."""
        why = self._registry.surplus(one, device.device_id)
        return AccessWithdrawn(why) if why else PolicyChanged(device)


async def _each(live: Sequence[LiveConnection], update: Callable[[LiveConnection], None]) -> None:
    """Update each of them, some per iteration: messages pass in between. A fault ends its connection."""
    for number, one in enumerate(live, 1):
        try:
            update(one)
        except Exception as error:  # noqa: BLE001 - the others must get the change all the same
            one.fault(error)
        if number % _UPDATED_TOGETHER == 0:
            await asyncio.sleep(0)
