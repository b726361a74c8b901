"""The mean singular value of a Jacobian: exact against SVD, estimated against exact, both against theory."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.errors import ConfigError, ShapeError
from thruway.init import initialize
from thruway.nn import HighwayStack
from thruway.watching.quantities.jacobian import layer_jacobian
from thruway.watching.quantities.layer_jacobians import layer_jacobians


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def by_jacrev(layer, x: Tensor) -> np.ndarray:
    """(batch, min(inputs, outputs)): each example alone."""
    found = []
    for example in x:
        jacobian = torch.func.jacrev(lambda z: layer(z[None].clone())[0].flatten())(example)
        found.append(np.linalg.svd(jacobian.detach().flatten(1).numpy(), compute_uv=False))
    return np.stack(found)


LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), (6,)),
    "wide": (lambda: nn.Linear(3, 9), (3,)),
    "tanh": (lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh()), (6,)),
    "in place": (lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 5), nn.ReLU(inplace=True)), (5,)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Sigmoid()), (2, 4, 4)),
    "normalised": (lambda: nn.LayerNorm(7), (7,)),
    "fused highway": (lambda: HighwayStack(4, 3, generator=generator()), (4,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_small_layers_are_exact(name):
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer, x = make().double(), random(5, *shape)
    found, expected = layer_jacobian(layer, x), by_jacrev(layer, x)
    assert found.is_exact
    assert found.standard_error == 0
    # Two float64 decompositions of matrices of order 1.
    np.testing.assert_allclose(found.singular_values.numpy(), expected, rtol=1e-10, atol=1e-12)
    assert found.mean_singular_value == pytest.approx(expected.mean(), rel=1e-12)


@pytest.mark.parametrize("shape", [(60, 60), (40, 80), (80, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_estimate_agrees_with_the_exact_value(shape, dtype):
    weight = (random(*shape) / math.sqrt(shape[0])).to(dtype)

    def layer(z: Tensor) -> Tensor:
        return torch.tanh(z @ weight)

    x = random(8, shape[0], seed=1).to(dtype)
    exact = layer_jacobian(layer, x).mean_singular_value
    found = layer_jacobian(layer, x, exact_up_to=0, directions=20, generator=generator(2))
    assert not found.is_exact
    # Five standard errors, and the bias of 24 Lanczos steps.
    assert abs(found.mean_singular_value - exact) < 5 * found.standard_error + 1e-3 * exact
    assert found.standard_error < 0.02 * exact  # 160 directions, each off by some 1/sqrt(40)


def test_the_standard_error_is_the_spread_of_repeated_estimates():
    weight, x = random(8, 8) / 3, random(3, 8, seed=1)
    draws = [
        layer_jacobian(lambda z: torch.tanh(z @ weight), x, exact_up_to=0, directions=3, generator=generator(seed))
        for seed in range(40)
    ]
    spread = np.std([draw.mean_singular_value for draw in draws], ddof=1)
    standard_error = math.sqrt(np.mean([draw.standard_error**2 for draw in draws]))
    # The standard deviation of 40 numbers is known to 1/sqrt(2·39) = 11 %: four of those.
    assert spread == pytest.approx(standard_error, rel=0.45)


def test_as_many_steps_as_units_make_lanczos_exact_along_a_direction():
    """20 units, 24 steps allowed: the quadrature has no error left, so the value of a scaled rotation is exact."""
    rotation = torch.linalg.qr(random(20, 20)).Q
    for scale in (1e-30, 0.5, 1e30):
        scaled = nn.Linear(20, 20, bias=False).double()
        scaled.weight.data = rotation * scale
        found = layer_jacobian(scaled, random(2, 20), exact_up_to=0, generator=generator())
        assert found.mean_singular_value == pytest.approx(scale, rel=1e-6, abs=0)  # a square root of rounding at worst
    tiny = (rotation * 1e-30).float()
    found = layer_jacobian(lambda z: z @ tiny, torch.ones(2, 20), exact_up_to=0, generator=generator())
    assert found.mean_singular_value == pytest.approx(1e-30, rel=1e-4, abs=0)  # single precision


@pytest.mark.parametrize(("sigma_root_n", "published"), [(1.0, 0.8), (1 / math.sqrt(3), 0.5)])
def test_random_square_matrices_have_the_known_mean(sigma_root_n, published):
    n = 300
    limit = sigma_root_n * math.sqrt(3 / n)
    weight = (torch.rand(n, n, generator=generator(), dtype=torch.float64) * 2 - 1) * limit
    found = layer_jacobian(lambda z: z @ weight, torch.zeros(1, n, dtype=torch.float64)).mean_singular_value
    # Corrections to the law of large matrices are of order 1/n; ten times that.
    assert found == pytest.approx(8 / (3 * math.pi) * sigma_root_n, rel=10 / n)
    estimate = layer_jacobian(
        lambda z: z @ weight,
        torch.zeros(1, n, dtype=torch.float64),
        exact_up_to=0,
        directions=16,
        generator=generator(1),
    )
    assert abs(estimate.mean_singular_value - found) < 5 * estimate.standard_error + 1e-3 * found
    assert abs(found - published) < 0.06  # the paper's one digit, of tanh layers, whose slopes are below 1


def test_dead_layers_pass_nothing_and_broken_ones_say_so():
    weight = random(6, 6)
    dead = layer_jacobian(lambda z: torch.relu(z @ weight - 1e9), random(3, 6))
    assert dead.mean_singular_value == 0
    dead = layer_jacobian(lambda z: torch.relu(z @ weight - 1e9), random(3, 6), exact_up_to=0, generator=generator())
    assert (dead.mean_singular_value, dead.standard_error) == (0, 0)
    assert math.isnan(layer_jacobian(lambda z: z * math.nan, random(3, 6)).mean_singular_value)


def test_evaluation_mode_for_the_moment_and_nothing_remains():
    layer = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)).double()
    layer[2].eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    state = torch.get_rng_state()
    found = layer_jacobian(layer, random(4, 6))
    sigma = np.linalg.svd(layer[0].weight.detach().numpy() / math.sqrt(1 + 1e-5), compute_uv=False)
    assert found.mean_singular_value == pytest.approx(sigma.mean(), rel=1e-10)  # fresh statistics: mean 0, variance 1
    assert [module.training for module in layer] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert all(p.grad is None for p in layer.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_layer_refusals():
    x = random(3, 6)
    with pytest.raises(ConfigError, match=r"7 outputs are more than exact_up_to=2.*Pass generator="):
        layer_jacobian(nn.Linear(6, 7).double(), x, exact_up_to=2)
    with pytest.raises(ConfigError, match="at least 2 directions per example, got 1"):
        layer_jacobian(nn.Linear(6, 7).double(), x, exact_up_to=2, directions=1, generator=generator())
    with pytest.raises(ShapeError, match=r"the input has 3 examples, the output shape \(6,\)"):
        layer_jacobian(lambda z: z.sum(0), x)
    with pytest.raises(ShapeError, match="the output tuple"):
        layer_jacobian(lambda z: (z, z), x)
    with pytest.raises(ConfigError, match="not computed from the input"):
        layer_jacobian(lambda z: torch.ones(3, 6, dtype=torch.float64), x)


# --- between the layers of a model


def tanh_net(scheme: str, width: int = 120, depth: int = 4) -> nn.Sequential:
    layers = [module for _ in range(depth) for module in (nn.Linear(width, width), nn.Tanh())]
    net = nn.Sequential(*layers, nn.Linear(width, 10))
    initialize(net, scheme, generator=generator())
    return net.double()


def test_each_layer_has_its_own_jacobian():
    net, x = tanh_net("glorot_uniform", 8), random(4, 8)
    found = layer_jacobians(net, x)
    assert list(found) == ["1", "3", "5", "7"]
    z = x
    for start in range(0, 8, 2):
        layer = net[start : start + 2]
        assert found[str(start + 1)].mean_singular_value == pytest.approx(by_jacrev(layer, z).mean(), rel=1e-10)
        z = layer(z)


def test_the_two_schemes_of_the_paper_differ_as_published():
    """Glorot & Bengio 2010, below eq. 17: about 0.8 with the normalised scheme, 0.5 with the standard one."""
    x = random(2, 120)
    for scheme, published in (("glorot_uniform", 0.8), ("standard", 0.5)):
        found = [j.mean_singular_value for j in layer_jacobians(tanh_net(scheme), x).values()]
        assert found[-1] == pytest.approx(published, abs=0.1)  # one digit, and inputs of another data set
        assert all(value < 8 / (3 * math.pi) for value in found)  # of linear layers with n·Var = 1


class Backwards(nn.Module):
    """Runs its layers in the opposite order to that in which it holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.early = nn.Tanh(), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.early(x))


