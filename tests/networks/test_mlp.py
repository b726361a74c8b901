"""Fully connected networks: counts, equalities and errors."""

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from thruway.errors import ConfigError, ShapeError
from thruway.init import initialize
from thruway.networks import BLOCKS, mlp, paired_width
from thruway.nn import HighwayLinear, HighwayStack, Plain, Residual, gate_bias_for_depth


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: with several, tensors this small take up to 100 times longer on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _samples(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(1))


def _by_hand(net: nn.Module, x: torch.Tensor, block: str) -> torch.Tensor:
    """Reference implementation from the parameters, following the papers."""
    p = dict(net.named_parameters())
    y = torch.tanh(x.flatten(1) @ p["stem.weight"].T + p["stem.bias"])
    for i in range(len(net.blocks)):
        where = f"blocks.{i}.branch" if block == "residual" else f"blocks.{i}"
        z = y @ p[f"{where}.weight"].T + p[f"{where}.bias"]
        h = torch.tanh(z[:, : y.shape[1]])
        t = torch.sigmoid(z[:, y.shape[1] :])
        if block == "plain":
            y = h
        elif block == "residual":
            y = y + h / (len(net.blocks) + 1) ** 0.5
        else:
            y = h * t + y * (1 - t)
    return y @ p["head.weight"].T + p["head.bias"]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_network_equals_the_papers_formula(block: str) -> None:
    net = mlp(block, 5, 6, inputs=8, classes=3, activation="tanh", dtype=torch.float64, generator=seeded())
    x = _samples(4, 2, 4)
    assert_close(net(x), _by_hand(net, x, block), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("depth", [1, 2, 10])
def test_depth_counts_the_plain_first_layer_and_not_the_head(block: str, depth: int) -> None:
    net = mlp(block, depth, 4, inputs=3, classes=2)
    kind = {"plain": Plain, "residual": Residual, "highway": HighwayLinear}[block]
    assert isinstance(net.stem, Plain)
    assert [type(layer) for layer in net.blocks] == [kind] * (depth - 1)
    assert isinstance(net.head, nn.Linear)


def test_the_papers_widths_have_5100_and_5112_parameters_a_layer() -> None:
    highway = mlp("highway", 2, 50, inputs=1, classes=1).blocks
    plain = mlp("plain", 2, paired_width("plain", 50), inputs=1, classes=1).blocks
    assert [sum(p.numel() for p in blocks.parameters()) for blocks in (highway, plain)] == [5100, 5112]


@given(st.integers(1, 300))
def test_no_other_width_pairs_better(highway: int) -> None:
    width = paired_width("plain", highway)
    wanted = 2 * highway * (highway + 1)
    best = min(range(1, 3 * highway + 2), key=lambda w: abs(w * (w + 1) - wanted))
    assert width == best == paired_width("residual", highway)
    assert paired_width("highway", highway) == highway


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("depth", [1, 2, 12])
def test_a_fused_network_equals_the_one_with_separate_layers(depth: int, activation: str) -> None:
    fused, layered = (
        mlp(
            "highway",
            depth,
            5,
            inputs=7,
            classes=3,
            activation=activation,
            gate_bias="depth",
            fused=fused,
            dtype=torch.float64,
            generator=seeded(),
        )
        for fused in (True, False)
    )
    assert isinstance(fused.blocks, HighwayStack) == (depth > 1)
    x = _samples(4, 7).requires_grad_()
    assert_close(fused(x), layered(x), rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad(net(x).square().sum(), [x, net.stem.weight, net.head.weight]) for net in (fused, layered)
    ]
    assert_close(*gradients, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("gate_bias", "expected"), [("depth", gate_bias_for_depth(30)), (-4, -4.0)])
def test_gate_bias_reaches_every_layer(gate_bias: float | str, expected: float) -> None:
    net = mlp("highway", 30, 4, inputs=3, classes=2, gate_bias=gate_bias, carry="independent")
    for layer in net.blocks:
        assert [part.bias.unique().tolist() for part in layer.init_parts()] == [[0.0], [expected], [-expected]]


@pytest.mark.parametrize("block", BLOCKS)
def test_weights_depend_on_the_generator_only(block: str) -> None:
    def built(seed: int) -> list[torch.Tensor]:
        return [p.detach() for p in mlp(block, 3, 4, 5, 2, generator=seeded(seed)).parameters() if p.ndim > 1]

    outer = torch.get_rng_state()
    one, same, other = built(0), built(0), built(1)
    assert torch.equal(torch.get_rng_state(), outer)
    for a, b, c in zip(one, same, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@pytest.mark.parametrize("block", BLOCKS)
def test_initialize_gives_h_the_same_variance_in_every_block(block: str) -> None:
    net = mlp(block, 3, 4, inputs=4, classes=2)
    rows = [row for row in initialize(net, "glorot_normal", generator=seeded()) if row.part == "transform"]
    maps = [row for row in rows if row.fan_in is not None]
    assert [row.std for row in maps] == pytest.approx([0.5 * 2**0.5] * 3)  # gain of relu / sqrt(4)


def test_a_thirty_layer_highway_net_learns_what_a_plain_one_of_sigmoids_cannot() -> None:
    x = torch.randn(64, 6, generator=seeded(1))
    target = (x[:, 0] + x[:, 1] > 0).long()
    losses = {}
    for block in ("highway", "plain"):
        net = mlp(block, 30, 12, 6, 2, "sigmoid", gate_bias="depth", fused=block == "highway", generator=seeded())
        optimiser = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
        for _ in range(60):
            optimiser.zero_grad()
            loss = F.cross_entropy(net(x), target)
            loss.backward()
            optimiser.step()
        losses[block] = loss.item()
    # Guessing costs ln 2 = 0.693. Seeds 0-2 gave 0.044-0.049 and 0.691.
    assert losses["highway"] < 0.2
    assert losses["plain"] > 0.6


def _growth(activation: str, scale: float | str) -> float:
    """Ratio of the second moments after and before the blocks of a 100-layer residual network."""
    net = mlp("residual", 100, 200, 64, 2, activation, residual_scale=scale, dtype=torch.float64, generator=seeded())
    with torch.no_grad():
        stem = net.stem(_samples(64, 64))
        return (net.blocks(stem).square().mean() / stem.square().mean()).item()


def test_a_residual_branch_scaled_by_depth_grows_as_its_mean_allows() -> None:
    assert _growth("tanh", "depth") < math.e  # (1 + 1/L)^L
    assert _growth("tanh", 1.0) > 100
    # The output of a rectifier has the mean rms / sqrt(pi), and the means add up in one direction: d ln(rms) / d layer
    # = s / sqrt(pi) once this direction dominates. It does not in the first layers: hence 10 % on the exponent.
    assert math.log(_growth("relu", "depth")) == pytest.approx(2 * math.sqrt(100 / math.pi), rel=0.1)
    assert _growth("relu", 1.0) > 1e40


def test_residual_scale_may_be_a_number() -> None:
    assert [block.scale for block in mlp("residual", 16, 3, 3, 2).blocks] == [0.25] * 15
    assert [block.scale for block in mlp("residual", 3, 3, 3, 2, residual_scale=0.7).blocks] == [0.7] * 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"block": "higway"}, "did you mean 'highway'.*Known: highway, plain, residual"),
        ({"block": ["plain"]}, "unknown block"),
        ({"depth": 0}, "depth must be an integer of at least 1, got 0"),
        ({"width": 0}, "got 0"),
        ({"inputs": -1}, "inputs must be"),
        ({"classes": 0}, "classes must be"),
        ({"gate_bias": "deep"}, "a number or 'depth', got 'deep'"),
        ({"residual_scale": "dpth"}, "residual_scale must be a number or 'depth', got 'dpth'"),
        ({"block": "residual", "residual_scale": float("nan")}, "scale must be a finite number.*got nan"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
        ({"carry": "couple"}, "did you mean 'coupled'"),
        ({"block": "plain", "fused": True}, "fused=True needs coupled highway blocks, got block='plain'"),
        ({"carry": "independent", "fused": True}, "carry='independent'"),
        ({"activation": torch.sin, "fused": True}, "the name of an activation"),
    ],
)
def test_invalid_arguments_raise_with_their_value(change: dict[str, object], says: str) -> None:
    allowed = {"block": "highway", "depth": 3, "width": 4, "inputs": 5, "classes": 2}
    with pytest.raises(ConfigError, match=says):
        mlp(**(allowed | change))


def test_samples_of_another_size_raise() -> None:
    with pytest.raises(ShapeError, match=r"\(\.\.\., 64\), got \(2, 63\)"):
        mlp("plain", 2, 4, inputs=64, classes=2)(torch.ones(2, 7, 9))


def test_unknown_pairing_raises() -> None:
    with pytest.raises(ConfigError, match="did you mean 'plain'"):
        paired_width("plane", 50)
    with pytest.raises(ConfigError, match="highway_width"):
        paired_width("plain", 0)


@pytest.mark.parametrize("shape", [(8,), ()])
def test_a_sample_without_a_batch_dimension_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(batch, \.\.\.\), got an input of shape .*unsqueeze\(0\)"):
        mlp("plain", 2, 3, inputs=8, classes=2)(torch.zeros(shape))
