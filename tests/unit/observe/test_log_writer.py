"""Log lines are written beside everything else: a reader who stalls costs lines, which are counted."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from gateway.observe import log_writer
from gateway.observe.log_writer import WAITING_MAX, LogWriter


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    for descriptor in (read, write):
        os.close(descriptor)


def read_some(descriptor: int, until: str) -> str:
    """Everything up to a line with these words."""
    found = b""
    while until.encode() not in found or not found.endswith(b"\n"):
        found += os.read(descriptor, 65_536)
    return found.decode()


def read_lines(descriptor: int, enough: Callable[[list[str]], bool]) -> list[str]:
    """Whole lines, as many as are enough."""
    found = b""
    while not found.endswith(b"\n") or not enough(found.decode().splitlines()):
        found += os.read(descriptor, 65_536)
    return found.decode().splitlines()


def noted(lines: list[str]) -> list[int]:
    """How many lines were dropped, as often as it is said."""
    return [int(line.removeprefix("dropped ")) for line in lines if line.startswith("dropped ")]


def test_lines_that_come_soon_after_one_another_are_written_together(pipe, monkeypatch):
    """Kind: a thread that wakes for each of many small things takes the interpreter from the event loop."""
    read, write = pipe
    rests, go_on, writes = threading.Event(), threading.Event(), []

    def rest(_: float) -> None:
        rests.set()
        go_on.wait(10)

    def counted(descriptor: int, data: bytes) -> int:
        writes.append(len(data))
        return written(descriptor, data)

    written = os.write
    monkeypatch.setattr(log_writer, "time", SimpleNamespace(sleep=rest))
    monkeypatch.setattr(log_writer, "os", SimpleNamespace(write=counted))
    writer = LogWriter(write, str)
    writer.write("first\n")
    assert rests.wait(10)
    for number in range(100):
        writer.write(f"{number}\n")
    go_on.set()
    writer.flush(10)
    assert read_some(read, "99").splitlines() == ["first", *map(str, range(100))]
    assert len(writes) == 2


def test_lines_are_written_in_order(pipe):
    read, write = pipe
    writer = LogWriter(write, str)
    for number in range(100):
        writer.write(f"{number}\n")
    writer.flush(10)
    assert read_some(read, "99").split() == [str(number) for number in range(100)]
    assert writer.dropped == 0


def test_a_reader_who_stalls_holds_up_nobody_and_is_told_what_it_missed(pipe):
    read, write = pipe
    writer = LogWriter(write, lambda dropped: f"dropped {dropped}\n")
    line = "x" * 999 + "\n"
    count = 2 * WAITING_MAX // len(line)
    begun = time.monotonic()
    for _ in range(count):
        writer.write(line)
    assert time.monotonic() - begun < 5
    dropped = writer.dropped
    assert WAITING_MAX // len(line) // 2 < dropped < count
    told = read_lines(read, lambda lines: len(lines) - len(noted(lines)) + sum(noted(lines)) >= count)
    assert sum(noted(told)) == dropped
    assert told.count(line.strip()) == count - dropped
    writer.write("again\n")
    assert read_some(read, "again").endswith("again\n")


def test_what_was_missed_is_told_where_it_is_missing(pipe):
    read, write = pipe
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"\n" * 4_096)
    writer = LogWriter(write, lambda dropped: f"dropped {dropped}\n")
    writer.write("first\n")
    while writer._waiting:  # until it is being written, and can't be
        time.sleep(0.001)
    number = 0
    while writer.dropped < 10:
        writer.write(f"{number:0999}\n")
        number += 1
    told = [line for line in read_lines(read, lambda lines: "dropped 10" in lines) if line]
    assert told[0] == "first"
    assert [int(line) for line in told[1:-1]] == list(range(number - 10))
    assert told[-1] == "dropped 10"


def test_what_waits_is_not_waited_for_without_end(pipe):
    read, write = pipe
    writer = LogWriter(write, str)
    writer.write("x" * 200_000 + " end\n")  # more than a pipe holds
    begun = time.monotonic()
    writer.flush(0.2)
    assert 0.1 < time.monotonic() - begun < 5
    assert len(read_some(read, "end")) == 200_005


def test_a_pipe_that_somebody_made_nonblocking_gets_whole_lines(pipe):
    read, write = pipe
    os.set_blocking(write, False)
    writer = LogWriter(write, str)
    writer.write("x" * 500_000 + " end\n")
    assert len(read_some(read, "end")) == 500_005


def test_a_reader_who_went_away_costs_its_lines():
    read, write = os.pipe()
    os.close(read)
    writer = LogWriter(write, str)
    writer.write("into the void\n")
    writer.flush(10)
    writer.write("again\n")
    writer.flush(10)
    os.close(write)


def run(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", "from gateway.observe import logs\n" + code],
        capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


def test_at_the_end_of_the_process_all_lines_are_there():
    done = run("logs.configure('info')\nfor n in range(500): logs.get_logger().info('line', n=n)")
    assert [json.loads(line)["n"] for line in done.stderr.splitlines()] == list(range(500))


def test_a_crash_shows_its_traceback_and_the_lines_before_it():
    # More than a pipe holds: when it crashes, most of them still wait to be written.
    lines = "for n in range(3_000): logs.get_logger().info('before', n=n)"
    code = (
        f"from gateway.observe import logs\nlogs.configure('info')\n{lines}\nprint('now', flush=True)\n1 / 0"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    before, mark, traceback = said.partition("Traceback")
    assert [json.loads(line)["n"] for line in before.splitlines()] == list(range(3_000))
    assert mark
    assert traceback.endswith("ZeroDivisionError: division by zero\n")
    assert "before" not in traceback, "no line comes between its pieces"


def test_a_process_ends_though_nobody_reads_its_log():
    code = (
        "import sys\nlogs.configure('info')\n"
        "for n in range(5_000): logs.get_logger().info('x' * 1_000)\n"
        "print('done', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", "from gateway.observe import logs\n" + code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        assert process.wait(log_writer._EXIT_SECONDS + 20) == 0
        assert process.stderr is not None
        process.stderr.close()


@pytest.mark.parametrize(("form", "starts"), [("json", "{"), ("text", "20"), ("", "{")])
def test_the_form_of_a_line_is_chosen(form, starts):
    done = run(f"logs.configure('info', form={form!r})\nlogs.get_logger().warning('said', device='lamp-1')")
    assert done.stderr.startswith(starts)
    assert "\x1b" not in done.stderr
    assert "lamp-1" in done.stderr
