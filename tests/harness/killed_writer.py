"""Writes an audit trail and is killed, again and again: `python -m harness.killed_writer FOLDER ROUNDS`.

Each round is a process of its own, forked from one that has imported all: it takes what administrators did
out of the store into the trail, beside a flood of what devices do, until SIGKILL. What the round acknowledged
of administrators is printed, a line each.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

from gateway.admin import devices
from gateway.app.admin_event_reporting import AdminEventReporter
from gateway.app.savers import audit_trail_thread
from gateway.app.savers.audit_trail_thread import AuditTrail
from gateway.audit_trail.writer import Trail
from gateway.connection.audit_vocabulary import HOUSE, Report, Source
from gateway.connection.process_counters import Counters
from gateway.observe.audit_dispatch import Audit, AuditEvent, AuditLog
from gateway.observe.logs import configure
from gateway.observe.save_failures import Saves
from gateway.observe.trail_entry import entry_line
from gateway.store import (
    async_engine,  # noqa: F401 - else `open_store` imports it in each process
    open_store,
)

SEED = bytes(range(32))


def now() -> int:
    return time.time_ns() // 1_000_000


async def write(folder: Path, round_: int) -> None:
    """A gateway's audit, and an administrator beside it, for ever."""
    store = await open_store(f"sqlite:///{folder}/gateway.db")
    saves = Saves()
    files = Trail(folder / "audit", SEED, "gateway-test/node-1", entry_line, now)
    trail = AuditTrail(files, store, "node-1", counters=Counters(), retention=86_400, now=now, saves=saves)
    log = AuditLog(Counters(), now, keep=trail.keep)
    audit = Audit(Counters(), log)

    def report(what: Report) -> None:
        audit.emit(AuditEvent.of(what, HOUSE, now()))

    await trail.open(report)
    admin = AdminEventReporter(store, audit, saves, trail)
    number = 0
    while True:
        number += 1
        name = f"{round_}-{number}"
        await devices.add(store, name, credential="c", roles=[], labels={}, actor="me")
        os.write(1, f"{name}\n".encode())
        for at in range(200):
            trail.keep({"time": now(), "kind": "publish", "reason": f"{at}"}, Source.DEVICE)
        await trail.save_some()
        await admin.report()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def main() -> None:
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    with Path(os.devnull).open("w") as nowhere:
        configure("error", nowhere)
        audit_trail_thread.SIGN_SECONDS = 0.05
        dice = random.Random(rounds)
        for round_ in range(rounds):
            child = os.fork()
            if child == 0:
                asyncio.run(write(folder, round_))
            time.sleep(dice.uniform(0.02, 0.8))
            if round_ == rounds - 1:
                wait_for(
                    folder / "audit" / "checkpoint"
                )  # so that some was signed, however slow the machine is
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
