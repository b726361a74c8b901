"""Theory against slow simulations of random networks in float64."""

import math

import numpy as np
import pytest
import torch

from thruway.diagnosing import theory
from thruway.diagnosing.theory import function_of, student_tail

STDS = (0.1, 1.0, 5.0)


def draws(mean: float, std: float, count: int = 400_000) -> torch.Tensor:
    z = torch.randn(count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return mean + std * z


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "elu", "softsign", "leaky_relu", "softplus"])
@pytest.mark.parametrize("mean", [0.0, -1.5])
def test_means_are_those_of_samples(activation: str, mean: float) -> None:
    function = function_of(activation)
    squares = theory.mean_square(activation, np.full(3, mean), np.array(STDS))
    slopes = theory.mean_square_slope(activation, np.full(3, mean), np.array(STDS))
    for std, square, slope in zip(STDS, squares, slopes, strict=True):
        u = draws(mean, std).requires_grad_()
        value = function(u)
        (gradient,) = torch.autograd.grad(value.sum(), u)
        assert square == pytest.approx(float(value.detach().square().mean()), rel=0.02, abs=1e-6)
        assert slope == pytest.approx(float(gradient.square().mean()), rel=0.02, abs=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softsign"])
def test_saturated_shares_are_those_of_samples(activation: str) -> None:
    from thruway.watching.quantities.saturation import ENDS

    ends = ENDS[activation]
    low, high = theory.saturated_shares(activation, np.array([0.7]), np.array([3.0]))
    value = function_of(activation)(draws(0.7, 3.0))
    assert low[0] == pytest.approx(float((value <= ends.low).double().mean()), abs=0.005)
    assert high[0] == pytest.approx(float((value >= ends.high).double().mean()), abs=0.005)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_gradient_of_a_wide_net_shrinks_by_the_expected_factor(activation: str) -> None:
    """Twelve layers of 400 units at twice-too-small weights: the factor per layer is sqrt(chi)."""
    generator = torch.Generator().manual_seed(0)
    width, depth, sigma = 400, 12, 0.7
    weights = [
        torch.randn(width, width, generator=generator, dtype=torch.float64) * sigma / width**0.5 for _ in range(depth)
    ]
    h = torch.randn(64, width, generator=generator, dtype=torch.float64)
    states = []
    for weight in weights:
        s = h @ weight.T
        s.requires_grad_() if not s.requires_grad else s.retain_grad()
        states.append(s)
        h = function_of(activation)(s)
    (h * torch.randn(h.shape, generator=generator, dtype=torch.float64)).sum().backward()
    norms = [float(s.grad.norm()) for s in states]
    q = np.array([float(s.detach().square().mean()) for s in states])
    expected = sigma * np.sqrt(theory.mean_square_slope(activation, np.zeros(depth), np.sqrt(q)))
    measured = np.array(norms[:-1]) / np.array(norms[1:])
    assert measured == pytest.approx(expected[:-1], rel=0.08)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_dead_share_of_random_units(correlation: float) -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    other = torch.randn(20_000, 32, generator=generator, dtype=torch.float64)
    s = math.sqrt(correlation) * own + math.sqrt(1 - correlation) * other
    assert theory.dead_share(correlation, 32) == pytest.approx(float((s < 0).all(1).double().mean()), abs=0.01)


def test_dead_share_of_shifted_units() -> None:
    generator = torch.Generator().manual_seed(0)
    means = -2 + 0.9 * torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    s = means + 0.6 * torch.randn(20_000, 64, generator=generator, dtype=torch.float64)
    mean, std = float(s.mean()), float(s.std())
    correlation = 1 - 0.36 / float(s.square().mean())
    found = theory.dead_share_of_units(mean, std, correlation, 64)
    assert found == pytest.approx(float((s < 0).all(1).double().mean()), abs=0.01)


def test_binomial_bound_is_exceeded_rarely() -> None:
    shares = torch.binomial(
        torch.full((50_000,), 64.0), torch.full((50_000,), 0.5), generator=torch.Generator().manual_seed(0)
    )
    assert float((shares / 64 > float(theory.binomial_bound(np.array([0.5]), 64)[0])).float().mean()) < 0.002


def test_critical_gains() -> None:
    assert theory.critical_gain("tanh") == pytest.approx(1.0)
    assert theory.critical_gain("relu") == pytest.approx(math.sqrt(2))
    assert theory.critical_gain(None) == 1.0


@pytest.mark.parametrize(("t", "freedom", "tail"), [(4.144, 10, 1e-3), (10.215, 3, 1e-3), (3.096, 5000, 9.86e-4)])
def test_students_distribution(t: float, freedom: int, tail: float) -> None:
    """Quantiles of the printed tables."""
    assert student_tail(t, freedom) == pytest.approx(tail, rel=5e-3)
    assert student_tail(-t, freedom) == pytest.approx(1 - tail, rel=1e-6)
