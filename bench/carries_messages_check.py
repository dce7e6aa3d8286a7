"""Before anything is timed: does the server carry messages at all, unchanged, and sealed where it must?

A server that drops what it is given would win every row.
"""

from __future__ import annotations

import os

from bench import accounts, load
from bench.packets import publish
from bench.peers import Gateway
from bench.workloads import Session

MESSAGES = 20


class Broken(Exception):
    """This server does not do the work whose cost is measured."""


async def check(session: Session) -> None:
    """Each message of a device comes back to it; on the bus the sensitive ones cannot be read."""
    account = accounts.FLEET[0]
    (link,) = await session.fleet(1)
    await _returns(link, accounts.telemetry(account))
    if not isinstance(session.peer, Gateway):
        return
    listener = await session.single(accounts.LISTENER, session.peer.plain)
    topic = accounts.private(account)
    await listener.subscribe(topic)
    arrived = listener.expect(1)
    payload = await _returns(link, topic)
    await arrived
    if payload in listener.seen or b'"encrypted"' not in listener.seen:
        raise Broken("the gateway passed a sensitive payload to the bus unsealed")
    await listener.unsubscribe(topic)


async def _returns(link: load.Link, topic: str) -> bytes:
    payload = os.urandom(256)
    await link.subscribe(topic)
    once = publish(topic, payload)
    arrived = link.expect(len(once) * (MESSAGES + 1) + load.PUBACK_BYTES)
    link.write(once * MESSAGES + publish(topic, payload, load.MARKER_ID))
    await arrived
    if link.seen.count(once) != MESSAGES + 1:
        raise Broken(f"{link.seen.count(once)} of {MESSAGES + 1} messages came back as they were sent")
    await link.unsubscribe(topic)
    return payload
