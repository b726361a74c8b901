import math

import pytest
import torch
from init_cases import seeded
from torch import Tensor, nn

from thruway.errors import ConfigError, InitError, ShapeError
from thruway.init import initialize, lecun_normal_
from thruway.init.meanfield import chi_1, critical, fixed_point, stack_of, variance_profile
from thruway.networks import mlp
from thruway.nn import Highway, HighwayConv1d, Learnt, Plain, Residual

# Widths and gains all differ, so that a product over the wrong layers or the wrong width is far off.
WIDTHS = [160, 240, 120, 300, 200]
SPREADS = [1.5, 0.5, 2.5, 0.7]  # n_i Var W^i
VARIANCES = [spread / width for spread, width in zip(SPREADS, WIDTHS, strict=False)]
RUNS = 24


def _run_and_measure(activation: str, run: int) -> Tensor:
    """Mean squares of z^0..z^L, then of dC/ds, then of dC/dW, in one random net."""
    function = {"linear": lambda s: s, "tanh": torch.tanh, "relu": torch.relu}[activation]
    generator = seeded(run)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)  # noqa: E731
    z = draw(1, WIDTHS[0])
    activations, sums, weights = [z], [], []
    for fan_in, fan_out, variance in zip(WIDTHS, WIDTHS[1:], VARIANCES, strict=False):
        weights.append((math.sqrt(variance) * draw(fan_in, fan_out)).requires_grad_())
        sums.append(activations[-1] @ weights[-1])
        activations.append(function(sums[-1]))
    upstream = draw(*sums[-1].shape)
    gradients = torch.autograd.grad((sums[-1] * upstream).sum(), sums + weights)
    return torch.stack([tensor.detach().square().mean() for tensor in (*activations, *gradients)])


@pytest.mark.parametrize("activation", ["linear", "tanh", "relu"])
def test_the_predicted_profile_matches_the_measured_one(activation: str) -> None:
    profile = variance_profile(WIDTHS, VARIANCES, activation=activation)
    predicted = torch.tensor(profile.activations + profile.gradients + profile.weight_gradients, dtype=torch.float64)
    ratios = torch.stack([_run_and_measure(activation, run) for run in range(RUNS)]) / predicted
    error = ratios.std(dim=0) / math.sqrt(RUNS)
    # Small enough to tell a missing factor of 1.5 from noise, or the next line would prove nothing.
    assert error.max() < 0.08
    # Five standard errors; finite width shifts a mean by O(1/n), 1/120 at most per non-linear layer.
    assert ((ratios.mean(dim=0) - 1).abs() < 5 * error + 0.02).all()


def test_the_linear_profile_equals_glorots_products() -> None:
    profile = variance_profile(WIDTHS, VARIANCES, x_variance=2.0, gradient_variance=3.0)
    for i in range(5):
        forward = math.prod(WIDTHS[j] * VARIANCES[j] for j in range(i))
        assert profile.activations[i] == pytest.approx(2 * forward, rel=1e-12)
    for i in range(4):
        back = math.prod(WIDTHS[j + 1] * VARIANCES[j] for j in range(i + 1, 4))
        assert profile.gradients[i] == pytest.approx(3 * back, rel=1e-12)
        assert profile.weight_gradients[i] == pytest.approx(profile.activations[i] * 3 * back, rel=1e-12)
        assert profile.pre_activations[i] == pytest.approx(profile.activations[i + 1], rel=1e-12)


def test_weight_gradients_are_constant_for_equal_widths() -> None:
    """Glorot & Bengio 2010, eq. 14: whatever n Var W, and although both factors change with depth."""
    profile = variance_profile([100] * 21, [1 / 300] * 20, x_variance=1.7)
    # Eq. 14 has the exponent d for products of d factors: here the d = L - 1 layers above the first.
    expected = (1 / 3) ** 19 * 1.7
    assert profile.weight_gradients == pytest.approx([expected] * 20, rel=1e-12)
    assert profile.gradients[0] == pytest.approx((1 / 3) ** 19, rel=1e-12)  # eq. 13


def test_variances_are_constant_at_the_critical_point() -> None:
    sigma_w, sigma_b = critical("tanh", q=0.4)
    inputs = (0.4 - sigma_b**2) / sigma_w**2  # E f(s)^2 at variance 0.4
    profile = variance_profile([64] * 31, [sigma_w**2 / 64] * 30, inputs, 1.0, "tanh", sigma_b**2)
    assert profile.pre_activations == pytest.approx([0.4] * 30, rel=1e-9)
    assert profile.gradients == pytest.approx([1.0] * 30, rel=1e-9)


