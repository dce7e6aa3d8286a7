"""A policy that changes under two thousand connections: how long a message waits at most."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from bench import accounts, load, resource_usage
from bench.packets import subscribe
from bench.peers import Gateway
from bench.workloads import PAYLOAD, NotMeasured, Round, Row, Session, again

CONNECTIONS = 2_000
ROLES, RULES = 200, 5_000
PER_SECOND = 1_000  # messages, the connections by turns
IN_FORCE = 1.0  # seconds, promised
CLOSED = "bench/closed"
REFUSED = 0x80


class Rules:
    """Five thousand rules that nobody has beside the shipped policy, other ones each turn.

    In odd turns the devices may not subscribe to CLOSED.
    """

    def __init__(self, roles: Path) -> None:
        self._roles, self._turn = roles, 0
        self._bench = (roles / "bench.toml").read_text()

    def write(self) -> bool:
        """Write the next ones, and whether CLOSED is closed."""
        self._turn += 1
        for number in range(ROLES):
            topics = ", ".join(
                f'"plant/{number}/{{device}}/area-{area}/{self._turn}/+/#"' for area in range(RULES // ROLES)
            )
            self._file(f"plant-{number}", f'[[allow]]\nactions = ["publish"]\ntopics = [{topics}]\n')
        closed = bool(self._turn % 2)
        deny = f'[[deny]]\nactions = ["subscribe"]\ntopics = ["{CLOSED}"]\n' if closed else ""
        self._file("bench", self._bench + deny)
        return closed

    def remove(self) -> None:
        """As it was."""
        self._file("bench", self._bench)
        for path in self._roles.glob("plant-*.toml"):
            path.unlink()

    def _file(self, name: str, text: str) -> None:
        draft = self._roles / f"{name}.draft"
        draft.write_text(text)
        draft.replace(self._roles / f"{name}.toml")


@dataclass(frozen=True)
class PolicyChange(Row):
    """The longest wait for a PUBACK while a changed policy is read, put in force and told to all."""

    unit: str = "ms"
    latency: bool = field(default=True, kw_only=True)
    rate: bool = field(default=False, kw_only=True)

    async def measure(self, session: Session, seconds: float) -> Round:
        if not isinstance(session.peer, Gateway):
            raise NotMeasured
        rules = Rules(session.peer.folder / "acl" / "roles")
        asker = await session.single(accounts.PUBLISHER, session.target)
        wanted = [(client, name, accounts.SECRET) for client, name in again(CONNECTIONS)]
        links = await load.open_many(session.target, wanted, together=4, seconds=60)
        try:
            await _change(rules, asker)  # from the few rules to the many
            topics = [f"bench/{number}" for number in range(len(links))]
            took, _ = await asyncio.gather(
                load.paced(links, topics, PAYLOAD, PER_SECOND, seconds + IN_FORCE, qos=1),
                _change(rules, asker),
            )
        finally:
            rules.remove()
            for link in links:
                link.close()
        p50, p99 = (resource_usage.percentile(took, share) for share in (0.50, 0.99))
        return Round(max(took) * 1e3, p50=p50, p99=p99)


async def _change(rules: Rules, asker: load.Link) -> None:
    """Write other rules and wait until they are in force; TimeoutError if not within what is promised."""
    expected = bytes([0x90, 3, 0, 1, REFUSED if await asyncio.to_thread(rules.write) else 0])
    async with asyncio.timeout(IN_FORCE):
        answer = b""
        while answer != expected:
            answered = asker.expect(len(expected))
            asker.write(subscribe(CLOSED))
            await answered
            answer = bytes(asker.seen)
            await asyncio.sleep(0.02)
