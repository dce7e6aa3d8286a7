"""Rows with a thousand connections and more: what a message costs among them, and what they cost when silent.

They are opened by accounts that were seen before, stay for one round, and are not counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bench import accounts, load
from bench.workloads import MICRO, PAYLOAD, Paced, Round, Row, Session, again

_OPENED_TOGETHER = 16
_OPENING_MAX = 60.0
"""Seconds."""
_SETTLED = 1.0
"""After the last of them came, in seconds."""
_IDLE_PERIOD = 10
"""Seconds for which an idle server is watched, for each second of a round: in ten the gateway takes one
sample, asks each check once and is scraped once. A shorter look, as with `--quick`, sees that work in some
rounds and not in others."""


@asynccontextmanager
async def _crowd(session: Session, size: int) -> AsyncIterator[tuple[list[load.Link], list[str]]]:
    """So many connections, and the name of each one's account."""
    named = again(size)
    wanted = [(client, name, accounts.SECRET) for client, name in named]
    links = await load.open_many(session.target, wanted, together=_OPENED_TOGETHER, seconds=_OPENING_MAX)
    try:
        if len(links) < size:
            raise OSError(f"{len(links):,} of {size:,} connections in {_OPENING_MAX:.0f} s")
        await asyncio.sleep(_SETTLED)
        yield links, [name for _, name in named]
    finally:
        for link in links:
            link.close()


@dataclass(frozen=True)
class PacedCrowd(Paced):
    """As `Paced`, over more connections than there are devices."""

    async def prepare(self, session: Session, seconds: float) -> None:
        """Each account is seen once before it comes again and again."""
        del seconds
        async with _crowd(session, len(accounts.AGAIN)):
            pass

    async def measure(self, session: Session, seconds: float) -> Round:
        async with _crowd(session, self.connections) as (links, names):
            units = int(self.in_all * seconds)
            topics = [accounts.telemetry(name) for name in names]
            # The first message of a connection is decided about, once: that is not what is measured.
            await load.paced(links, topics, PAYLOAD, self.in_all, len(links) / self.in_all, self.qos)
            work = load.paced(links, topics, PAYLOAD, self.in_all, seconds, self.qos)
            took, cost = await session.heard(work, units + (0 if self.qos else len(links)))
        return session.round(cost, units, took)


@dataclass(frozen=True)
class IdleCpu(Row):
    """CPU that a server uses in a second in which nobody says anything."""

    unit: str = "ms/s"
    connections: int = 0
    rate: bool = field(default=False, kw_only=True)
    adds_up: bool = field(default=True, kw_only=True)
    side_by_side: bool = field(default=True, kw_only=True)

    async def measure(self, session: Session, seconds: float) -> Round:
        session.close()  # the fleet is not idle company: it is what is counted
        async with _crowd(session, self.connections):
            _, cost = await session.metered(asyncio.sleep(_IDLE_PERIOD * seconds))
        return Round(value=cost.server / cost.wall * MICRO / 1_000)
