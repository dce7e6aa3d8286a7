"""For how many seconds an established connection may rest, which is to get no ticks: most are mostly silent.

A tick costs some five microseconds, and a thousand devices that send once a minute would get sixty thousand a
minute. What changes in the meantime can be added up by the next one. Must not know who gives the ticks, nor
what ends a rest (`gateway.net.device_side`: any event).
"""

from __future__ import annotations

from gateway.connection.bus_pings import REST_MAX
from gateway.connection.established import EstablishedConnection
from gateway.policy.engine.decision_recorder import RECORD_AGAIN_SECONDS


def seconds_of_rest(established: EstablishedConnection) -> int:
    """After how many seconds a tick has something to do again, if nothing comes. Called right after a tick.

    0 or 1: at the next tick.
    """
    upstream = established.upstream
    if (
        not established.tls_meter.budget.may_rest
        or upstream.has_partial_packet
        or upstream.unprocessed is not None
        or established.downstream.waits
        or established.subscriptions.is_recording
    ):
        return 0
    return min(
        established.heartbeat.seconds_of_rest,
        RECORD_AGAIN_SECONDS - established.seconds_since_recorded,
        established.authorizer.seconds_left,
        REST_MAX,
    )
