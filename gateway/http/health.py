"""Whether the gateway is alive, and whether it would serve a device now: plain HTTP for machines.

Owns `/health`, `/ready` and `/metrics` on GATEWAY_HEALTH_BIND and nothing else: none of them changes anything
or gives away a secret. All are answered from memory. Must not know what is checked or measured:
`gateway.app.composition` provides both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http import server as http_server
from gateway.observe.health_check_scheduler import Finding, Health, HealthReport
from gateway.system.ip_address_blocks import Address

_CONNECTIONS = 64
"""Connections at once."""
_SCRAPE_SECONDS = 1.0
"""For these an answer of `/metrics` is given again, so that asking all the time costs no more."""


async def serve(
    health: Health,
    registry: CollectorRegistry | None,
    addresses: Sequence[Address],
    *,
    start: http_server.Start,
) -> http_server.WebServer:
    """Listen on all of `addresses` (port 0: any); without a registry `/metrics` is 404.

    Raises OSError if it can't listen there.
    """
    return await http_server.serve(
        _application(health, registry),
        addresses,
        start=start,
        connections=_CONNECTIONS,
        # Behind a proxy or on loopback everybody has the same address.
        connections_per_address=_CONNECTIONS,
    )


def _application(health: Health, registry: CollectorRegistry | None) -> Starlette:
    scrape = _scraper(registry) if registry is not None else None

    async def alive(_: Request) -> Response:
        report = health.report()
        return _answer(report, ok=report.live, folder=await health.folder())

    async def ready(_: Request) -> Response:
        report = health.report()
        return _answer(report, ok=report.ready, folder=await health.folder())

    async def metrics(_: Request) -> Response:
        if scrape is None:
            return _not_found()
        return Response(scrape(), headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})

    async def nothing_here(_: Request, __: Exception) -> Response:
        return _not_found()

    application = Starlette(
        routes=[Route("/health", alive), Route("/ready", ready), Route("/metrics", metrics)],
        exception_handlers={HTTPException: nothing_here},
    )
    application.router.redirect_slashes = False
    return application


def _scraper(registry: CollectorRegistry) -> Callable[[], bytes]:
    """Reads the metrics, once a second at most."""
    body, read_at = b"", float("-inf")

    def scrape() -> bytes:
        nonlocal body, read_at
        now = asyncio.get_running_loop().time()
        if now - read_at >= _SCRAPE_SECONDS:
            body, read_at = generate_latest(registry), now
        return body

    return scrape


def _answer(report: HealthReport, *, ok: bool, folder: str) -> Response:
    body: dict[str, object] = {
        "status": "ok" if ok else "failing",
        "ready": report.ready,
        "checks": {name: _check(found) for name, found in report.checks.items()},
    }
    if folder:
        body["folder"] = folder
    return _json(200 if ok else 503, body)


def _check(found: Finding) -> dict[str, object]:
    return {
        "ok": found.ok,
        "state": found.state,
        "message": found.message,
        "detail": found.message,  # what `message` was called first
        "since": found.since,
        "checked_at": found.checked_at,
        "duration_ms": found.duration_ms,
    }


def _not_found() -> Response:
    return _json(404, {"status": "not found"})


def _json(status: int, body: Mapping[str, object]) -> Response:
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )
