"""What all connections of a process share: the policy in force, the keys, the clock, the counters.

The composition root makes one and replaces `policy`; a DeviceConnection only reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Never

from gateway.connection.bus_holdings import Holdings
from gateway.connection.device_budgets import Budgets
from gateway.connection.process_counters import Counters
from gateway.connection.remembered_revoked_wills import RevokedWills
from gateway.keys.key_ring import KeyRing
from gateway.policy.engine.decision_recorder import UsageRecorder
from gateway.policy.engine.limits import ANY_SIZE
from gateway.policy.engine.policy import Policy
from gateway.policy.engine.rules import OnDeniedWill, OnDeny

EMPTY_SET: frozenset[Never] = frozenset()
"""The empty set of every connection that has nothing to remember: each of its own would take 216 bytes."""


@dataclass(slots=True)
class Context:
    """One for all device connections."""

    policy: Policy
    ring: KeyRing
    now: Callable[[], int]
    """Unix milliseconds."""
    new_client_id: Callable[[], str]
    """Returns a client id that nobody has."""
    counters: Counters = field(default_factory=Counters)
    recorder: UsageRecorder = field(default_factory=UsageRecorder)
    budgets: Budgets = field(default_factory=Budgets)
    holdings: Holdings = field(default_factory=Holdings)
    on_deny: OnDeny = OnDeny.DROP
    on_denied_will: OnDeniedWill = OnDeniedWill.REFUSE
    revoked_wills: RevokedWills = field(default_factory=RevokedWills)
    bus_username: bytes | None = None
    bus_password: bytes | None = field(default=None, repr=False)
    bus_speaks_v5: bool = True
    bus_packet_max: int = ANY_SIZE
    """Longest packet that the bus accepts, in bytes, by its last CONNACK."""
    bus_accepted_credentials: bool = False
    """Whether the bus has accepted the gateway's credentials since the gateway started."""
