"""Ports that are given to servers: chosen now, bound later, and nobody else has them meanwhile."""

from __future__ import annotations

import subprocess
import sys

import pytest
from harness.gateway import ROOT

from bench import ports
from bench.ports import free_port

GIVEN = "from bench.ports import free_port; print(*(free_port() for _ in range(400))); input()"


def test_no_port_is_given_twice_not_by_another_process_either():
    here = [
        subprocess.Popen([sys.executable, "-c", GIVEN], stdin=-1, stdout=-1, text=True, cwd=ROOT)
        for _ in range(3)
    ]
    try:
        given = [int(port) for child in here for port in child.stdout.readline().split()]
        given += [free_port() for _ in range(400)]
    finally:
        for child in here:
            child.communicate("\n", timeout=10)
    assert len(given) == 1600
    assert len(set(given)) == 1600


@pytest.fixture
def limits(monkeypatch, tmp_path):
    """Where the kernel says what it gives to outgoing connections."""
    monkeypatch.setattr(ports, "_EPHEMERAL", tmp_path / "range")
    ports._apart.cache_clear()
    yield tmp_path / "range"
    ports._apart.cache_clear()


def test_none_is_one_that_the_kernel_gives_to_an_outgoing_connection(limits):
    limits.write_text("32768\t60999\n")
    assert all(free_port() < 32_768 for _ in range(400))


@pytest.mark.parametrize("said", ["1024\t65535\n", "10000 60999", "32768 65535", "1024 50000", None])
def test_there_is_one_whatever_the_kernel_keeps_for_outgoing_connections(limits, said):
    if said:
        limits.write_text(said)
    assert len({free_port() for _ in range(20)}) == 20
