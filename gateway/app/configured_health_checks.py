"""Has health run the checks that monitoring.toml asks for, of other services and of devices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from gateway.app.followers.monitoring import MonitoringFollower
from gateway.bus_client.topic_freshness import TopicListener
from gateway.config.monitoring import Monitoring
from gateway.http.outbound_probes import ask_page, ask_port
from gateway.net.data_plane_parts import DataPlane
from gateway.observe.external_service_check_definitions import DeviceCheck, HttpCheck, ServiceCheck
from gateway.observe.health_check_scheduler import Check, Health


class ServiceChecking:
    """The checks that are in force."""

    def __init__(self, health: Health, plane: DataPlane) -> None:
        self._health = health
        self._plane = plane
        self._checks: Sequence[ServiceCheck] = ()
        self._listener: TopicListener | None = None
        self._listening: asyncio.Task[None] | None = None

    def follow(self, monitoring: MonitoringFollower) -> None:
        """Run the checks that the file has, now and after each change."""
        self.put_in_force(monitoring.in_force)
        monitoring.on_change(self.put_in_force)

    def put_in_force(self, monitoring: Monitoring) -> None:
        """Run these checks from now on, and no others. One that has not changed goes on."""
        before, after = {*self._checks}, {*monitoring.checks}
        within = _within(monitoring.checks)
        if within != _within(self._checks):
            self._listen(within)
        for gone in before - after:
            self._health.remove(gone.name)
        for new in (one for one in monitoring.checks if one not in before):
            self._health.add(
                new.name,
                self._check(new),
                vital=False,
                needed=False,
                external=True,
                interval=new.interval,
                deadline=new.timeout,
            )
        self._checks = monitoring.checks

    def _listen(self, within: Mapping[str, int]) -> None:
        if self._listening is not None:
            self._listening.cancel()
            self._listening = self._listener = None
        if within:
            self._listener = TopicListener(self._plane.bus, self._plane.context, within)
            self._listening = self._plane.tasks.start(self._listener.run())

    def _check(self, check: ServiceCheck) -> Check:
        if isinstance(check, HttpCheck):
            return partial(ask_page, check.url)
        if isinstance(check, DeviceCheck):
            return partial(self._ask_device, check)
        return partial(ask_port, check.address)

    async def _ask_device(self, check: DeviceCheck) -> tuple[bool, str]:
        connections = len(self._plane.registry.of_device(check.device_id))
        if check.topic is None or check.within is None or self._listener is None:
            return bool(connections), f"{check.device_id} is {'' if connections else 'not '}connected"
        silent, heard = self._listener.silent(check.topic), self._listener.heard(check.topic)
        if silent > check.within:
            since = "since it is listened for, {:.0f} s ago" if heard is None else "for {:.0f} s"
            fault = self._listener.fault()
            why = f": the gateway can't listen ({fault})" if fault else ""
            return False, f"nothing came on {check.topic} {since.format(silent)}{why}"
        if heard is None:
            return True, f"listening for {silent:.0f} s, nothing came yet"
        return True, f"heard {heard:.0f} s ago"


def _within(checks: Iterable[ServiceCheck]) -> dict[str, int]:
    """The topic filters to listen for, and the shortest time in which each has to be heard."""
    found: dict[str, int] = {}
    for one in checks:
        if isinstance(one, DeviceCheck) and one.topic and one.within:
            found[one.topic] = min(one.within, found.get(one.topic, one.within))
    return found
