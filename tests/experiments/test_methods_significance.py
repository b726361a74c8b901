"""Two p-values, compared with slow ones: all outcomes counted, and a density integrated."""

import math
from fractions import Fraction

import pytest
import torch

from thruway.errors import ConfigError
from thruway.experiments.methods import mcnemar, paired_t


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 3), (2, 9), (40, 21), (0, 60), (700, 801)])
def test_mcnemar_counts_the_outcomes_at_least_as_uneven(first, second):
    throws = first + second
    counted = sum(math.comb(throws, k) for k in range(throws + 1) if abs(2 * k - throws) >= abs(first - second))
    assert math.isclose(mcnemar(first, second), float(Fraction(counted, 2**throws)), rel_tol=1e-14)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_mcnemar_of_ten_thousand_is_that_of_the_normal_law():
    # Six standard deviations out, where the binomial's tail is a few percent off the normal one.
    p = mcnemar(5300, 4700)
    assert math.isclose(p, math.erfc(600 / math.sqrt(10_000) / math.sqrt(2)), rel_tol=0.1)


@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 10, 31])
def test_paired_t_is_the_tail_of_students_density(seeds):
    rng = torch.Generator().manual_seed(seeds)
    first = torch.randn(seeds, generator=rng, dtype=torch.float64)
    second = first + 0.4 + torch.randn(seeds, generator=rng, dtype=torch.float64)
    difference = first - second
    t = abs(difference.mean() / difference.std() * math.sqrt(seeds)).item()
    free = seeds - 1
    scale = math.exp(math.lgamma((free + 1) / 2) - math.lgamma(free / 2)) / math.sqrt(free * math.pi)
    x = torch.linspace(0, t, 200_001, dtype=torch.float64)
    inside = torch.trapezoid(scale * (1 + x**2 / free) ** (-(free + 1) / 2), x).item()
    # The trapezoids' error: step squared times the slope's change, about 1e-10.
    assert math.isclose(paired_t(first.tolist(), second.tolist()), 1 - 2 * inside, abs_tol=1e-8)


def test_paired_t_is_nan_without_differences():
    assert math.isnan(paired_t([1.0], [2.0]))
    assert math.isnan(paired_t([1.0, 2.0], [1.0, 2.0]))
    assert math.isnan(paired_t([1.0, math.nan], [2.0, 2.5]))
    assert paired_t([1.0, 2.0], [0.5, 1.5]) == 0  # the same difference twice: no doubt is left


def test_unequal_lengths_and_negative_counts_are_refused():
    with pytest.raises(ConfigError, match="got 2 and 1"):
        paired_t([1.0, 2.0], [1.0])
    with pytest.raises(ConfigError, match="got -1 and 3"):
        mcnemar(-1, 3)
