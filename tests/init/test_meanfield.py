import math

import numpy as np
import pytest
import torch
from torch import Tensor

from thruway.errors import ConfigError
from thruway.init.gaussian import mean_product, mean_square, mean_square_slope
from thruway.init.meanfield import chi_1, critical, depth_scale, fixed_point, variance_map

SMOOTH = ("tanh", "sigmoid", "softsign")


@pytest.mark.parametrize("q", [1e-4, 0.3, 1.0, 20.0])
def test_quadrature_agrees_with_the_closed_form_of_erf(q: float) -> None:
    """E erf(u) erf(v) = 2/pi arcsin(2qc / (1 + 2q)), and its derivatives."""
    assert mean_square(torch.erf, q) == pytest.approx(2 / math.pi * math.asin(2 * q / (1 + 2 * q)), rel=1e-12)
    assert mean_square_slope(torch.erf, q) == pytest.approx(4 / math.pi / math.sqrt(1 + 4 * q), rel=1e-12)
    expected = 2 / math.pi * math.asin(2 * q * 0.6 / (1 + 2 * q))
    assert mean_product(torch.erf, q, 0.6) == pytest.approx(expected, rel=1e-9)  # the coarser rule in two dimensions


@pytest.mark.parametrize("q", [0.01, 1.0, 5.0])
def test_quadrature_agrees_with_a_fine_sum(q: float) -> None:
    # For smooth functions the plain sum also converges geometrically; 40,000 points are more than enough.
    z = np.linspace(-14, 14, 40_001)
    weight = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    u = np.sqrt(q) * z
    assert mean_square(torch.tanh, q) == pytest.approx(float((np.tanh(u) ** 2 * weight).sum()), rel=1e-10)
    slope = 1 / np.cosh(u) ** 2
    assert mean_square_slope(torch.tanh, q) == pytest.approx(float((slope**2 * weight).sum()), rel=1e-10)


def test_kinks_are_integrated_exactly() -> None:
    assert mean_square(torch.relu, 3.0) == pytest.approx(1.5, rel=1e-14)
    assert mean_square_slope(torch.relu, 3.0) == pytest.approx(0.5, rel=1e-14)


def test_relu_is_critical_at_he_and_has_no_other_point() -> None:
    sigma_w, sigma_b = critical("relu")
    assert sigma_w**2 == pytest.approx(2.0, rel=1e-14)
    assert sigma_b == 0.0
    assert critical("relu", q=7.0) == (pytest.approx(math.sqrt(2), rel=1e-14), 0.0)
    with pytest.raises(ConfigError, match=r"no critical point with sigma_b=0.1.*sigma_b=0, or a variance q"):
        critical("relu", sigma_b=0.1)
    # A rounding error must not count as growth.
    for start in (0.1, 0.37, 1.0, 3.0, 17.3):
        assert fixed_point("relu", math.sqrt(2), start=start) == start
    assert fixed_point("relu", 2.0) == math.inf
    assert chi_1("relu", 2.0) == pytest.approx(2.0, rel=1e-12)
    assert fixed_point("relu", 1.0) == 0.0
    assert chi_1("relu", 1.0) == pytest.approx(0.5, rel=1e-12)


def test_tanh_without_bias_is_critical_at_one() -> None:
    assert critical("tanh") == (1.0, 0.0)
    assert fixed_point("tanh", 1.0) == 0.0
    assert depth_scale("tanh", 1.0) == math.inf


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("wanted", [{"q": 0.5}, {"sigma_b": 0.2}, {"q": 3.0}], ids=str)
def test_critical_points_have_slope_one(name: str, wanted: dict[str, float]) -> None:
    try:
        sigma_w, sigma_b = critical(name, **wanted)
    except ConfigError:
        # For the sigmoid E f^2 / E f'^2 > q means that no bias is small enough: check that this is the case.
        q = wanted["q"]
        assert mean_square(torch.sigmoid, q) / mean_square_slope(torch.sigmoid, q) > q
        return
    assert chi_1(name, sigma_w, sigma_b) == pytest.approx(1.0, rel=1e-9)
    q = fixed_point(name, sigma_w, sigma_b)
    assert variance_map(q, name, sigma_w, sigma_b) == pytest.approx(q, rel=1e-10)
    if "q" in wanted:
        assert q == pytest.approx(wanted["q"], rel=1e-8)
    else:
        assert sigma_b == wanted["sigma_b"]