@pytest.mark.parametrize(("sigma_w", "sigma_b"), [(0.8, 0.3), (2.0, 0.3)])
def test_gradients_grow_by_chi_per_layer(sigma_w: float, sigma_b: float) -> None:
    q = fixed_point("tanh", sigma_w, sigma_b)
    inputs = (q - sigma_b**2) / sigma_w**2
    profile = variance_profile([64] * 11, [sigma_w**2 / 64] * 10, inputs, 1.0, "tanh", sigma_b**2)
    assert profile.gradients[0] == pytest.approx(chi_1("tanh", sigma_w, sigma_b) ** 9, rel=1e-8)


def test_widths_and_variances_of_a_model() -> None:
    model = nn.Sequential(nn.Linear(30, 50), nn.ReLU(), nn.Linear(50, 20)).double()
    summary = initialize(model, "orthogonal", generator=seeded(), gain=1.0)
    widths, variances = stack_of(model)
    assert widths == [30, 50, 20]
    expected = [row.std**2 for row in summary if row.std]
    assert variances == pytest.approx(expected, rel=1e-12)


def test_he_keeps_a_relu_profile_constant() -> None:
    weight = lecun_normal_(torch.empty(100, 100, dtype=torch.float64), math.sqrt(2), seeded())
    assert weight.square().mean().item() * 100 == pytest.approx(2.0, abs=5 * 2 * math.sqrt(2 / 1e4))
    profile = variance_profile([100] * 41, [2 / 100] * 40, activation="relu")
    assert profile.activations == pytest.approx([1.0] * 41, rel=1e-12)
    assert profile.gradients == pytest.approx([1.0] * 40, rel=1e-12)


def test_inconsistent_stacks_raise() -> None:
    with pytest.raises(ShapeError, match="2 widths for 2 weight variances"):
        variance_profile([3, 3], [1.0, 1.0])
    with pytest.raises(ConfigError, match="widths must be at least 1"):
        variance_profile([3, 0], [1.0])
    with pytest.raises(ConfigError, match="variances at least 0"):
        variance_profile([3, 3], [-1.0])
    with pytest.raises(ShapeError, match="no dense layer"):
        stack_of(nn.ReLU())
    with pytest.raises(ShapeError, match="has 4 outputs, the next one 5 inputs"):
        stack_of(nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 6)))


@pytest.mark.parametrize(
    ("block", "fused"), [("plain", False), ("residual", False), ("highway", False), ("highway", True)]
)
def test_the_maps_of_every_kind_of_block_are_included(block: str, fused: bool) -> None:
    net = mlp(block, 4, 5, 6, 3, fused=fused, generator=seeded())
    # H is the first `width` rows of a block's weight, in each layer.
    stored = [p.detach() for name, p in net.blocks.named_parameters() if name.endswith("weight")]
    blocks = [layer[:5] for p in stored for layer in p.reshape(-1, *p.shape[-2:])]
    weights = [net.stem.weight.detach(), *blocks, net.head.weight.detach()]
    widths, variances = stack_of(net)
    assert widths == [6, 5, 5, 5, 5, 3]
    assert variances == pytest.approx([w.double().square().mean().item() for w in weights], rel=1e-12)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2)), r"'1' \(LayerNorm\)"),
        (nn.Sequential(nn.Conv1d(3, 3, 1), nn.Linear(3, 2)), r"'0' \(Conv1d\)"),
        (HighwayConv1d(3, 3), r"'the model itself' \(HighwayConv1d\)"),
        (Highway(nn.Linear(3, 3), nn.Linear(3, 3)), r"'the model itself' \(Highway\)"),
        (Highway(nn.Linear(3, 3), Plain(3, 3, "linear")), r"'the model itself' \(Highway\)"),
        (Residual(nn.Linear(3, 3), scale=Learnt(0.5)), r"'the model itself' \(Residual\)"),
    ],
    ids=lambda case: type(case).__name__,
)
def test_weights_outside_the_chain_raise(model: nn.Module, named: str) -> None:
    with pytest.raises(InitError, match=named):
        stack_of(model)


def test_a_parametrised_weight_counts_with_its_current_value() -> None:
    layer = nn.Linear(3, 2)
    nn.utils.parametrizations.weight_norm(layer)
    assert stack_of(layer)[1] == pytest.approx([layer.weight.detach().double().square().mean().item()], rel=1e-12)
