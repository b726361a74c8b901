"""Each claim on rows whose statistic is computed by hand."""

import itertools
import math

import pytest

from thruway.experiments.highway2015.depth import CLAIMS, best_loss
from thruway.experiments.machinery import judge

BY_ID = {claim.id: claim for claim in CLAIMS}
NAN, INF = math.nan, math.inf


def rows(table, seed=0):
    """{(block, depth): [(final loss, epochs to a tenth), ...]} as trials of one seed."""
    return [
        {"block": block, "depth": depth, "seed": seed, "trial": trial, "final_loss": loss, "epochs_to_tenth": epochs}
        for (block, depth), trials in table.items()
        for trial, (loss, epochs) in enumerate(trials)
    ]


# As in the papers: plain networks get a hundred times worse with depth, highway networks do not.
PAPER = {
    ("plain", 10): [(2e-3, 8), (1e-3, 4), (NAN, INF)],
    ("plain", 50): [(0.5, 30), (NAN, INF)],
    ("plain", 100): [(0.1, INF), (0.3, 90)],
    ("highway", 10): [(1e-3, 5), (4e-3, 2)],
    ("highway", 50): [(2e-4, 6), (NAN, INF)],
    ("highway", 100): [(5e-4, 9), (3e-2, 50)],
    ("residual", 10): [(1e-3, 5)],
    ("residual", 100): [(2e-3, 5)],
}


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("plain-degrades", 0.1 / 1e-3),
        ("highway-depth-is-free", 5e-4 / 1e-3),  # 100 layers are the worse of 50 and 100
        ("highway-beats-plain", 5e-4 / 0.1),
        ("highway-is-faster", 6 / 30),  # the median of 2/4, 6/30 and 9/90
        ("residual-beats-plain", 2e-3 / 0.1),
    ],
)
def test_the_statistic_is_the_one_it_names(claim, value):
    assert math.isclose(BY_ID[claim].measure(rows(PAPER)), value, rel_tol=1e-15)
    assert judge(BY_ID[claim], rows(PAPER)).verdict == "holds"


def test_every_claim_is_tested_here():
    assert set(BY_ID) == {
        "plain-degrades", "highway-depth-is-free", "highway-beats-plain", "highway-is-faster", "residual-beats-plain"
    }  # fmt: skip
    assert len(CLAIMS) == len(BY_ID)


@pytest.mark.parametrize("claim", BY_ID)
def test_the_order_of_trials_says_nothing(claim):
    base = rows({key: trials for key, trials in PAPER.items() if key[1] != 50})
    values = {BY_ID[claim].measure(order) for order in itertools.islice(itertools.permutations(base), 0, 5000, 499)}
    assert len(values) == 1


@pytest.mark.parametrize("claim", BY_ID)
def test_nets_that_are_all_alike_fail_it_or_leave_it_open(claim):
    alike = {key: [(0.1, 5)] for key in PAPER}
    verdict = judge(BY_ID[claim], rows(alike)).verdict
    # Equal is as good as the shallowest, which is all that the second claim asks.
    assert verdict == ("holds" if claim == "highway-depth-is-free" else "fails")


@pytest.mark.parametrize("claim", BY_ID)
def test_one_depth_cannot_tell_of_depth_and_no_survivor_is_the_worst(claim):
    one = rows({("plain", 10): [(0.1, INF)], ("highway", 10): [(NAN, INF)], ("residual", 10): [(NAN, INF)]})
    assert judge(BY_ID[claim], one).verdict == ("fails" if claim.endswith("beats-plain") else "unclear")


def test_a_single_deep_highway_net_is_not_measured_by_itself():
    assert math.isnan(BY_ID["highway-depth-is-free"].measure(rows({("highway", 50): [(0.1, 5)]})))
    two = rows({("highway", 50): [(0.1, 5)], ("highway", 100): [(0.3, 5)]})
    assert math.isclose(BY_ID["highway-depth-is-free"].measure(two), 3, rel_tol=1e-15)


def test_a_search_without_survivor_is_the_worst_loss_there_is():
    lost = rows(PAPER | {("highway", 50): [(NAN, INF), (NAN, INF)]})
    assert judge(BY_ID["highway-depth-is-free"], lost).verdict == "fails"
    broken = {key: [(NAN, INF)] if key[0] == "plain" and key[1] > 10 else trials for key, trials in PAPER.items()}
    assert judge(BY_ID["plain-degrades"], rows(broken)).verdict == "holds"
    assert judge(BY_ID["highway-beats-plain"], rows(broken)).verdict == "holds"


def test_two_searches_without_survivors_say_nothing_about_each_other():
    table = rows({("plain", 10): [(0.1, 1)], ("plain", 50): [(NAN, INF)], ("highway", 50): [(NAN, INF)]})
    assert judge(BY_ID["highway-beats-plain"], table).verdict == "unclear"


def test_only_plain_never_arriving_is_infinitely_slower():
    table = {("plain", 10): [(1, INF)], ("highway", 10): [(1, 7)]}
    assert BY_ID["highway-is-faster"].measure(rows(table)) == 0


def test_only_highway_never_arriving_fails():
    table = {("plain", 10): [(1, 7)], ("highway", 10): [(1, INF)]}
    assert judge(BY_ID["highway-is-faster"], rows(table)).verdict == "fails"


def test_depths_where_neither_arrives_are_left_out_of_the_median():
    table = PAPER | {("plain", 50): [(1, INF)], ("highway", 50): [(1, INF)]}
    assert math.isclose(BY_ID["highway-is-faster"].measure(rows(table)), (2 / 4 + 9 / 90) / 2, rel_tol=1e-15)


def test_losses_below_the_papers_curves_are_equal():
    table = {("plain", 10): [(1e-9, 1)], ("plain", 50): [(1e-6, 1)]}
    assert best_loss(rows(table), "plain", 10) == 1e-5
    assert BY_ID["plain-degrades"].measure(rows(table)) == 1


def test_the_best_loss_is_that_of_a_survivor():
    table = {("plain", 10): [(NAN, INF), (0.3, 1), (0.2, 1), (INF, INF)], ("plain", 20): [(NAN, INF)]}
    assert best_loss(rows(table), "plain", 10) == 0.2
    assert best_loss(rows(table), "plain", 20) == INF
    assert math.isnan(best_loss(rows(table), "highway", 10))


def test_seeds_are_judged_apart():
    mixed = rows(PAPER, seed=0) + rows({key: [(0.1, 5)] for key in PAPER}, seed=1) + rows(PAPER, seed=2)
    judged = judge(BY_ID["highway-beats-plain"], mixed)
    assert judged.verdict == "unclear"
    assert judged.value == pytest.approx([5e-3, 1.0, 5e-3], rel=1e-15)
