"""`python -m bench`: start the servers, load one after the other, write the table, stop everything."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import os
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import uvloop

from bench import table
from bench.check import Broken, check
from bench.peers import PEERS, ROOT, Certificate, Peer
from bench.plan import ROWS
from bench.process import Unavailable
from bench.rows import NotMeasured, Round, Row, Session

TOTAL_SECONDS = 840  # no round is begun after this
ROUND_SECONDS = 90  # no round lasts longer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round each, for development")
    parser.add_argument("--only", metavar="ROW,ROW", help=f"rows: {', '.join(row.key for row in ROWS)}")
    parser.add_argument("--peers", metavar="NAME,NAME", help=f"servers: {', '.join(PEERS)}")
    return parser.parse_args()


def _chosen(asked: str | None, known: Iterable[str]) -> list[str]:
    names = list(known)
    wanted = asked.split(",") if asked else names
    for name in wanted:
        if name not in names:
            raise SystemExit(f"unknown: {name}; choose from {', '.join(names)}")
    return [name for name in names if name in wanted]


class Run:
    """All rounds of all rows on the servers that started."""

    def __init__(self, peers: Sequence[Peer], rows: Sequence[Row], *, quick: bool) -> None:
        self._rows, self._rounds, self._seconds = rows, 1 if quick else 5, 0.5 if quick else 1.0
        self._peers, self.began = peers, time.monotonic()
        self.results: dict[str, dict[str, list[Round] | str]] = {row.key: {} for row in rows}

    async def all(self) -> None:
        """Round by round through the servers, so that a disturbance hits all of them alike."""
        sessions = [session for session in map(Session, self._peers) if await self._fit(session)]
        try:
            for row in self._rows:
                print(f"  {row.title}", file=sys.stderr, flush=True)
                for number in range(-1, 1 if row.key == "idle" else self._rounds):
                    for session in sessions:
                        await self._round(row, session, prepare=number < 0)
        finally:
            for session in sessions:
                session.close()

    async def _fit(self, session: Session) -> bool:
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                await check(session)
        except (Broken, OSError, TimeoutError) as error:
            for row in self._rows:
                self.results[row.key][session.peer.name] = f"not measured: {str(error) or 'no answer'}"
            return False
        return True

    async def _round(self, row: Row, session: Session, *, prepare: bool) -> None:
        rounds = self.results[row.key].setdefault(session.peer.name, [])
        if isinstance(rounds, str):
            return
        try:
            left = self.began + TOTAL_SECONDS - time.monotonic()
            async with asyncio.timeout(min(ROUND_SECONDS, left)):
                if prepare:
                    await row.prepare(session, self._seconds)
                else:
                    rounds.append(await row.measure(session, self._seconds))
        except NotMeasured:
            self.results[row.key][session.peer.name] = ""
        except (OSError, TimeoutError) as error:
            session.close()
            if not rounds:
                self.results[row.key][session.peer.name] = f"failed: {str(error) or 'out of time'}"


def _start(
    names: Sequence[str], folder: Path, stack: contextlib.ExitStack
) -> tuple[list[Peer], dict[str, str]]:
    certificate = Certificate(folder)
    started, about = [], {}
    for name in names:
        peer = PEERS[name](folder / name, certificate)
        stack.callback(peer.stop)
        try:
            peer.start()
        except Unavailable as error:
            about[peer.name] = f"not available: {error}"
        else:
            started.append(peer)
            about[peer.name] = f"{peer.about} ({peer.version})"
    return started, about


def main() -> int:
    arguments = _arguments()
    keys = _chosen(arguments.only, (row.key for row in ROWS))
    rows = [row for row in ROWS if row.key in keys]
    names = _chosen(arguments.peers, PEERS)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    now, before = dt.datetime.now(dt.UTC), os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        peers, servers = _start(names, folder, stack)
        run = Run(peers, rows, quick=arguments.quick)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run.all())
    about = {
        "date": f"{now:%Y-%m-%d %H:%M} UTC, {time.monotonic() - run.began:.0f} s"
        + (", --quick: for development, too short to quote" if arguments.quick else ""),
        "machine": f"{os.cpu_count()} cores, load {before:.1f} before and {os.getloadavg()[0]:.1f} after, "
        f"Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}",
        **servers,
    }
    columns = [PEERS[name].name for name in names]
    text = table.render(about, rows, columns, run.results)
    print(text)
    for path in table.save(ROOT / "bench" / "results", f"{now:%Y-%m-%d-%H%M%S}", text, about, run.results):
        print(f"saved {path.relative_to(ROOT)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit("stopped, with everything that was started; nothing is saved") from None
