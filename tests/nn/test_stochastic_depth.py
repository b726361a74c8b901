"""The linear rule of stochastic depth, and its average over draws."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from nn_cases import seeded
from torch import nn
from torch.testing import assert_close

from thruway.errors import ConfigError
from thruway.nn import Plain, Residual, survival_probabilities


@pytest.mark.parametrize(("depth", "last"), [(1, 0.5), (3, 0.2), (54, 0.5), (601, 0.9)])
def test_the_rule_is_linear_from_one_to_last(depth: int, last: float) -> None:
    exact = [1 - Fraction(block, depth) * (1 - Fraction(last)) for block in range(1, depth + 1)]
    assert survival_probabilities(depth, last) == pytest.approx([float(p) for p in exact], rel=1e-15, abs=0)


def test_forty_of_fifty_four_blocks_survive_as_published() -> None:
    # Huang et al. 2016, sec. 3: E[L] = (3L - 1)/4, about 40 for L = 54 and p_L = 0.5.
    assert sum(survival_probabilities(54)) == pytest.approx((3 * 54 - 1) / 4, rel=1e-14)


def test_last_of_1_gives_exactly_1() -> None:
    assert survival_probabilities(54, 1) == (1.0,) * 54


def test_evaluation_equals_the_mean_over_all_draws_of_a_linear_stack() -> None:
    survival = survival_probabilities(5, 0.3)
    branches = [Plain(3, 3, "linear", dtype=torch.float64, generator=seeded(i)) for i in range(5)]
    stack = nn.Sequential(*(Residual(f, drop=1 - p) for f, p in zip(branches, survival, strict=True))).eval()
    x = torch.randn(4, 3, dtype=torch.float64, generator=seeded(9))
    mean = torch.zeros_like(x)
    for coins in itertools.product((0, 1), repeat=5):
        y = x
        for block, taken in zip(stack, coins, strict=True):
            y = block(y, share=taken)
        chance = math.prod(p if taken else 1 - p for p, taken in zip(survival, coins, strict=True))
        mean += chance * y
    assert_close(stack(x), mean, rtol=1e-12, atol=1e-12)  # float64, 32 terms of size 1


@pytest.mark.parametrize(
    ("depth", "last", "says"),
    [
        (0, 0.5, "depth must be an integer of at least 1, got 0"),
        (5, 0.0, "above 0 and at most 1, got 0.0.*0.5"),
        (5, 1.1, "got 1.1"),
        (5, math.nan, "got nan"),
        (5, True, "got True"),
        (5, "half", "got 'half'"),
    ],
)
def test_invalid_arguments_raise_with_their_value(depth: int, last: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        survival_probabilities(depth, last)
