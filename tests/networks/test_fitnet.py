"""FitNets: published counts, a slow reference implementation, and the mean square at initialisation."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from thruway.errors import ConfigError, ShapeError
from thruway.networks import FITNETS, ConvNet, fitnet
from thruway.nn import Dropout, Maxout

EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64; sums of up to 100 terms of size 1, twenty layers deep


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _tiny(**change: object) -> ConvNet:
    settings = {"widths": [[2, 3], [4], [3, 5]], "hidden": 4, "inputs": 2, "classes": 3, "dtype": torch.float64}
    return fitnet(**(settings | {"generator": seeded()} | change))


def _images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(1))


# --- comparison with the papers


@pytest.mark.parametrize(
    ("number", "hidden_pieces", "weights", "biases"),
    [
        (1, 2, 249_576, 1_618),  # ~250K in the papers
        (4, 2, 2_544_712, 3_890),  # ~2.5M
        (4, 5, 2_736_712, 5_390),  # the authors' configuration, counted by their script
    ],
)
def test_nets_have_the_published_number_of_weights(number: int, hidden_pieces: int, weights: int, biases: int) -> None:
    net = fitnet(number, hidden_pieces=hidden_pieces, device="meta")
    assert sum(p.numel() for p in net.parameters() if p.ndim > 1) == weights
    assert sum(p.numel() for p in net.parameters() if p.ndim == 1) == biases


@pytest.mark.parametrize(("number", "depth"), [(1, 11), (4, 19)])
def test_depth_counts_layers_as_the_papers_do(number: int, depth: int) -> None:
    net = fitnet(number, device="meta")
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules()) == depth
    assert sum(isinstance(module, Maxout) for module in net.modules()) == depth - 1


@pytest.mark.parametrize("number", FITNETS)
def test_poolings_are_placed_as_published_and_the_last_covers_8x8(number: int) -> None:
    net = fitnet(number, device="meta")
    sides, x = [], torch.zeros(1, 3, 32, 32, device="meta")
    for name, layer in net.layers.named_children():
        sides += [(name, x.shape[-1])] if name.startswith("pool") else []
        x = layer(x)
    assert sides == [("pool1", 32), ("pool2", 16), ("pool3", 8)]
    assert x.shape[2:] == (1, 1)
    before_pools = {1: ["conv3", "conv6", "conv9"], 4: ["conv5", "conv11", "conv17"]}[number]
    names = [name for name, _ in net.layers.named_children()]
    assert [names[names.index(f"pool{stage}") - 1] for stage in (1, 2, 3)] == before_pools


# --- comparison with a slow reference implementation


@pytest.mark.parametrize(("pieces", "hidden_pieces"), [(2, 2), (3, 5)])
@pytest.mark.parametrize("shape", [(7, 6), (8, 8), (1, 1)], ids=str)
def test_the_network_equals_the_papers_formula(shape: tuple[int, int], pieces: int, hidden_pieces: int) -> None:
    net = _tiny(pieces=pieces, hidden_pieces=hidden_pieces)
    for name, parameter in net.named_parameters():
        if parameter.ndim == 1:  # not 0: otherwise a bias added after the maximum would go unnoticed
            parameter.data.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=seeded(len(name))))
    p, x = net.state_dict(), _images(3, 2, *shape)
    y = x
    for number in range(1, 6):
        w, b = p[f"layers.conv{number}.0.weight"], p[f"layers.conv{number}.0.bias"]
        y = torch.stack([F.conv2d(y, w[i::pieces], b[i::pieces], padding=1) for i in range(pieces)]).amax(0)
        if number in (2, 3):
            rows, columns = (math.ceil(side / 2) for side in y.shape[2:])
            windows = [
                [y[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax((2, 3)) for j in range(columns)] for i in range(rows)
            ]
            y = torch.stack([torch.stack(row, dim=-1) for row in windows], dim=-2)
    y = y.amax((2, 3))
    w, b = p["head.dense.0.weight"], p["head.dense.0.bias"]
    y = torch.stack([y @ w[i::hidden_pieces].T + b[i::hidden_pieces] for i in range(hidden_pieces)]).amax(0)
    assert_close(net(x), y @ p["head.linear.weight"].T + p["head.linear.bias"], **EXACT)


# --- weights


def test_weights_start_with_variance_one_over_fan_in_and_biases_at_zero() -> None:
    net = fitnet(1, generator=seeded())
    for name, parameter in net.named_parameters():
        if parameter.ndim == 1:
            assert parameter.eq(0).all(), name
        else:
            variance = 1 / parameter[0].numel()
            standard_error = variance * math.sqrt(2 / parameter.numel())  # of a Gaussian's sample variance
            assert abs(parameter.square().mean().item() - variance) < 5 * standard_error, name


def test_the_convolutions_preserve_the_mean_square() -> None:
    # In the interior of wide maps without poolings: padding reduces the edges, and poolings take maxima.
    net = fitnet(widths=[[64] * 17], hidden=64, generator=seeded())
    x = torch.randn(1, 3, 44, 44, generator=seeded(1))
    y = nn.Sequential(*list(net.layers)[:-1])(x)[..., 17:-17, 17:-17]
    # Each layer preserves the mean square on average over weights, with a relative error of sqrt(2 / 64) for one draw
    # of 64 units; 17 such factors, five standard errors: a factor of 16. He's variance would give 2^17 = 131,072.
    assert abs(math.log(y.square().mean().item())) < 5 * math.sqrt(17 * 2 / 64)


def test_weights_depend_on_the_generator_only() -> None:
    outer = torch.get_rng_state()
    one, same, other = (_tiny(generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), outer)
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.ndim == 1 or not torch.equal(a, c)


def test_every_parameter_gets_a_gradient() -> None:
    net = _tiny()
    (net(_images(16, 2, 9, 9)) * _images(16, 3)).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


# --- dropout


def test_coins_determine_the_dropout_and_it_can_be_disabled() -> None:
    def outputs(coins: int) -> list[Tensor]:
        net = _tiny(dropout=0.3, coins=seeded(coins))
        assert [m.p for m in net.modules() if isinstance(m, Dropout)] == [0.3] * 4
        return [net(x) for _ in range(3)]

    x = _images(2, 2, 9, 9)
    outer = torch.get_rng_state()
    one, same, other = outputs(0), outputs(0), outputs(1)
    assert torch.equal(torch.get_rng_state(), outer)
    assert all(map(torch.equal, one, same))
    assert not any(map(torch.equal, one, other))
    assert torch.equal(_tiny(dropout=0.3).eval()(x), _tiny()(x))
    assert not any(isinstance(m, Dropout) for m in _tiny().modules())


def test_a_copy_continues_like_the_original() -> None:
    net, x = _tiny(dropout=0.3, coins=seeded()), _images(2, 2, 9, 9)
    twin = copy.deepcopy(net)
    for _ in range(3):
        assert torch.equal(twin(x), net(x))


# --- other properties


def test_a_fitnet_trains() -> None:
    # Which half of an 8x8 image is brighter; guessing costs ln 2 = 0.693. Seeds 0-2 gave at most 0.001.
    x = torch.randn(64, 1, 8, 8, generator=seeded(1))
    target = (x[..., :4].mean((1, 2, 3)) > x[..., 4:].mean((1, 2, 3))).long()
    net = fitnet(1, 1, 2, widths=[[8, 8], [8, 8], [8]], hidden=16, generator=seeded())
    optimiser = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = F.cross_entropy(net(x), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.35


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"number": 3}, r"number must be 1 or 4, got 3.*widths="),
        ({"number": "4"}, "number must be 1 or 4, got '4'"),
        ({"number": True}, "number must be 1 or 4, got True"),
        ({"widths": [[4], []]}, "a stage without a convolution"),
        ({"widths": []}, "a stage without a convolution"),
        ({"widths": [3, 4]}, r"one list per stage, got \[3, 4\].*\[\[16\], \[32\], \[64\]\]"),
        ({"widths": 16}, "one list per stage, got 16"),
        ({"widths": [[0]]}, "a width must be an integer of at least 1, got 0"),
        ({"hidden": 0}, "hidden must be"),
        ({"pieces": 1}, "pieces must be an integer of at least 2, got 1"),
        ({"hidden_pieces": 1}, "hidden_pieces must be an integer of at least 2, got 1"),
        ({"dropout": 1.0}, "dropout must be a probability"),
        ({"inputs": 0}, "inputs must be"),
        ({"classes": 0}, "classes must be"),
    ],
)
def test_invalid_arguments_raise_with_their_value(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        fitnet(**({"device": "meta"} | change))


def test_inputs_other_than_batches_of_images_raise() -> None:
    with pytest.raises(ShapeError, match=r"\(batch, 2, height, width\), got an input of shape \(3, 1, 5, 5\)"):
        _tiny()(torch.zeros(3, 1, 5, 5))
