"""Verdicts follow the numbers of the seeds, with a note if there are too few."""

import math

import pytest

from thruway.experiments.machinery import Claim, judge


def claim(holds_if="<=", threshold=1.0):
    return Claim(
        id="c",
        text="it works",
        source="a paper, sec. 1",
        statistic="the mean, in units",
        measure=lambda rows: sum(row["x"] for row in rows) / len(rows),
        holds_if=holds_if,
        threshold=threshold,
    )


def rows(*values):
    """One row per seed."""
    return [{"seed": seed, "x": x} for seed, x in enumerate(values)]


@pytest.mark.parametrize(
    ("holds_if", "values", "verdict"),
    [
        ("<=", (0.5, 1.0, 0.9), "holds"),
        ("<", (0.5, 1.0, 0.9), "unclear"),
        ("<", (0.5, 0.99, 0.9), "holds"),
        (">=", (1.0, 3.0, 7.0), "holds"),
        (">=", (0.999, 0.5, 0.1), "fails"),
        ("<=", (1.001, 2.0, 3.0), "fails"),
        ("<=", (0.5, 2.0, 3.0), "unclear"),
        ("<=", (math.inf, math.inf, math.inf), "fails"),
        (">=", (math.inf, math.inf, math.inf), "holds"),
        ("<=", (0.5, 0.5, math.nan), "unclear"),
        ("<=", (math.nan, math.nan, math.nan), "unclear"),
    ],
)
def test_every_seed_has_a_say(holds_if, values, verdict):
    assert judge(claim(holds_if), rows(*values)).verdict == verdict


def test_a_seed_is_measured_on_its_own_rows():
    mixed = [{"seed": 1, "x": 2.0}, {"seed": 0, "x": 0.0}, {"seed": 1, "x": 4.0}, {"seed": 0, "x": 1.0}]
    assert judge(claim(), mixed).value == [0.5, 3.0]  # in the order of the seeds


def test_three_seeds_that_agree_need_no_note():
    assert judge(claim(), rows(0.1, 0.2, 0.3)).note == ""


def test_the_note_counts_seeds_that_disagree():
    assert judge(claim(), rows(0.1, 2.0, 0.3)).note == "2 of 3 seeds meet it"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.5,), "only 1 seed; a definite verdict requires 3"),
        ((0.5, 0.6), "only 2 seeds; a definite verdict requires 3"),
    ],
)
def test_fewer_than_three_seeds_are_called_so(values, said):
    judged = judge(claim(), rows(*values))
    assert judged.verdict == "holds"
    assert said in judged.note


def test_what_cannot_be_told_is_unclear_and_says_so():
    for missing in ([], rows(math.nan)):
        judged = judge(claim(), missing)
        assert judged.verdict == "unclear"
        assert "results are missing, or the networks have hardly learnt" in judged.note


def test_the_verdict_carries_the_claim():
    judged = judge(claim(">=", 10), rows(20.0, 30.0, 40.0))
    assert (judged.id, judged.text, judged.source) == ("c", "it works", "a paper, sec. 1")
    assert (judged.statistic, judged.threshold, judged.value) == ("the mean, in units", ">= 10", [20.0, 30.0, 40.0])
