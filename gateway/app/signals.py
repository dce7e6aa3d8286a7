"""What signals do: SIGTERM and SIGINT stop the gateway in order, SIGHUP reads the files again.

Owns the handlers of a running gateway; `gateway.system.early_signals` has those of one that starts. Must not
know what is stopped or read.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping

from gateway.observe.logs import get_logger

_UNUSED = (signal.SIGUSR1, signal.SIGUSR2)

_log = get_logger()


class Signals:
    """The signals of a running gateway. Make it in the event loop."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        """Set by SIGTERM or SIGINT, or by a part that finds that the gateway can't go on."""
        self._reload = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        for number in _UNUSED:
            loop.add_signal_handler(number, _ignored, number)

    def _stop(self, number: signal.Signals) -> None:
        if not self.stop.is_set():
            _log.info("stop asked for", signal=number.name)
        self.stop.set()

    async def reload(self, parts: Mapping[str, Callable[[], Awaitable[str]]]) -> None:
        """Have all `parts` read their files at each SIGHUP, for ever; the log says what each has found."""
        while True:
            await self._reload.wait()
            self._reload.clear()
            found = []
            for name, read in parts.items():
                try:
                    found.append(f"{name}: {await read()}")
                except Exception as error:  # noqa: BLE001 - the others are to be read all the same
                    _log.error("not reloaded", part=name, exc_info=error)
                    found.append(f"{name}: failed; what was before is in force")
            _log.info("reloaded", signal="SIGHUP", found=found)


def _ignored(number: signal.Signals) -> None:
    _log.info("signal ignored", signal=number.name, reason="this version does nothing at this signal")
