"""File descriptors: what is asked for, how many connections fit, and what is said when they are too few."""

from __future__ import annotations

import resource

import pytest

from gateway.app import file_descriptors
from gateway.app.file_descriptors import allowed, ask_for, connections_that_fit, needed, shortage
from gateway.policy.engine.limits import Limits


def test_what_ships_needs_less_than_most_systems_give():
    assert needed(Limits()) < 20_000
    assert shortage(Limits(), 20_000) == ""


@pytest.mark.parametrize("files", [256, 1_024, 4_096, 18_399])
def test_a_shortage_says_what_is_let_in_and_what_to_do(files):
    said = shortage(Limits(), files)
    for word in ("connections = 8000", "18400", str(files), "LimitNOFILE", "ulimit -n", "--ulimit nofile"):
        assert word in said
    assert f"no more than {connections_that_fit(files)} connections" in said
    assert 0 < connections_that_fit(files) * 2 < files, "both ends of a connection fit"


def test_what_is_needed_fits():
    assert connections_that_fit(needed(Limits())) == Limits().connections
    assert connections_that_fit(2**31) > Limits().connections


def test_the_limits_are_asked_for_and_no_more_than_the_system_lets_us(monkeypatch):
    asked = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: asked.append(pair))
    for soft, hard, wanted in (
        (1_024, 20_000, [(18_400, 20_000)]),
        (1_024, 4_096, [(4_096, 4_096)]),
        (1_024, resource.RLIM_INFINITY, [(18_400, resource.RLIM_INFINITY)]),
        (65_536, 65_536, []),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, []),
    ):
        monkeypatch.setattr(resource, "getrlimit", lambda _, pair=(soft, hard): pair)
        ask_for(Limits())
        assert asked == wanted
        asked.clear()
    assert allowed() == 2**31
    assert file_descriptors.needed(Limits(connections=100)) == 2_600