def test_layers_come_in_the_order_they_run():
    found = layer_jacobians(Backwards(), torch.zeros(1, 3))
    slopes = {"early": 0.25, "late": 1 - math.tanh(0.5) ** 2}
    assert {name: j.mean_singular_value for name, j in found.items()} == pytest.approx(slopes, rel=1e-6)
    assert list(found) == ["early", "late"]
    with pytest.raises(ConfigError, match="at layer 'early': the output is not computed from the input"):
        layer_jacobians(Backwards(), torch.zeros(1, 3), ["late", "early"])


class Functional(nn.Module):
    """Blocks whose activations no module makes, and that write into what they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(5, 5) for _ in range(3)])
        self.aside = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        self.aside(torch.ones(len(x), 5, dtype=x.dtype))
        for block in self.blocks:
            x = block(x)
            x += 0.1
            x = F.relu(x, inplace=True)
        return x


def test_named_layers_of_any_model():
    torch.manual_seed(0)
    net, x = Functional().double(), random(4, 5)
    found = layer_jacobians(net, x, ["blocks.0", "blocks.1", "blocks.2"])
    z = x
    for index, block in enumerate(net.blocks):

        def between(h: Tensor, block: nn.Module = block, first: bool = index == 0) -> Tensor:
            return block(h if first else F.relu(h + 0.1))

        assert found[f"blocks.{index}"].mean_singular_value == pytest.approx(by_jacrev(between, z).mean(), rel=1e-10)
        z = between(z)
    assert not any(module._forward_hooks for module in net.modules())
    with pytest.raises(ConfigError, match="at layer 'aside': the output is not computed from the input"):
        layer_jacobians(net, x, ["blocks.0", "aside"])
    assert not any(module._forward_hooks for module in net.modules())


def test_model_refusals_and_token_inputs():
    net = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 3))
    tokens = torch.zeros(2, 2, dtype=torch.long)
    found = layer_jacobians(net, tokens)
    assert list(found) == ["1", "2"]  # nothing has a Jacobian with respect to a token
    assert found["1"].mean_singular_value == pytest.approx(1.0)
    with pytest.raises(ConfigError, match=r"unknown layer '3'.*Known: "):
        layer_jacobians(net, tokens, ["3"])
    net[2].add_module("idle", nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"'2\.idle' did not run"):
        layer_jacobians(net, tokens, ["2", "2.idle"])
    with pytest.raises(ShapeError, match="returned tuple"):
        layer_jacobians(nn.Sequential(nn.LSTM(4, 4)), random(2, 3, 4).float())
