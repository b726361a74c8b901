"""Known bugs of published highway code, and tests that they are absent here.

The first nine are from one widely copied article (a PyTorch and a Keras version); the others from public
repositories. Each test would fail for the code with the bug.
"""

import inspect
import math
import warnings

import pytest
import torch
from nn_cases import HIGHWAYS, Case, named, run_with_hooks, seeded
from torch import Tensor, nn
from torch.testing import assert_close

from thruway.networks import BLOCKS, mlp
from thruway.nn import Highway, HighwayConv1d, HighwayConv2d, HighwayConv3d, HighwayLinear, Plain, Resize

WITH_OWN_WEIGHTS = (HighwayLinear, HighwayConv1d, HighwayConv2d, HighwayConv3d)


def _zero_weights(block: nn.Module) -> nn.Module:
    """Set the weights to zero and keep the biases, so that every gate has its initial value for any input."""
    for name, parameter in block.named_parameters():
        if name.endswith("weight"):
            parameter.data.zero_()
    return block


# --- the article


@pytest.mark.parametrize("case", **named(HIGHWAYS))
def test_1_gates_are_not_a_softmax_over_units(case: Case) -> None:
    # A softmax's gates sum to 1 along some axis; independent ones at bias -1 start at sigmoid(-1) each.
    t = run_with_hooks(_zero_weights(case.block(gate_bias=-1.0)), case.batch())["t"]
    assert_close(t, torch.full_like(t, 1 / (1 + math.e)), rtol=1e-12, atol=0)


def test_1_one_gate_opens_without_closing_the_others() -> None:
    layer, x = HighwayLinear(4, generator=seeded()), torch.randn(3, 4, generator=seeded(1))
    before = run_with_hooks(layer, x)["t"]
    layer.bias.data[4 + 2] += 3.0  # the gate of unit 2
    after = run_with_hooks(layer, x)["t"]
    assert (after[:, 2] > before[:, 2]).all()
    assert torch.equal(after[:, [0, 1, 3]], before[:, [0, 1, 3]])


@pytest.mark.parametrize("case", **named(HIGHWAYS))
def test_2_the_gate_bias_has_its_effect(case: Case) -> None:
    x = case.batch()
    for bias in (-6.0, -2.0, 0.0, 3.0):
        t = run_with_hooks(_zero_weights(case.block(gate_bias=bias)), x)["t"]
        assert_close(t, torch.full_like(t, bias).sigmoid(), rtol=1e-12, atol=0)


def test_3_no_axis_of_the_gate_depends_on_the_number_of_axes() -> None:
    layer = HighwayLinear(4, generator=seeded()).double()
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=seeded(1))
    t = run_with_hooks(layer, x)["t"]
    for view in (x.reshape(6, 5, 4), x.reshape(30, 4)):
        assert_close(run_with_hooks(layer, view)["t"].reshape(t.shape), t)
    assert_close(run_with_hooks(layer, x[1, 2, 3])["t"], t[1, 2, 3])


@pytest.mark.parametrize("build", [HighwayConv1d, HighwayConv2d, HighwayConv3d])
def test_4_the_convolutional_layer_convolves(build: type[nn.Module]) -> None:
    dims = WITH_OWN_WEIGHTS.index(build)
    layer = build(2, 3, "tanh", 0.0, generator=seeded()).double()
    x = torch.zeros(1, 2, *[9] * dims, dtype=torch.float64)
    x[(0, 0, *[4] * dims)] = 1.0
    quiet = layer(torch.zeros_like(x))
    reached = (layer(x) - quiet).abs().sum((0, 1)) > 0
    window = torch.zeros_like(reached)
    window[(slice(3, 6),) * dims] = True
    assert torch.equal(reached, window)  # exactly the neighbourhood of the kernel
    assert ((layer(x) - quiet)[0, 1] != 0).any()  # mixes channels
    moved = layer(x.roll(1, dims=-1))
    assert_close(moved[..., 1:-1], layer(x).roll(1, dims=-1)[..., 1:-1])
    assert layer(torch.zeros(1, 2, *[5] * dims, dtype=torch.float64)).shape[2:] == (5,) * dims


FROM_GENERATOR = {
    "highway": lambda generator: HighwayLinear(64, "tanh", generator=generator),
    "plain": lambda generator: Plain(64, 64, "tanh", generator=generator),
}


@pytest.mark.parametrize("name", FROM_GENERATOR)
def test_5_weights_do_not_start_with_the_shrinking_default_of_torch(name: str) -> None:
    for part in FROM_GENERATOR[name](seeded()).init_parts():
        standard, normalized = 1 / (3 * 64), 1 / 64
        # Standard error of a uniform sample variance: σ² sqrt(0.8 / n), about 1.4 % here.
        assert abs(part.weight.var().item() / normalized - 1) < 5 * math.sqrt(0.8 / part.weight.numel())
        assert part.weight.var().item() > 2 * standard


def test_6_there_are_layers_that_change_sizes() -> None:
    x = torch.randn(3, 8, generator=seeded())
    for layer in (Plain(8, 5, generator=seeded()), Resize(8, 5), Resize(8, 5, how="project", generator=seeded())):
        y = nn.Sequential(layer, HighwayLinear(5, gate_bias=-math.inf))(x)
        assert torch.equal(y, layer(x))
        assert y.shape == (3, 5)


@pytest.mark.parametrize("case", **named(HIGHWAYS))
def test_7_h_has_weights_and_they_are_connected(case: Case) -> None:
    block, x = case.block(), case.batch()
    before = run_with_hooks(block, x)["h"]
    parameters = list(block.parameters())
    gradients = torch.autograd.grad(before.sum(), parameters, allow_unused=True)
    assert any(gradient is not None and gradient.any() for gradient in gradients)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.data.sub_(0.1 * gradient)
    assert not torch.equal(run_with_hooks(block, x)["h"], before)


