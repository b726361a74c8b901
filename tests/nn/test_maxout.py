"""Maxout: compared with a loop over units, and its mean square in deep stacks."""

import itertools
import math

import pytest
import torch
from nn_cases import seeded
from torch import Tensor, nn
from torch.testing import assert_close

from thruway.errors import ConfigError, ShapeError
from thruway.init import initialize
from thruway.nn import Maxout


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded())


@pytest.mark.parametrize("pieces", [2, 3, 5])
@pytest.mark.parametrize(
    ("leading", "points"),
    [((), ()), ((4,), ()), ((2, 3), ()), ((4,), (5,)), ((4,), (2, 3)), ((), (2, 3)), ((2,), (2, 1, 3)), ((0,), (2, 2))],
    ids=["vector", "batch", "sequences", "map1", "map2", "one-map2", "map3", "empty"],
)
def test_each_unit_is_the_maximum_of_adjacent_pieces(
    pieces: int, leading: tuple[int, ...], points: tuple[int, ...]
) -> None:
    units = 3
    z = _random(*leading, units * pieces, *points)
    y = Maxout(pieces, dims=len(points))(z)
    assert y.shape == (*leading, units, *points)
    for index in itertools.product(*map(range, leading)):
        for unit in range(units):
            own = [z[(*index, unit * pieces + piece)] for piece in range(pieces)]
            for point in itertools.product(*map(range, points)):
                assert y[(*index, unit, *point)] == max(value[point].item() for value in own)


def test_only_the_largest_piece_learns_and_ties_share() -> None:
    z = torch.tensor([1.0, 3.0, 2.0, 5.0, 5.0, 4.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((Maxout(3)(z) * torch.tensor([10.0, 8.0])).sum(), z)
    assert gradient.tolist() == [0.0, 10.0, 0.0, 4.0, 4.0, 0.0]


def test_derivatives_match_finite_differences_and_samples_are_independent() -> None:
    z = _random(3, 6, 2, 2).requires_grad_()
    layer = Maxout(2, dims=2)
    assert torch.autograd.gradcheck(layer, z)
    assert torch.equal(torch.vmap(layer)(z), torch.stack([layer(sample) for sample in z]))
    assert torch.equal(layer(z.transpose(2, 3)), layer(z).transpose(2, 3))


@pytest.mark.parametrize(("pieces", "mean_square"), [(2, 1.0), (3, 1.0 + math.sqrt(3) / (2 * math.pi)), (5, 1.80002)])
def test_the_mean_square_of_the_maximum_of_gaussians_matches_the_docstring(pieces: int, mean_square: float) -> None:
    # Exact for 2 and 3; for 5 from tables of normal order statistics: mean 1.16296, variance 0.44753.
    y = Maxout(pieces)(_random(100_000, pieces)).square()
    standard_error = y.std().item() / math.sqrt(y.numel())
    assert abs(y.mean().item() - mean_square) < 5 * standard_error


@pytest.mark.parametrize(("scheme", "growth"), [("lecun_normal", 1.0), ("he_normal", 2.0)])
def test_two_pieces_preserve_the_mean_square_with_lecun_and_double_it_with_he(scheme: str, growth: float) -> None:
    depth, width = 20, 400
    net = nn.Sequential(*(nn.Sequential(nn.Linear(width, 2 * width), Maxout(2)) for _ in range(depth))).double()
    initialize(net, scheme, generator=seeded(3))
    ratio = net(_random(1, width)).square().mean().item() / _random(1, width).square().mean().item()
    # Each layer's mean of 400 squares has a relative standard error of sqrt(2 / 400) (chi-square), less the correlation
    # between pieces; 20 such factors, five standard errors.
    assert abs(math.log(ratio / growth**depth)) < 5 * math.sqrt(depth * 2 / width)


def test_a_convolution_of_k_times_the_units_is_k_convolutions() -> None:
    conv = nn.Conv2d(3, 8, 3, padding=1, dtype=torch.float64)
    initialize(conv, "he_normal", generator=seeded(4))
    x = _random(2, 3, 5, 5)
    one, two = (nn.functional.conv2d(x, conv.weight[piece::2], conv.bias[piece::2], padding=1) for piece in (0, 1))
    assert_close(nn.Sequential(conv, Maxout(2, dims=2))(x), torch.maximum(one, two), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 7, 3, 3), (6, 3), (2, 3, 5), ()], ids=str)
def test_features_that_are_not_a_multiple_of_pieces_raise(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"Maxout\(4, dims=2\) takes \(..., 4·units, points, points\), got"):
        Maxout(4, dims=2)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((1,), "pieces must be an integer of at least 2, got 1"),
        ((2.0,), "got 2.0"),
        ((2, -1), "dims must be an integer of at least 0"),
        ((2, 4), r"0 \(vectors\) to 3 \(volumes\), got 4"),
    ],
)
def test_invalid_arguments_raise_with_their_value(arguments: tuple[object, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Maxout(*arguments)
