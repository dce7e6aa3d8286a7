"""For how many seconds an established connection needs no tick: most say nothing for most of the time.

A tick costs some five microseconds, and a thousand devices that send once a minute are given sixty thousand a
minute. Between them nothing changes that could not be added up by the next one. Must not know who gives the
ticks, nor what ends a rest (`gateway.net.device_side`: whatever comes).
"""

from __future__ import annotations

from gateway.connection.bus_pings import REST_MAX
from gateway.connection.established import EstablishedConnection
from gateway.policy.engine.decision_recorder import RECORD_AGAIN_SECONDS


def seconds_of_rest(established: EstablishedConnection) -> int:
    """Asked right after a tick: in how many seconds the next one has something to do, if nothing comes.

    At most 1 if that is not known.
    """
    upstream = established.upstream
    if (
        not established.tls.budget.may_rest
        or upstream.has_partial_packet
        or upstream.rest is not None
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
