"""The process of a gateway: it serves until a signal stops it, or says why it can't start."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import uvloop

from gateway.app.composition import Gateway
from gateway.app.file_descriptors import allowed, ask_for, shortage
from gateway.app.signals import Signals
from gateway.app.startup_preparation import StartError, alone, check, prepare, read_keys
from gateway.config import Settings
from gateway.observe.logs import configure, get_logger
from gateway.system.service_manager import notify, watchdog_seconds

_SWITCH_SECONDS = 0.000_2
"""After how many seconds a thread that runs Python gives the interpreter's lock back to the event loop. With
CPython's own 5 ms all messages queued up while a policy was read."""

_log = get_logger()


def run(settings: Settings, warnings: Sequence[str] = ()) -> int:
    """Serve until SIGINT or SIGTERM. Return the exit code: 0; 1 if it can't go on; 1 or 2 if it can't start.

    Why it can't start is on stderr.

    `warnings` are logged: what is odd about the settings.
    """
    configure(settings.log_level, form=settings.log_format)
    for warning in warnings:
        _log.warning("odd setting", reason=warning)
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        return int(uvloop.run(_serve(settings)))
    except StartError as error:
        for problem in error.problems:
            print(f"gateway: {problem}", file=sys.stderr)  # noqa: T201 - nothing runs yet that could log
        return error.exit_code


async def _serve(settings: Settings) -> bool:
    """Serve, and return whether it stopped because a part of it failed."""
    signals = Signals()
    policy = check(settings)
    ask_for(policy.limits)
    if short := shortage(policy.limits, allowed()):
        _log.warning("too few open files", reason=short)
    with alone(settings):
        made = await prepare(settings, [])
        sealing, signing = read_keys(settings)
        gateway = Gateway(settings, policy, sealing, signing, signals)
        try:
            await gateway.start()
            gateway.print_banner(made)
            notify("READY=1")
            gateway.feed_watchdog(watchdog_seconds())
            await signals.stop.wait()
            notify("STOPPING=1")
            _log.info("stopping")
        finally:
            await gateway.stop()
        return gateway.failed
