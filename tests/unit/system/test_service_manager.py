"""What systemd hears, on a socket as it gives one."""

from __future__ import annotations

import os
import socket

import pytest

from gateway.system.service_manager import notify, watchdog_seconds


@pytest.mark.parametrize("abstract", [False, True])
def test_it_hears_what_it_is_told(monkeypatch, tmp_path, abstract):
    name = f"@gateway-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/at/all"])
def test_nobody_there_is_no_reason_to_fail(monkeypatch, name):
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    notify("READY=1")


def test_a_manager_that_does_not_listen_holds_nobody_up(monkeypatch, tmp_path):
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        for _ in range(10_000):
            notify("WATCHDOG=1")


@pytest.mark.parametrize(
    ("asked", "pid", "seconds"),
    [
        ("30000000", "", 15.0),
        ("30000000", "us", 15.0),
        ("30000000", "1", None),
        ("", "", None),
        ("0", "", None),
        ("soon", "", None),
    ],
)
def test_it_hears_twice_as_often_as_it_asks(monkeypatch, asked, pid, seconds):
    monkeypatch.setenv("WATCHDOG_USEC", asked)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "us" else pid)
    assert watchdog_seconds() == seconds
