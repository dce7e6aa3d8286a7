"""Rows about tokens and services: what it costs to come in with a token, to seal and to open on request.

Only the gateway has them. HAProxy and nginx take anything for a password, so they stand beside the connects.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench import accounts, load
from bench.packets import payload_of, publish
from bench.peers import Gateway
from bench.workloads import DEPTH, Connecting, Cost, Filled, NotMeasured, Round, Row, Session, again

CALLERS = accounts.FLEET[:10]
MESSAGE = "m" * 254  # 256 bytes of JSON
_STANDING_IN = "t" * 700  # as long as a token, for a server that does not look at it
_RECORDED = 1.5  # seconds until the gateway has saved the record of what it issued


async def _ask(link: load.Link, topic: str, request: dict[str, object], reply: str) -> bytes:
    """The answer of a service, as the PUBLISH in which it came."""
    await link.subscribe(reply)
    arrived = link.expect(1)
    link.write(publish(topic, json.dumps(request).encode()))
    await arrived
    answer = bytes(link.seen)
    if b'"success":true' not in answer and b'"encrypted":true' not in answer:
        raise load.Refused(f"{topic}: the server answered {answer[:256]!r}")
    return answer


async def _token(link: load.Link) -> str:
    reply = "gateway/auth_response"
    return str(json.loads(payload_of(await _ask(link, "gateway/auth", {}, reply), reply))["token"])


# -- tokens ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenConnecting(Connecting):
    """With a token as the password: each one new to the server (`first`), or seen before."""

    async def wanted(self, session: Session, most: int) -> list[tuple[str, str, str]]:
        if session.peer.looks_at_nothing:
            return [(client, name, _STANDING_IN) for client, name in again(most)]
        if not isinstance(session.peer, Gateway):
            raise NotMeasured
        if self.first or not session.tokens:
            links = {name: await session.single(name, session.target) for name in accounts.AGAIN}
            tokens = [await _token(links[name]) for _, name in again(most)]
            await asyncio.sleep(_RECORDED)
        if self.first:
            return [(*who, token) for who, token in zip(again(most), tokens, strict=True)]
        if not session.tokens:
            session.tokens = dict(zip(accounts.AGAIN, tokens, strict=True))
        return [(client, name, session.tokens[name]) for client, name in again(most)]


# -- services ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Counter:
    """Callers of one service, and what each of them asks again and again."""

    links: Sequence[load.Link]
    requests: Sequence[bytes]
    answer_bytes: int

    @classmethod
    async def of(cls, session: Session, service: str, *, over_bus: bool) -> _Counter:
        if not isinstance(session.peer, Gateway):
            raise NotMeasured
        devices = await session.fleet(len(CALLERS))
        links, requests, sizes = [], [], set()
        for name, device in zip(CALLERS, devices, strict=True):
            link, reply, more = device, f"gateway/{service}_response", {}
            if over_bus:
                link = await session.single(f"{name}-on-the-bus", session.peer.plain)
                reply = f"gateway/reply/{name}/bench"
                if name not in session.tokens:
                    session.tokens[name] = await _token(device)
                more = {"token": session.tokens[name], "reply_to": reply}
            request: dict[str, object] = {"topic": accounts.private(name), "message": MESSAGE} | more
            if service == "decrypt":
                sealed = reply if over_bus else "gateway/encrypt_response"
                answer = await _ask(link, "gateway/encrypt", request, sealed)
                request = {"message": json.loads(payload_of(answer, sealed))} | more
            answer = await _ask(link, f"gateway/{service}", request, reply)
            links.append(link)
            requests.append(publish(f"gateway/{service}", json.dumps(request).encode()))
            sizes.add(len(answer))
        (size,) = sizes
        return cls(links, requests, size)


@dataclass(frozen=True)
class Calling(Filled):
    """Encrypt or decrypt, a few unanswered of each caller."""

    service: str = "encrypt"
    over_bus: bool = False
    latency: bool = field(default=True, kw_only=True)

    async def once(self, session: Session, count: int) -> tuple[int, Cost, Sequence[float]]:
        counter = await _Counter.of(session, self.service, over_bus=self.over_bus)
        each = max(DEPTH, count // len(CALLERS))
        work = load.called(counter.links, counter.requests, counter.answer_bytes, each * len(CALLERS), DEPTH)
        took, cost = await session.metered(work)
        return each * len(CALLERS), cost, took


@dataclass(frozen=True)
class PacedCalling(Row):
    """Encrypt or decrypt, so many in all, one at a time."""

    service: str = "encrypt"
    over_bus: bool = False
    in_all: int = 1_000  # calls a second
    rate: bool = field(default=False, kw_only=True)
    latency: bool = field(default=True, kw_only=True)

    async def prepare(self, session: Session, seconds: float) -> None:
        await self.measure(session, seconds / 4)

    async def measure(self, session: Session, seconds: float) -> Round:
        counter = await _Counter.of(session, self.service, over_bus=self.over_bus)
        work = load.paced_calls(counter.links, counter.requests, counter.answer_bytes, self.in_all, seconds)
        took, cost = await session.metered(work)
        return session.round(cost, int(self.in_all * seconds), took)
