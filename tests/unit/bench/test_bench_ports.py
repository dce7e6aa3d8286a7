"""Ports that are given to servers: chosen now, bound later, and nobody else has them meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.ports import free_port

GIVEN = "from bench.ports import free_port; print(*(free_port() for _ in range(400))); input()"
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_no_port_is_given_twice_not_by_another_process_either():
    here = [subprocess.Popen([sys.executable, "-c", GIVEN], stdin=-1, stdout=-1, text=True) for _ in range(3)]
    given = [int(port) for child in here for port in child.stdout.readline().split()]
    given += [free_port() for _ in range(400)]
    for child in here:
        child.communicate("\n", timeout=10)
    assert len(given) == 1600
    assert len(set(given)) == 1600


def test_none_is_one_that_the_kernel_gives_to_an_outgoing_connection():
    first = int(EPHEMERAL.read_text().split()[0])
    assert all(free_port() < first for _ in range(400))
