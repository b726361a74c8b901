"""The paper's equations against nets that are drawn and differentiated by hand, in float64."""

import math
from itertools import pairwise

import pytest
import torch

from thruway.errors import ShapeError
from thruway.experiments.glorot2010.initialization import MEAN_SINGULAR_VALUE, VARIANCES, predict, sampling_error
from thruway.experiments.glorot2010.initialization_start import build_net
from thruway.seeding import generator

WIDTHS = (7, 12, 20, 9)
NETS = 4000


def linear_nets(scheme):
    """Mean squares of z, dC/ds and dC/dW in each layer of many linear nets, for one x and one dC/ds at the top."""
    g = generator(0, "theory", scheme)
    x = torch.rand(WIDTHS[0], generator=g, dtype=torch.float64) + 0.5
    top = torch.rand(WIDTHS[-1], generator=g, dtype=torch.float64) + 0.5
    weights = []
    for fan_in, fan_out in pairwise(WIDTHS):
        # Uniform, as eqs. 1 and 16 say: the bounds are not taken from the code.
        bound = 1 / math.sqrt(fan_in) if scheme == "standard" else math.sqrt(6) / math.sqrt(fan_in + fan_out)
        uniform = torch.rand(NETS, fan_out, fan_in, generator=g, dtype=torch.float64)
        weights.append((2 * uniform - 1) * bound)
    z = [x.expand(NETS, -1)]
    for weight in weights:
        z.append((weight @ z[-1][..., None])[..., 0])
    delta = [top.expand(NETS, -1)]
    for weight in weights[:0:-1]:
        delta.insert(0, (weight.mT @ delta[0][..., None])[..., 0])
    gradients = [d[:, :, None] * below[:, None, :] for d, below in zip(delta, z[:-1], strict=True)]
    squares = [[each.square().flatten(1).mean(1) for each in kind] for kind in (z[1:], delta, gradients)]
    return x.square().mean().item(), top.square().mean().item(), squares


@pytest.mark.parametrize("scheme", VARIANCES)
def test_equations_are_the_expectation_over_linear_nets(scheme):
    x2, top2, squares = linear_nets(scheme)
    layers = predict(WIDTHS, scheme, x2, top2, x2 * top2)
    for name, measured in zip(("activation", "gradient", "weight_gradient"), squares, strict=True):
        for layer, values in enumerate(measured):
            expected = getattr(layers[layer], name)
            error = values.std().item() / math.sqrt(NETS)
            # The top's own gradient is given, so its error is rounding only.
            assert abs(values.mean().item() - expected) <= 5 * error + 1e-12 * expected, (name, layer)


@pytest.mark.parametrize("scheme", VARIANCES)
def test_equation_6_as_printed_is_off_by_one_factor(scheme):
    x2, top2, squares = linear_nets(scheme)
    for layer, each in enumerate(predict(WIDTHS, scheme, x2, top2, x2 * top2)):
        fan_in, fan_out = WIDTHS[layer], WIDTHS[layer + 1]
        factor = fan_out * VARIANCES[scheme](fan_in, fan_out)
        assert math.isclose(each.gradient_as_printed, factor * each.gradient, rel_tol=1e-12)
        assert abs(factor - 1) > 0.05  # so that the two forms differ here
    error = squares[1][0].std().item() / math.sqrt(NETS)
    assert abs(squares[1][0].mean().item() - predict(WIDTHS, scheme, x2, top2, 1)[0].gradient_as_printed) > 5 * error


def test_equal_widths_give_equations_13_to_15():
    layers = predict([50] * 6, "standard", 2.0, 3.0, 6.0)
    for number, layer in enumerate(layers, start=1):
        assert math.isclose(layer.gradient, 3.0 * (1 / 3) ** (5 - number), rel_tol=1e-12)
        assert math.isclose(layer.activation, 2.0 * (1 / 3) ** number, rel_tol=1e-12)
        # The same for every layer. The paper's exponent counts the output layer too.
        assert math.isclose(layer.weight_gradient, 6.0 * (1 / 3) ** 4, rel_tol=1e-12)
    for layer in predict([50] * 6, "normalized", 2.0, 3.0, 6.0):
        assert layer[:2] == pytest.approx((2.0, 3.0), rel=1e-12)


def test_one_width_is_refused():
    with pytest.raises(ShapeError, match=r"\[5\]. Give two or more"):
        predict([5], "standard", 1.0, 1.0, 1.0)


@pytest.mark.parametrize("scheme", VARIANCES)
def test_nets_start_with_these_variances(scheme):
    net = build_net([90, 140, 60], 5, "tanh", scheme, generator(0, "variance"))
    for layer, (fan_in, fan_out) in ((net.s1, (90, 140)), (net.s2, (140, 60)), (net.output, (60, 5))):
        expected = VARIANCES[scheme](fan_in, fan_out)
        weight = layer.weight.detach().double()
        # A uniform number's square has variance 4/5 of its squared mean.
        error = expected * math.sqrt(0.8 / weight.numel())
        assert abs(weight.square().mean().item() - expected) < 5 * error
        assert weight.abs().max().item() <= math.sqrt(3 * expected) * (1 + 1e-6)  # float32 bounds
        assert not layer.bias.any()


def test_both_schemes_take_the_same_random_numbers():
    standard, normalized = (build_net([8, 6], 2, "tanh", scheme, generator(1)) for scheme in VARIANCES)
    ratio = math.sqrt(VARIANCES["normalized"](8, 6) / VARIANCES["standard"](8, 6))
    torch.testing.assert_close(normalized.s1.weight, standard.s1.weight * ratio, rtol=1e-6, atol=0)


@pytest.mark.parametrize("maps", [1, 4])
def test_sampling_error_bounds_the_chance_and_is_near_it(maps):
    """Gaussian matrices and one example meet the bound with equality; several examples stay below it."""
    n, nets = 30, 3000
    g = generator(0, "error", maps)
    z = torch.randn(3, n, generator=g, dtype=torch.float64)
    one, several = z[:1].expand(nets, -1, -1), z.expand(nets, -1, -1)
    for _ in range(maps):
        weight = torch.randn(nets, n, n, generator=g, dtype=torch.float64) / math.sqrt(n)
        one, several = one @ weight, several @ weight
    measured = [
        (end.square().mean((1, 2)) / start.square().mean()).std().item() for end, start in ((one, z[:1]), (several, z))
    ]
    bound = sampling_error(maps, n)
    # The std of a std of 3000 skewed numbers is a few percent.
    assert abs(measured[0] / bound - 1) < 0.15
    assert measured[1] < 0.9 * bound


def test_mean_singular_value_of_a_random_matrix():
    values = torch.linalg.svdvals(torch.randn(400, 400, generator=generator(0, "svd"), dtype=torch.float64) / 20)
    # The deviation from the limit is of order 1/n.
    assert abs(values.mean().item() - MEAN_SINGULAR_VALUE) < 5 / 400
