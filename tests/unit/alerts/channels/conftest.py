"""Receivers, and a message to send."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.receivers import HttpReceiver, authority

from gateway.alerts.notification_grouping import Listed, Message, State, message_of
from gateway.alerts.rules import Severity


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def receiver(tls: tuple[ssl.SSLContext, Path]) -> Iterator[HttpReceiver]:
    one = HttpReceiver(tls[0])
    yield one
    one.stop()


@pytest.fixture
def plain_receiver() -> Iterator[HttpReceiver]:
    one = HttpReceiver()
    yield one
    one.stop()


def told(number: int = 1, rule: str = "down", severity: Severity = Severity.CRITICAL) -> Listed:
    labels = {"device": f"d{number}", "site": "north"}
    return Listed(rule, severity, "It is down.", float(number), labels, 1_790_000_000_000 + number)


@pytest.fixture
def message() -> Message:
    return message_of(State.FIRING, [told()], node="gw-1", at=1_790_000_005_000)


@pytest.fixture
def many() -> Message:
    return message_of(State.RESOLVED, [told(n) for n in range(500)], node="gw-1", at=1_790_000_005_000)
