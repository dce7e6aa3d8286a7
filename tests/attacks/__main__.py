"""Attack a running gateway, row by row, with an honest device beside; exit code 1 if a row broke.

Each row starts an attacker in a process of its own. While it attacks,
  - an honest device pings and publishes every 20 ms: 0.5 s at p99 and 2 s at most;
  - newcomers log in for the first time, each from a network of its own: 5 s at most;
  - /health is asked, and has to say yes within 5 s;
  - after 2 s `gateway-admin device disable` is called for the attacker: its connections end within a second
    of the command's return;
  - memory stays within 200 MiB of what the gateway held before the first row.
A bound that did not hold is the row's verdict.

The gateway is one process as users start it, with the shipped limits, before a Mosquitto that is set up by
deploy/mosquitto.conf; some rows need one with other settings. Attackers and gateway share the machine's
cores, and so does whatever else runs there: the first row is no attack, and says what the figures are without
one; of the gateway's event loop "runs" is the share of the time in which it did, and "waits" that in which it
could have and had no core.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from attacks.house import KINDS, House
from attacks.rows import ROWS
from attacks.trial import MIB, Figures, Row, try_row

HELD, BROKE = 0, 1
_SECONDS_MAX = 600.0
_HEAD = "         p50     p99    most   disable  /health   login   MiB before  most  runs  waits"


def key(row: Row) -> str:
    """The row's name as it is typed."""
    return re.sub(r"[^a-z0-9]+", "-", row.name.lower()).strip("-")


def _arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make attacks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="For example: make attacks ATTACKS='--only wrong-logins,keyupdates-after-login --json'",
    )  # fmt: skip
    parser.add_argument(
        "--only",
        metavar="ROW,ROW",
        help="rows by their names, or by how they begin (`refused` is all of those)",
    )
    parser.add_argument("--list", action="store_true", help="say which rows there are, and do nothing")
    parser.add_argument(
        "--json", action="store_true", help="the figures as JSON, a line a row, in place of a table"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="a new folder: logs and data stay there",
    )
    parser.add_argument(
        "--seconds", type=float, default=_SECONDS_MAX, metavar="N",
        help=f"begin no row after so many seconds ({_SECONDS_MAX:.0f}); what was not tried did not hold",
    )  # fmt: skip
    return parser.parse_args(words)


def _chosen(only: str | None) -> list[tuple[int, Row]]:
    numbered = list(enumerate(ROWS))
    if only is None:
        return numbered
    found = {}
    for wanted in only.split(","):
        matching = [one for one in numbered if key(one[1]) == wanted] or [
            one for one in numbered if key(one[1]).startswith(wanted)
        ]
        if not matching:
            raise SystemExit(f"no row is called {wanted}, or begins so; --list says which there are")
        found |= dict(matching)
    return sorted(found.items())


def _shown(row: Row, figures: Figures) -> str:
    login = f"{max(figures.logins):.2f}" if figures.logins else "-"
    broken = figures.broken()
    return (
        f"{key(row)}\n"
        f"  {figures.ping_p50 * 1e3:8.1f}{figures.ping_p99 * 1e3:8.0f}{figures.ping_most * 1e3:8.0f}"
        f"{figures.disable:10.2f}{figures.health_most:9.2f}{login:>8}"
        f"{figures.memory_before / MIB:13.0f}{figures.memory_most / MIB:6.0f}"
        f"{figures.loop_runs:6.0%}{figures.loop_waits:7.0%}"
        f"  {'BROKE: ' + '; '.join(broken) if broken else 'held'}"
        f"  ({figures.sent / MIB:,.0f} MiB, {figures.links:,} connections, {figures.seconds:.0f} s)"
    )


def _try_all(rows: list[tuple[int, Row]], arguments: argparse.Namespace, folder: Path) -> int:
    code, end = HELD, time.monotonic() + arguments.seconds
    if not arguments.json:
        print(
            f"{len(rows)} rows, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
            f"pings in ms, all else in s\n{_HEAD}"
        )
    for kind, meaning in KINDS.items():
        chosen = [one for one in rows if one[1].house == kind]
        if not chosen:
            continue
        if time.monotonic() > end:
            code = BROKE
            print(
                f"not tried, for the time is over: {', '.join(key(row) for _, row in chosen)}",
                file=sys.stderr,
            )
            continue
        if not arguments.json:
            print(f"\n== a gateway {meaning}")
        house = House(
            _made(folder / kind), kind, {number: (row.role, row.newcomers) for number, row in chosen}
        )
        try:
            house.start()
            for number, row in chosen:
                late = time.monotonic() > end
                figures = (
                    Figures(error="not tried: the time is over") if late else try_row(house, row, number)
                )
                if arguments.json:
                    print(json.dumps({"row": key(row), "gateway": kind, **figures.as_json()}), flush=True)
                else:
                    print(_shown(row, figures), flush=True)
                code = BROKE if figures.broken() else code
        finally:
            house.stop()
    return code


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main(words: Sequence[str] | None = None) -> int:
    """Exit code."""
    arguments = _arguments(words)
    rows = _chosen(arguments.only)
    if arguments.list:
        print("\n".join(key(row) for _, row in rows))
        return HELD
    if arguments.keep:
        return _try_all(rows, arguments, _made(arguments.keep.resolve()))
    # In memory, if the system has that: who waits for the disk of a busy machine waits for no attacker.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="attacks-", dir=memory if memory.is_dir() else None) as folder:
        return _try_all(rows, arguments, Path(folder).resolve())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        print("stopped, with everything that was started", file=sys.stderr)
        raise SystemExit(2) from None
