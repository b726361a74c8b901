"""Spearman's correlation against SciPy's, and the coverage of its interval."""

import numpy as np
import pytest
import torch
from scipy import stats

from thruway.dissecting.ranking.rank_correlation import average_ranks, rank_correlation, spearman
from thruway.errors import ConfigError, ShapeError

CASES = {
    "no ties": np.random.default_rng(0).normal(size=(2, 30)),
    "many ties": np.random.default_rng(1).integers(0, 4, size=(2, 40)).astype(float),
    "ties in one": np.stack([np.arange(9.0), [1, 1, 1, 2, 2, 3, 3, 3, 3]]),
    "opposite": np.stack([np.arange(5.0), -np.arange(5.0)]),
    "two items": np.array([[1.0, 2.0], [5.0, 3.0]]),
    "infinite": np.array([[1.0, np.inf, -np.inf, 2.0], [1.0, 2.0, 3.0, 4.0]]),
}


@pytest.mark.parametrize("name", CASES)
def test_rho_and_ranks_are_scipys(name):
    a, b = CASES[name]
    assert np.array_equal(average_ranks(a[None])[0], stats.rankdata(a))
    # Means and products of small half-integers: a few roundings.
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-14)


def test_pairs_with_an_unknown_number_do_not_count():
    found = rank_correlation([1, 2, np.nan, 4, 5], [2, 1, 7, np.nan, 9])
    assert (found.rho, found.count) == (spearman([1, 2, 5], [2, 1, 9]), 3)


def test_no_order_no_number():
    found = rank_correlation([1, 1, 1], [1, 2, 3])
    assert np.isnan([found.rho, found.low, found.high, found.chance]).all()
    assert np.isnan(spearman([1], [2]))


def test_chance_is_the_share_of_orders_that_do_as_well():
    # Of the 120 orders of five items, those with rho >= 0.9 are the right one and four with one neighbouring swap.
    found = rank_correlation([1, 2, 3, 4, 5], [1, 2, 3, 5, 4], draws=20_000)
    standard_error = np.sqrt(5 / 120 * 115 / 120 / 20_000)
    assert abs(found.chance - 5 / 120) < 5 * standard_error


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(3)
    truth = 6 / np.pi * np.arcsin(0.8 / 2)  # Spearman's of a Gaussian with Pearson's 0.8
    covered = 0
    for seed in range(100):
        a = rng.normal(size=60)
        b = 0.8 * a + 0.6 * rng.normal(size=60)
        found = rank_correlation(a, b, draws=200, level=0.9, generator=torch.Generator().manual_seed(seed))
        covered += found.low <= truth <= found.high
    # 0.9 less 5 standard errors of 0.03; an interval that is twice too wide would miss none.
    assert 0.75 <= covered / 100 <= 0.99


def test_same_generator_same_interval_and_the_global_one_is_left_alone():
    state = torch.random.get_rng_state()
    a, b = CASES["no ties"]
    first, again = (rank_correlation(a, b, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    other = rank_correlation(a, b, generator=torch.Generator().manual_seed(6))
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), state)


def test_invalid_arguments_are_refused():
    with pytest.raises(ShapeError, match=r"\(2,\) and \(3,\)"):
        spearman([1, 2], [1, 2, 3])
    with pytest.raises(ConfigError, match=r"between 0 and 1, got 95"):
        rank_correlation([1, 2], [1, 2], level=95)
    with pytest.raises(ConfigError, match="got 0"):
        rank_correlation([1, 2], [1, 2], draws=0)