@pytest.mark.parametrize(("sigma_w", "sigma_b"), [(0.9, 0.3), (1.5, 0.05), (3.0, 0.5)])
def test_the_fixed_point_is_the_limit_of_the_map(sigma_w: float, sigma_b: float) -> None:
    q = 1.0
    for _ in range(2000):
        q = variance_map(q, "tanh", sigma_w, sigma_b)
    assert fixed_point("tanh", sigma_w, sigma_b) == pytest.approx(q, rel=1e-10)


def test_the_fixed_point_just_above_the_edge_is_small() -> None:
    # tanh(u)^2 = u^2 - 2u^4/3 + ...: q* = (1 - 1/sigma_w^2) / 2 to first order.
    sigma_w = 1 + 1e-4
    assert fixed_point("tanh", sigma_w) == pytest.approx((1 - sigma_w**-2) / 2, rel=1e-3)


def test_depth_scale_in_the_chaotic_phase_follows_the_decorrelated_signal() -> None:
    """Compared with the closed forms of erf, iterated until c converges."""
    sigma_w, sigma_b = 2.5, 0.4
    q = c = 0.5
    for _ in range(2000):
        q = sigma_w**2 * 2 / math.pi * math.asin(2 * q / (1 + 2 * q)) + sigma_b**2
    for _ in range(2000):
        c = (sigma_w**2 * 2 / math.pi * math.asin(2 * q * c / (1 + 2 * q)) + sigma_b**2) / q
    slope = sigma_w**2 * 4 / math.pi / math.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2)
    assert c < 0.9
    assert chi_1(torch.erf, sigma_w, sigma_b) > 1
    assert depth_scale(torch.erf, sigma_w, sigma_b) == pytest.approx(-1 / math.log(slope), rel=1e-6)


def test_depth_scale_grows_towards_the_edge_from_both_sides() -> None:
    scales = [depth_scale("tanh", sigma_w, 0.0) for sigma_w in (0.5, 0.9, 0.99)]
    assert scales == sorted(scales)
    assert scales[0] == pytest.approx(-1 / math.log(0.25), rel=1e-9)
    beyond = [depth_scale("tanh", sigma_w, 0.05) for sigma_w in (3.0, 1.5, 1.2)]
    assert beyond == sorted(beyond)


def test_any_elementwise_callable_is_an_activation() -> None:
    assert chi_1(lambda u: torch.tanh(u), 1.3, 0.1) == chi_1("tanh", 1.3, 0.1)

    def halves(u: Tensor) -> Tensor:
        return u[::2]

    with pytest.raises(ConfigError, match="cannot differentiate"):
        chi_1(lambda u: torch.ones_like(u), 1.0, 0.1)
    with pytest.raises(ConfigError, match="elementwise"):
        variance_map(1.0, halves, 1.0)
    with pytest.raises(ConfigError, match="did you mean 'tanh'"):
        variance_map(1.0, "tahn", 1.0)


def test_invalid_values_raise() -> None:
    with pytest.raises(ConfigError, match=r"sigma_w must be .* got -1"):
        variance_map(1.0, "tanh", -1.0)
    with pytest.raises(ConfigError, match=r"start must be .* got 0"):
        fixed_point("tanh", 1.0, start=0)
    with pytest.raises(ConfigError, match=r"q=1\.0 and sigma_b=0\.1"):
        critical("tanh", q=1.0, sigma_b=0.1)
    with pytest.raises(ConfigError, match=r"q must be .* got -1"):
        critical("tanh", q=-1)
    with pytest.raises(ConfigError, match="grows without bound"):
        depth_scale("relu", 2.0)
