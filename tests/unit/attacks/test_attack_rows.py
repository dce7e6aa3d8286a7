"""The attacks by hand: that each can be named, and what breaks a row."""

from __future__ import annotations

import pytest
from attacks.__main__ import BROKE, _chosen, key, main
from attacks.rows import ROWS
from attacks.trial import MIB, Figures


def test_each_row_has_a_name_of_its_own():
    names = [key(row) for row in ROWS]
    assert len(set(names)) == len(names)
    assert _chosen(None) == list(enumerate(ROWS))
    assert [key(row) for _, row in _chosen("nothing,wrong-logins-1-network")] == [
        "nothing",
        "wrong-logins-1-network",
    ]


def test_a_beginning_names_all_rows_that_begin_so():
    chosen = [key(row) for _, row in _chosen("keyupdates-after-login")]
    assert len(chosen) == 2
    assert all(name.startswith("keyupdates-after-login-") for name in chosen)
    with pytest.raises(SystemExit, match="no row is called nonsense"):
        _chosen("nonsense")


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, None),
        ({"ping_p99": 0.5, "ping_most": 2.0, "disable": 1.0, "logins": [5.0]}, None),
        ({"ping_p99": 0.51}, "p99 of 0.51 s"),
        ({"ping_most": 2.1}, "2.1 s"),
        ({"lost": 1}, "ended 1 times"),
        ({"disable": 1.1}, "disable acts after 1.1 s"),
        ({"health_failures": ["timed out"]}, "/health: timed out"),
        ({"logins": [1.0, 5.1]}, "1 logins took over 5 s"),
        ({"logins_refused": ["new-1-0 got 2003"]}, "newcomers refused: new-1-0"),
        ({"memory_start": 100 * MIB, "memory_most": 301 * MIB}, "201 MiB more"),
        ({"error": "not tried: the time is over"}, "not tried"),
    ],
)
def test_each_bound_breaks_a_row(figures, said):
    broken = Figures(**figures).broken()
    assert [said in one for one in broken] == ([True] if said else [])


def test_what_is_not_tried_did_not_hold(capsys):
    assert main(["--only", "nothing", "--seconds", "-1"]) == BROKE
    assert "not tried, for the time is over: nothing" in capsys.readouterr().err
