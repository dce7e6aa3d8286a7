"""What the benchmark concludes from its rounds."""

from __future__ import annotations

import math

import pytest

from bench.__main__ import FAILED, PASSED, _gate
from bench.plan import ROWS
from bench.ratios import Ratio, Verdict, ratio, verdict
from bench.table import Results, judge, render
from bench.workloads import Round

ROW = next(row for row in ROWS if row.key == "q0")
NINE = [1.02, 1.08, 0.5, 1.04, 1.06, 1.01, 1.03, 9.0, 1.05]


def of(*ratios: float) -> Ratio | None:
    return ratio([(one * 7, 7.0) for one in ratios])


def test_nine_rounds_give_the_median_and_the_second_from_either_end() -> None:
    found = of(*NINE)
    assert found is not None
    assert (found.middle, found.low, found.high) == pytest.approx((1.04, 1.01, 1.08))


def test_one_wild_round_moves_neither_end() -> None:
    calm, wild = of(*[1.0] * 9), of(*[1.0] * 8, 40.0)
    assert calm == wild == Ratio(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    # From a table of the sign test at 5 %, two-sided: the rank is its critical value plus one.
    ("rounds", "rank"),
    [(6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (14, 3), (15, 4), (17, 5), (18, 5), (20, 6), (25, 8)],
)
def test_the_ends_hold_the_median_in_95_of_100(rounds: int, rank: int) -> None:
    found = of(*range(1, rounds + 1))
    assert found is not None
    assert (found.low, found.high) == (rank, rounds + 1 - rank)
    outside = 2 * sum(math.comb(rounds, below) for below in range(rank)) / 2**rounds
    assert outside <= 0.05 < outside + 2 * math.comb(rounds, rank) / 2**rounds


def test_the_pair_counts_not_the_level_of_the_round() -> None:
    # The machine slows down by half an order of magnitude; both servers feel it.
    found = ratio([(level * 1.1, level) for level in (1, 2, 3, 5, 8, 5, 3, 2, 1)])
    assert found is not None
    assert (found.low, found.high) == pytest.approx((1.1, 1.1))


def test_five_rounds_are_too_few_for_an_interval() -> None:
    found = of(1.0, 1.0, 1.0, 1.0, 1.0)
    assert found is not None
    assert not found.known
    assert found.noisy
    assert verdict(found) is Verdict.UNKNOWN
    assert str(found) == "1.000 [?] ~"


def test_a_cost_below_zero_counts_against_both_ends() -> None:
    pairs = [(value, 100.0) for value in (101.0, 102, 103, 104, 105, 106, 107, 108, 109)]
    once = ratio([*pairs[:8], (-1.0, 100.0)])
    assert once is not None
    assert (once.low, once.high) == pytest.approx((1.01, 1.08))
    twice = ratio([*pairs[:7], (-1.0, 100.0), (100.0, -1.0)])
    assert twice is not None
    assert not twice.known


def test_nothing_usable_is_no_ratio() -> None:
    assert ratio([]) is None
    assert ratio([(0.0, 1.0)]) is None
    assert verdict(None) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("low", "high", "noisy"),
    [
        (0.98, 1.02, False),
        (0.96, 1.04, True),
        (0.90, 1.00, True),
        (1.00, 1.07, True),
        (1.01, 1.20, False),  # dearer by some: more than its noise
        (9.00, 11.0, False),
        (0.70, 0.99, False),
    ],
)
def test_a_row_is_marked_when_it_is_worth_less_than_its_noise(low: float, high: float, noisy: bool) -> None:
    found = Ratio(math.sqrt(low * high), low, high)
    assert found.noisy is noisy
    assert str(found).endswith("~") is noisy


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.031, 1.20, Verdict.DEARER),
        (1.030, 1.20, Verdict.UNCLEAR),
        (0.90, 1.031, Verdict.UNCLEAR),
        (0.99, 1.030, Verdict.HOLDS),
        (0.90, 0.99, Verdict.CHEAPER),
        (0.0, math.inf, Verdict.UNKNOWN),
    ],
)
def test_the_verdict_is_about_the_ends(low: float, high: float, expected: Verdict) -> None:
    assert verdict(Ratio(1.0, low, high)) is expected


# -- rounds of two servers ---------------------------------------------------------------------------


def rounds(*values: float, missing: int | None = None, others: float = 0.0) -> list[Round]:
    return [
        Round(value, number=number, others=others) for number, value in enumerate(values) if number != missing
    ]


def results(ours: list[Round] | str, older: list[Round] | str) -> Results:
    return {ROW.key: {"gateway": ours, "0123456789": older}}


def judged(ours: list[Round] | str, older: list[Round] | str) -> dict[str, Verdict]:
    return judge([ROW], "gateway", "0123456789", results(ours, older))


def test_rounds_are_paired_by_number_though_one_failed() -> None:
    levels = [1.0, 2, 4, 8, 16, 8, 4, 2, 1]
    ours = rounds(*(level * 1.01 for level in levels))
    assert judged(ours, rounds(*levels, missing=1)) == {ROW.key: Verdict.HOLDS}
    assert judged(ours[1:], rounds(*levels)) == {ROW.key: Verdict.HOLDS}


def test_the_gate_closes_for_a_dearer_row_and_for_one_that_was_not_measured() -> None:
    base = rounds(*[10.0] * 9)
    assert _gate(judged(rounds(*[10.2] * 9), base)) == PASSED
    assert _gate(judged(rounds(*[10.4] * 9), base)) == FAILED
    assert _gate(judged("failed: no answer", base)) == FAILED
    assert _gate(judged(base, "failed: no answer")) == FAILED
    assert _gate(judged(base, base[:5])) == FAILED
    assert _gate(judged(rounds(*[10.0, 10.0, 10.0, 9.0, 12, 12, 12, 12, 12]), base)) == PASSED  # unclear


def test_a_row_that_means_nothing_for_the_gateway_has_no_verdict() -> None:
    assert judged("", "") == {}


def test_the_table_shows_ratio_verdict_and_how_busy_it_was() -> None:
    shown = render(
        {},
        [ROW],
        ["gateway", "0123456789"],
        results(rounds(*[10.4] * 9, others=0.5), rounds(*[10.0] * 9, others=0.1)),
        ours="gateway",
        older="0123456789",
    )
    assert "| work | to 0123456789 | verdict | busy elsewhere |" in shown
    assert f"| {ROW.title} | 1.040 [1.040, 1.040] | dearer | 0.30 / 0.50 |" in shown


def test_without_an_older_commit_there_is_no_verdict() -> None:
    shown = render({}, [ROW], ["gateway", "0123456789"], results(rounds(1.0), rounds(2.0)), ours="gateway")
    assert "verdict" not in shown
    assert f"| {ROW.title} | 0.500 [?] ~ | 0.00 / 0.00 |" in shown
