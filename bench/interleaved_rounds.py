"""All rounds of all rows: who is measured when, and what came of it.

Servers are started anew for each round of all rows. What one process costs depends a little on its luck
(where its memory lies, how its dicts are laid out), which may be worth ten percent: rounds of one start would
know of each other, and three of them look as sure as three that agree by themselves.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence

from bench import background_cpu
from bench.carries_messages_check import Broken, check
from bench.peers import Peer
from bench.workloads import NotMeasured, Round, Row, Session

TOTAL_SECONDS = 2_700  # no round is begun after this
ROUND_SECONDS = 90  # no round lasts longer


def order(count: int, number: int) -> list[int]:
    """In which order round `number` goes through `count` servers.

    Nobody is always first, nor always right behind the same one: over 2 * count rounds each has every
    place, and every neighbour before it, equally often (a Latin square of Williams and its mirror image).
    """
    zigzag = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(count)]
    turned = [(server + number // 2) % count for server in zigzag]
    return turned[::-1] if number % 2 else turned


class Run:
    """What has been measured until now, of servers that come and go."""

    def __init__(self, rows: Sequence[Row], *, rounds: int, seconds: float) -> None:
        self._rows, self._seconds = rows, seconds
        self._steps, self._done = len(rows) * rounds, 0
        self.began = time.monotonic()
        self.results: dict[str, dict[str, list[Round] | str]] = {row.key: {} for row in rows}
        self._failures: Counter[tuple[str, str]] = Counter()  # by row and server

    async def round(self, peers: Sequence[Peer], number: int) -> None:
        """This round of all rows, on servers just started."""
        sessions = [session for session in map(Session, peers) if await self._fit(session)]
        try:
            for row in self._rows:
                self._tell(row)
                ready = [session for session in sessions if await self._round(row, session, None)]
                if row.side_by_side:
                    await asyncio.gather(*(self._round(row, session, number) for session in ready))
                else:
                    for place in order(len(ready), number):
                        await self._round(row, ready[place], number)
                for session in sessions:
                    row.finish(session)
        finally:
            for session in sessions:
                session.close()

    def _tell(self, row: Row) -> None:
        spent = time.monotonic() - self.began
        left = f", {spent / self._done * (self._steps - self._done) / 60:.0f} min left" if self._done else ""
        self._done += 1
        print(f"  {self._done}/{self._steps}{left}: {row.title}", file=sys.stderr, flush=True)

    def _failed(self, row: Row, name: str, number: int | None, why: str) -> None:
        """Said at once. In the table, and tried no more, if nothing was measured in two rounds."""
        at = "" if number is None else f" in round {number + 1}"
        print(f"    {name} failed{at}: {why}", file=sys.stderr, flush=True)
        self._failures[row.key, name] += 1
        if not self.results[row.key].get(name) and (number is None or self._failures[row.key, name] > 1):
            self.results[row.key][name] = f"failed: {why}"

    async def _fit(self, session: Session) -> bool:
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                await check(session)
        except (Broken, OSError, TimeoutError) as error:
            for row in self._rows:
                self._failed(row, session.peer.name, None, str(error) or "no answer")
            session.close()
            return False
        return True

    def _seconds_for_a_round(self) -> float:
        left = self.began + TOTAL_SECONDS - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(ROUND_SECONDS, left)

    async def _round(self, row: Row, session: Session, number: int | None) -> bool:
        """Measure one, or prepare for them when it has no number. Whether that was possible."""
        name = session.peer.name
        rounds = self.results[row.key].setdefault(name, [])
        if isinstance(rounds, str):
            return False
        try:
            async with asyncio.timeout(self._seconds_for_a_round()):
                if number is None:
                    await row.prepare(session, self._seconds)
                    return True
                before = background_cpu.Reading.now()
                measured = await row.measure(session, self._seconds)
                measured.number, measured.others = (
                    number,
                    background_cpu.others(before, background_cpu.Reading.now()),
                )
                rounds.append(measured)
                return True
        except NotMeasured:
            self.results[row.key][name] = ""
        except (OSError, TimeoutError) as error:
            session.close()
            self._failed(row, name, number, str(error) or "out of time")
        return False
