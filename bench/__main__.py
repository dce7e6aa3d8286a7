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
from collections.abc import Iterable, Mapping
from pathlib import Path

import uvloop

from bench import table
from bench.checkout import ROOT, Unusable, resolve, unpack
from bench.interleaved_rounds import Run
from bench.peers import Certificate, Gateway, Peer
from bench.plan import PEERS, ROWS
from bench.process import Unavailable
from bench.ratios import LEAST_ROUNDS, Verdict

ROUNDS = 9
PASSED, FAILED = 0, 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, for development")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds of each row ({ROUNDS})")
    parser.add_argument(
        "--only",
        metavar="ROW,ROW",
        help=f"rows: {', '.join(row.key + '*' * row.by_name for row in ROWS)} (*: minutes, only by name)",
    )
    parser.add_argument("--peers", metavar="NAME,NAME", help=f"servers: {', '.join(PEERS)}")
    parser.add_argument(
        "--against", metavar="COMMIT", help="compare with the gateway of that commit; exit code 1 if dearer"
    )
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (LEAST_ROUNDS if arguments.quick else ROUNDS)
    if arguments.rounds < LEAST_ROUNDS:
        parser.error(f"fewer than {LEAST_ROUNDS} rounds have no 95 % interval")
    return arguments


def _chosen(asked: str | None, known: Iterable[str]) -> list[str]:
    names = list(known)
    wanted = asked.split(",") if asked else names
    for name in wanted:
        if name not in names:
            raise SystemExit(f"unknown: {name}; choose from {', '.join(names)}")
    return [name for name in names if name in wanted]


def _start(peers: Iterable[Peer], about: dict[str, str], stack: contextlib.ExitStack) -> list[Peer]:
    """Those that started; what is to be said of each goes into `about`."""
    started = []
    for peer in peers:
        stack.callback(peer.stop)
        try:
            peer.start()
        except (Unavailable, Unusable) as error:
            about.setdefault(peer.name, f"not available: {error}")
            print(f"{peer.name} did not start: {error}", file=sys.stderr, flush=True)
        else:
            about.setdefault(peer.name, f"{peer.about} ({peer.version})")
            started.append(peer)
    return started


def _measure(run: Run, peers: list[Peer], rounds: int) -> dict[str, str]:
    """All rounds, and what to say of each server."""
    about: dict[str, str] = {}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for number in range(rounds):
            with contextlib.ExitStack() as stack:
                peers = _start(peers, about, stack)
                runner.run(run.round(peers, number))
    return about


def main() -> int:
    arguments = _arguments()
    keys = _chosen(arguments.only, (row.key for row in ROWS))
    rows = [row for row in ROWS if row.key in keys and (arguments.only or not row.by_name)]
    names = [name for name in _chosen(arguments.peers, PEERS) if arguments.peers or not PEERS[name].by_name]
    ours = next((name for name in names if issubclass(PEERS[name], Gateway)), Gateway.name)
    if arguments.against and Gateway.name not in names:
        raise SystemExit("--against compares the gateway: it has to be among the --peers")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    now, before, older = dt.datetime.now(dt.UTC), os.getloadavg()[0], None
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name).resolve()
        certificate = Certificate(folder)
        peers = [PEERS[name](folder / name, certificate) for name in names]
        if arguments.against:
            try:
                commit = resolve(arguments.against)
                peers.append(Gateway(folder / "older", certificate, unpack(commit, folder / "tree")))
            except Unusable as error:
                raise SystemExit(f"--against {arguments.against}: {error}") from None
            peers[-1].name = older = commit[:10]
        run = Run(rows, rounds=arguments.rounds, seconds=0.25 if arguments.quick else 1.0)
        servers = _measure(run, peers, arguments.rounds)
    about = {
        "date": f"{now:%Y-%m-%d %H:%M} UTC, {time.monotonic() - run.began:.0f} s, {arguments.rounds} rounds"
        + (", --quick: for development, too short to quote" if arguments.quick else ""),
        "machine": f"{os.cpu_count()} cores, load {before:.1f} before and {os.getloadavg()[0]:.1f} after, "
        f"Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}",
        **servers,
    }
    text = table.render(about, rows, [peer.name for peer in peers], run.results, ours=ours, older=older)
    print(text)
    for path in table.save(ROOT / "bench" / "results", f"{now:%Y-%m-%d-%H%M%S}", text, about, run.results):
        print(f"saved {path.relative_to(ROOT)}", file=sys.stderr)
    return _gate(table.judge(rows, Gateway.name, older, run.results)) if older else PASSED


def _gate(verdicts: Mapping[str, Verdict]) -> int:
    """FAILED if a row is dearer, or if nothing is known of it: what was not measured does not pass."""
    against = {key: found for key, found in verdicts.items() if found in (Verdict.DEARER, Verdict.UNKNOWN)}
    for key, found in against.items():
        print(f"{key}: {found.value}", file=sys.stderr)
    return FAILED if against else PASSED


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit("stopped, with everything that was started; nothing is saved") from None
