"""Hands the audit events of a device to whoever traces it now (`control.traces`); mostly nobody does."""

from __future__ import annotations

from collections.abc import Callable

from gateway.observe.audit_event import AuditEvent


class EventListeners:
    """A consumer of the audit."""

    def __init__(self) -> None:
        self.of_device: dict[str, Callable[[AuditEvent], None]] = {}
        """What is called with each event, by device id. It must neither block nor raise."""

    def __call__(self, event: AuditEvent) -> None:
        """Hand on the event, if somebody listens."""
        if self.of_device and event.device and (listener := self.of_device.get(event.device)) is not None:
            listener(event)
