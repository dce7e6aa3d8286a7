"""Who is measured when, and what else the machine did."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import accounts, background_cpu, interleaved_rounds
from bench.interleaved_rounds import Run, order
from bench.many_open_connections import IdleCpu
from bench.plan import ROWS
from bench.workloads import Connecting, Idle, NotMeasured, Round, Row, Session


@pytest.mark.parametrize("count", range(1, 8))
def test_every_server_has_every_place_and_every_neighbour_equally_often(count: int) -> None:
    places: Counter[tuple[int, int]] = Counter()
    neighbours: Counter[tuple[int, int]] = Counter()
    for number in range(2 * count):
        turn = order(count, number)
        assert sorted(turn) == list(range(count))
        places.update(enumerate(turn))
        neighbours.update(itertools.pairwise(turn))
    assert set(places.values()) == {2}
    assert len(neighbours) == count * (count - 1)
    assert set(neighbours.values()) <= {2}


def test_two_servers_never_keep_their_order_for_all_rounds() -> None:
    assert [order(2, number)[0] for number in range(9)].count(0) in (4, 5)


def test_the_accounts_last_for_a_round() -> None:
    for row in ROWS:
        if isinstance(row, Connecting) and row.first and row.key == "connect-first":
            assert len(accounts.AGAIN) + row.most <= len(accounts.FIRST)
        if isinstance(row, Idle):
            assert row.each <= len(accounts.IDLE)


# -- rounds, without any server ----------------------------------------------------------------------


@dataclass(frozen=True)
class Noted(Row):
    """Writes down who was measured."""

    done: list[str] = field(default_factory=list)
    fails: tuple[tuple[str, int], ...] = ()  # who, in which of its turns
    means_nothing_for: str = ""

    async def prepare(self, session: Session, seconds: float) -> None:
        self.done.append(f"prepare {session.peer.name}")

    async def measure(self, session: Session, seconds: float) -> Round:
        name = session.peer.name
        if name == self.means_nothing_for:
            raise NotMeasured
        self.done.append(name)
        if (name, self.done.count(name)) in self.fails:
            raise ConnectionError("gone")
        return Round(float(self.done.count(name)))

    def finish(self, session: Session) -> None:
        self.done.append(f"finish {session.peer.name}")


def measured(row: Noted, monkeypatch: pytest.MonkeyPatch, rounds: int = 4) -> Run:
    async def fine(session: Session) -> None:
        pass

    monkeypatch.setattr(interleaved_rounds, "check", fine)
    peers = [SimpleNamespace(name=name, target=None) for name in "ABC"]
    whole = Run([row], rounds=rounds, seconds=1.0)
    for number in range(rounds):
        asyncio.run(whole.round(peers, number))  # type: ignore[arg-type]
    return whole


def test_idle_servers_are_measured_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    all_there = asyncio.Barrier(3)

    @dataclass(frozen=True)
    class Meeting(Noted):
        side_by_side: bool = True

        async def measure(self, session: Session, seconds: float) -> Round:
            async with asyncio.timeout(5):
                await all_there.wait()
            return await super().measure(session, seconds)

    run = measured(Meeting("k", "t"), monkeypatch, rounds=1)
    assert {name: len(rounds) for name, rounds in run.results["k"].items()} == {"A": 1, "B": 1, "C": 1}
    assert all(row.side_by_side is isinstance(row, IdleCpu) for row in ROWS)


def test_servers_take_turns_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Noted("k", "t")
    whole = measured(row, monkeypatch)
    expected: list[str] = []
    for number in range(4):
        expected += [f"prepare {name}" for name in "ABC"]
        expected += ["ABC"[place] for place in order(3, number)]
        expected += [f"finish {name}" for name in "ABC"]
    assert row.done == expected
    assert [one.number for one in whole.results["k"]["B"]] == [0, 1, 2, 3]  # type: ignore[union-attr]


def test_a_round_that_failed_leaves_the_numbers_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(Noted("k", "t", fails=(("B", 2), ("C", 1))), monkeypatch)
    assert [one.number for one in whole.results["k"]["B"]] == [0, 2, 3]  # type: ignore[union-attr]
    assert [one.number for one in whole.results["k"]["C"]] == [1, 2, 3]  # type: ignore[union-attr]
    assert [one.number for one in whole.results["k"]["A"]] == [0, 1, 2, 3]  # type: ignore[union-attr]


def test_a_server_that_never_succeeded_says_why_and_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Noted("k", "t", fails=tuple(("B", turn) for turn in range(1, 5)))
    assert measured(row, monkeypatch).results["k"]["B"] == "failed: gone"
    assert row.done.count("B") == 2


def test_what_means_nothing_is_neither_measured_nor_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(Noted("k", "t", means_nothing_for="C"), monkeypatch)
    assert whole.results["k"]["C"] == ""
    assert len(whole.results["k"]["A"]) == 4


def test_no_round_is_begun_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleaved_rounds, "TOTAL_SECONDS", -1)
    row = Noted("k", "t")
    assert measured(row, monkeypatch).results["k"]["A"] == "failed: out of time"
    assert row.done == [f"finish {name}" for name in "ABC"] * 4


# -- the machine -------------------------------------------------------------------------------------

STAT = "cpu  {user} 100 {system} 9999 9999 30 40 {steal} 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"


def test_all_is_what_was_not_idle_stolen_time_included() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    assert background_cpu.everybody(STAT.format(user=200, system=300, steal=50)) == 720 / ticks


def test_a_file_of_another_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="first line"):
        background_cpu.everybody("intr 1 2 3 4 5 6 7 8 9\n")


def test_others_are_all_but_us_in_processors() -> None:
    before, after = background_cpu.Reading(100.0, 40.0, 7.0), background_cpu.Reading(103.0, 41.0, 9.0)
    assert background_cpu.others(before, after) == pytest.approx(1.0)
    assert background_cpu.others(before, background_cpu.Reading(100.9, 41.0, 9.0)) == 0.0  # ticks are coarse


BURN = "import time, os\nwhile time.process_time() < 0.5: pass\n"


def test_a_child_is_ours_and_an_orphan_is_not(tmp_path: Path) -> None:
    before = background_cpu.Reading.now()
    child = subprocess.Popen(
        [sys.executable, "-c", BURN + "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()  # it has burnt its half second, and is still there
    after = background_cpu.Reading.now()
    child.communicate(b"\n")
    assert after.ours - before.ours > 0.5

    done = tmp_path / "done"
    os.mkfifo(done)
    before = background_cpu.Reading.now()
    orphan = f"{BURN}open({str(done)!r}, 'w').close()\n"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {orphan!r}])"
    subprocess.run([sys.executable, "-c", parent], check=True)
    done.read_bytes()  # opens when the orphan is through
    after = background_cpu.Reading.now()
    assert after.ours - before.ours < 0.4
    assert after.all - before.all > 0.4
