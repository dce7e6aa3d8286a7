"""The clocks that the benchmark reads."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from bench.resource_usage import cpu_seconds, family, memory_kib, percentile


def test_the_clock_of_a_process_is_the_one_it_reads_itself() -> None:
    before, own = cpu_seconds([os.getpid()]), time.process_time()
    while time.process_time() < own + 0.05:
        pass
    after = cpu_seconds([os.getpid()])
    assert before <= own
    assert after >= own + 0.05
    assert after <= time.process_time()


def test_several_processes_are_added_up() -> None:
    one = cpu_seconds([os.getpid()])
    assert cpu_seconds([os.getpid(), os.getpid()]) >= 2 * one


def test_a_process_that_is_gone_is_an_error_not_zero() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(ProcessLookupError, match=str(child.pid)):
        cpu_seconds([child.pid])


def test_workers_belong_to_their_server() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in family(os.getpid())
        assert family(child.pid) == [child.pid]
    finally:
        child.communicate(b"\n")


def test_memory_grows_with_what_is_touched() -> None:
    before = memory_kib([os.getpid()])
    held = b"x" * (32 << 20)
    assert memory_kib([os.getpid()]) - before > 31 << 10
    del held


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert percentile(range(100, 0, -1), share) == expected