def test_8_sequences_keep_their_shape_and_each_step_its_own_output() -> None:
    layer = HighwayLinear(4, generator=seeded()).double()
    sequence = torch.randn(2, 6, 4, dtype=torch.float64, generator=seeded(1))
    assert_close(layer(sequence), torch.stack([layer(sequence[:, step]) for step in range(6)], dim=1))


@pytest.mark.parametrize("case", **named(HIGHWAYS))
def test_9_no_deprecated_interface_is_used(case: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        case.block()(case.batch().requires_grad_()).sum().backward()


# --- public repositories


@pytest.mark.parametrize("case", **named(HIGHWAYS))
def test_the_carry_path_is_the_identity(case: Case) -> None:
    block, x = case.block(gate_bias=-math.inf), case.batch()
    for parameter in block.parameters():
        parameter.data.copy_(torch.where(parameter.isinf(), parameter, torch.full_like(parameter, 7.0)))
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("case", **named(HIGHWAYS))
def test_a_negative_gate_bias_closes_the_transform_and_not_the_carry(case: Case) -> None:
    x = case.batch()
    closed, opened = run_with_hooks(case.block(gate_bias=-8.0), x), run_with_hooks(case.block(gate_bias=8.0), x)
    assert (closed["y"] - x).abs().mean() < 0.05 * (closed["h"] - x).abs().mean()
    assert (opened["y"] - opened["h"]).abs().mean() < 0.05 * (opened["h"] - x).abs().mean()


def test_the_gate_multiplies_the_transform_and_one_minus_the_gate_the_input() -> None:
    # Reversed, y = T·x + (1 - T)·H, everything but the meaning of the bias looks the same.
    layer = HighwayLinear(4, "tanh", -1.0, generator=seeded()).double()
    x = torch.randn(3, 4, dtype=torch.float64, generator=seeded(1))
    seen = run_with_hooks(layer, x)
    assert_close((seen["y"] - x) / (seen["h"] - x), seen["t"])


@pytest.mark.parametrize("build", [*WITH_OWN_WEIGHTS, Highway])
def test_gates_start_closed_by_default(build: type[nn.Module]) -> None:
    assert inspect.signature(build).parameters["gate_bias"].default == -2.0
    gate = run_with_hooks(_zero_weights(HighwayLinear(3)), torch.ones(1, 3))["t"]
    assert_close(gate, torch.full((1, 3), 0.1192), rtol=0, atol=1e-4)  # sigmoid(-2), four decimals


@pytest.mark.parametrize("build", WITH_OWN_WEIGHTS)
def test_h_is_not_linear_by_default(build: type[nn.Module]) -> None:
    dims = WITH_OWN_WEIGHTS.index(build)
    layer = build(4, generator=seeded()) if dims == 0 else build(4, 1, generator=seeded())
    x = torch.randn(8, 4, *[3] * dims, generator=seeded(1))
    h, opposite = run_with_hooks(layer, x)["h"], run_with_hooks(layer, -x)["h"]
    assert (h >= 0).all()
    assert not torch.allclose(h, -opposite)


def test_relu_and_sigmoid_are_not_swapped_and_the_gate_is_no_relu() -> None:
    layer = HighwayLinear(3, "relu", 0.0)
    x = torch.tensor([[-2.0, 0.5, 1.5]])
    layer.weight.data.copy_(torch.cat([torch.eye(3), torch.eye(3)]))
    seen = run_with_hooks(layer, x)
    assert_close(seen["h"], torch.relu(x))
    assert_close(seen["t"], torch.sigmoid(x))


@pytest.mark.parametrize("block", BLOCKS)
def test_all_layers_of_a_network_are_registered(block: str) -> None:
    net = mlp(block, depth=12, width=5, inputs=7, classes=3, activation="tanh", generator=seeded())
    layer = {"plain": 5 * 6, "residual": 5 * 6, "highway": 2 * 5 * 6}[block]
    assert sum(p.numel() for p in net.parameters()) == 7 * 5 + 5 + 11 * layer + 5 * 3 + 3
    assert all(p.dtype == torch.float64 for p in net.double().parameters())
    before = [p.detach().clone() for p in net.parameters()]
    x = torch.randn(9, 7, dtype=torch.float64, generator=seeded(1))
    torch.nn.functional.cross_entropy(net(x), torch.arange(9) % 3).backward()
    torch.optim.SGD(net.parameters(), lr=1.0).step()
    assert all(not torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def test_networks_return_logits_without_a_softmax() -> None:
    net = mlp("highway", depth=2, width=5, inputs=7, classes=3, generator=seeded())
    net.head.weight.data.mul_(50)
    logits: Tensor = net(torch.randn(20, 7, generator=seeded(1)))
    assert logits.min() < 0
    assert logits.max() > 1


@pytest.mark.parametrize("size", [(5, 8), (8, 5), (1, 3)])
@pytest.mark.parametrize("kernel", [1, (3, 5), 7])
def test_maps_that_are_not_square_keep_their_size(size: tuple[int, int], kernel: int | tuple[int, int]) -> None:
    layer = HighwayConv2d(2, kernel, gate_bias=-math.inf, dilation=2)
    x = torch.randn(1, 2, *size, generator=seeded())
    assert torch.equal(layer(x), x)


def test_maps_that_share_a_weight_have_separate_fans() -> None:
    layer = HighwayLinear(50, "linear", generator=seeded())
    bound = (6 / (50 + 50)) ** 0.5
    together = (6 / (50 + 100)) ** 0.5  # what a fan-out of 2 · width would give
    for part in layer.init_parts():
        assert together < 0.99 * bound < part.weight.abs().max() <= bound
