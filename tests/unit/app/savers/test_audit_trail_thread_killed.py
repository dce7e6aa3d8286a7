"""SIGKILL at any moment: the tree is whole, each event in it once, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from harness import killed_writer
from harness.trails import SEED, trail_in, verified

from gateway.audit_trail.segments import decoded, entries_from

ROUNDS = int(os.environ.get("AUDIT_KILLS", "10"))


def test_killed_at_any_moment_it_is_whole_and_has_each_event_once(tmp_path):
    tests = Path(killed_writer.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "harness.killed_writer", str(tmp_path), str(ROUNDS)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    acknowledged = done.stdout.split()
    assert killed_writer.SEED == SEED
    trail_in(tmp_path / "audit").close()  # what a next start does
    verdict = verified(tmp_path / "audit")
    assert verdict.problems == []
    assert verdict.signed > 0
    entries = [decoded(line) for _, line in entries_from(tmp_path / "audit" / "entries", 0)]
    assert [entry["seq"] for entry in entries] == list(range(len(entries)))
    ids = Counter(entry["id"] for entry in entries if "id" in entry)
    assert set(ids.values()) <= {1}, "each once"
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as store:
        waiting = {
            row[0] for row in store.execute("SELECT json_extract(event, '$.device') FROM admin_events")
        }
        there = {row[0] for row in store.execute("SELECT device_id FROM devices")}
    kept = {entry["device"] for entry in entries if entry.get("kind") == "device"}
    assert kept | waiting == there, "no event without a change, no change without an event"
    assert there >= set(acknowledged)
    assert acknowledged, "some of it was told, however slow the machine is"
