"""Whether the gateway lives, and whether it would serve a device now: plain HTTP for machines.

Owns `/health`, `/ready` and `/metrics` on GATEWAY_HEALTH_BIND and nothing else: no address of it
changes anything or gives away a secret. Must not know what is checked; `gateway.app.composition` gives the
checks. A check that raises or takes too long has failed.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http import server as http_server
from gateway.observe.logs import get_logger
from gateway.system.addresses import Address

CHECK_DEADLINE = 2.0
"""Seconds an asynchronous check may take."""

_CONNECTIONS = 64

CheckResult = tuple[bool, str]
Check = Callable[[], CheckResult | Awaitable[CheckResult]]

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Report:
    """The answer of every check, by name."""

    live: bool
    """No vital check failed: restarting the process would not help."""
    ready: bool
    """No needed check failed: a device would be served now."""
    checks: Mapping[str, CheckResult]


class Health:
    """Named checks. Each says whether all is well, and a detail that anybody may read."""

    def __init__(self, *, deadline: float = CHECK_DEADLINE, folder: Callable[[], str] = str) -> None:
        """`folder` gives the mark of the data folder, by which `gateway-admin status` knows its own gateway.

        It is asked each time, in a thread: one that was moved away has none, and its gateway is not that of
        the folder which has its path now.
        """
        self._deadline = deadline
        self._folder = folder
        self._looking: asyncio.Future[str] | None = None
        """The last look at the folder. While one hangs in the disk there is no other."""
        self._checks: dict[str, tuple[Check, bool, bool]] = {}

    async def folder(self) -> str:
        """The mark of the data folder; empty when it has none, or can't be looked at in time."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().run_in_executor(None, self._folder)
        await asyncio.wait({self._looking}, timeout=self._deadline)
        return self._looking.result() if self._looking.done() else ""

    def add(self, name: str, check: Check, *, vital: bool, needed: bool = True) -> None:
        """Ask `check` from now on.

        A vital one (store) makes `/health` fail and `/ready` too; another needed one (bus, listener)
        only `/ready`: killing the process would not bring the bus back. One that is not needed (a
        broken edit of the policy) is shown: devices are served by what was before.
        """
        self._checks[name] = (check, vital, needed)

    async def report(self) -> Report:
        """Ask every check, all at once."""
        answers = await asyncio.gather(
            *(self._ask(name, check) for name, (check, *_) in self._checks.items())
        )
        checks = dict(zip(self._checks, answers, strict=True))
        return Report(
            live=all(checks[name][0] for name, (_, vital, _) in self._checks.items() if vital),
            # Without a single check nothing is known, and nothing known is not ready (promise 1).
            ready=bool(checks)
            and all(checks[name][0] for name, (*_, needed) in self._checks.items() if needed),
            checks=checks,
        )

    async def _ask(self, name: str, check: Check) -> CheckResult:
        try:
            answer = check()
            if inspect.isawaitable(answer):
                return await asyncio.wait_for(answer, self._deadline)
        except TimeoutError:
            return False, "no answer in time"
        except Exception as error:  # noqa: BLE001 - whatever it raises, it has failed
            # Its text may say more than a reader of this page may know.
            _log.warning("health check failed", check=name, reason=error)
            return False, "the check failed; the log says why"
        else:
            return answer


async def serve(
    health: Health,
    registry: CollectorRegistry | None,
    addresses: Sequence[Address],
    *,
    start: http_server.Start,
) -> http_server.WebServer:
    """Listen on all of `addresses` (port 0: any); without a registry `/metrics` is 404.

    Raises OSError when the address can't be had.
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
    async def alive(_: Request) -> Response:
        report = await health.report()
        return _answer(report, ok=report.live, folder=await health.folder())

    async def ready(_: Request) -> Response:
        report = await health.report()
        return _answer(report, ok=report.ready, folder=await health.folder())

    async def metrics(_: Request) -> Response:
        if registry is None:
            return _not_found()
        body = generate_latest(registry)
        return Response(body, headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})

    async def nothing_here(_: Request, __: Exception) -> Response:
        return _not_found()

    application = Starlette(
        routes=[Route("/health", alive), Route("/ready", ready), Route("/metrics", metrics)],
        exception_handlers={HTTPException: nothing_here},
    )
    application.router.redirect_slashes = False
    return application


def _answer(report: Report, *, ok: bool, folder: str) -> Response:
    checks = {name: {"ok": good, "detail": detail} for name, (good, detail) in report.checks.items()}
    body: dict[str, object] = {"status": "ok" if ok else "failing", "ready": report.ready, "checks": checks}
    if folder:
        body["folder"] = folder
    return _json(200 if ok else 503, body)


def _not_found() -> Response:
    return _json(404, {"status": "not found"})


def _json(status: int, body: Mapping[str, object]) -> Response:
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )
