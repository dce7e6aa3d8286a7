"""The parts of the data plane that all device connections of a process share.

The composition root (`gateway.app`) makes them, for the device port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.auth.login_gate import LoginGate
from gateway.connection.commands import Call
from gateway.connection.events import Answer
from gateway.connection.process_context import Context
from gateway.net.bus_endpoint import Bus
from gateway.net.connection_audit_and_log import ConnectionReports
from gateway.net.device_round_robin import Turns
from gateway.net.live_connections import ConnectionRegistry
from gateway.net.tasks import Tasks
from gateway.net.untaken_answers import UntakenAnswers
from gateway.policy.engine.identity import Identity


@dataclass(slots=True)
class DataPlane:
    """One per process."""

    context: Context
    bus: Bus
    login: LoginGate
    services: Callable[[Call, Identity], Answer]
    """Answers a request to the gateway itself. Must not block, and never raises for what a device asks."""
    registry: ConnectionRegistry
    reports: ConnectionReports
    tasks: Tasks
    turns: Turns = field(init=False)
    loop_time: Callable[[], float] = field(init=False)
    """The loop's clock, in seconds. `context.now` is the other one: Unix milliseconds."""
    untaken: UntakenAnswers = field(default_factory=UntakenAnswers)

    def __post_init__(self) -> None:
        self.turns = Turns(self.context.budgets.work)
        self.loop_time = asyncio.get_running_loop().time
