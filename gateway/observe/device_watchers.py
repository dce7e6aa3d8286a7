"""Hands the audit events of a device to whoever looks at that device now; nobody does, mostly."""

from __future__ import annotations

from collections.abc import Callable

from gateway.observe.audit_event import AuditEvent


class EventListeners:
    """A consumer of the audit."""

    def __init__(self) -> None:
        self.of_device: dict[str, Callable[[AuditEvent], None]] = {}
        """Who listens, by the device. Must neither block nor raise."""

    def __call__(self, event: AuditEvent) -> None:
        """Tell whoever listens."""
        if self.of_device and event.device and (listener := self.of_device.get(event.device)) is not None:
            listener(event)
