"""Highway blocks of arbitrary modules."""

import math

import pytest
import torch
from nn_cases import seeded
from torch import Tensor, nn
from torch.testing import assert_close

from thruway.errors import ConfigError, ShapeError
from thruway.nn import Highway, HighwayLinear

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64, sums of fewer than 100 terms of size 1


def test_highway_with_linear_maps_equals_highway_linear() -> None:
    layer = HighwayLinear(4, "tanh", -1.5, "independent", dtype=torch.float64, generator=seeded())
    maps = [nn.Linear(4, 4, dtype=torch.float64) for _ in range(3)]
    for linear, part in zip(maps, layer.init_parts(), strict=True):
        linear.load_state_dict({"weight": part.weight, "bias": torch.zeros(4)})
    block = Highway(nn.Sequential(maps[0], nn.Tanh()), maps[1], maps[2], gate_bias=-1.5)
    x = torch.randn(3, 4, dtype=torch.float64, generator=seeded(1))
    assert_close(block(x), layer(x), **EXACT)


def test_gate_bias_reaches_the_last_layer_also_when_it_is_a_norm() -> None:
    gate = nn.Sequential(nn.Conv1d(2, 2, 1), nn.ReLU(), nn.Conv1d(2, 2, 1, bias=False), nn.BatchNorm1d(2))
    first = gate[0].bias.detach().clone()
    block = Highway(nn.Identity(), gate, gate_bias=-6.0)
    assert gate[3].bias.eq(-6.0).all()
    assert torch.equal(gate[0].bias, first)
    seen: list[Tensor] = []
    block.transform_gate.register_forward_hook(lambda _module, _inputs, t: seen.append(t))
    block(torch.randn(8, 2, 50, generator=seeded()))
    # Batch norm: mean -6, variance 1, so that the mean gate is near sigmoid(-6) e^(1/2).
    assert 0.5 * math.exp(-6) < seen[0].mean() < 5 * math.exp(-6)


def test_gate_bias_none_keeps_the_gate() -> None:
    gate = nn.Linear(3, 3)
    bias = gate.bias.detach().clone()
    Highway(nn.Identity(), gate, gate_bias=None)
    assert torch.equal(gate.bias, bias)
    x = torch.randn(2, 3, generator=seeded())
    assert_close(Highway(nn.Tanh(), nn.Identity(), gate_bias=None)(x), torch.lerp(x, x.tanh(), x.sigmoid()))


@pytest.mark.parametrize(
    "gate",
    [nn.Linear(3, 3, bias=False), nn.Identity(), nn.LazyLinear(3), nn.Sequential(nn.Linear(3, 3), nn.PReLU())],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_gate_without_a_bias_raises(gate: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"gate has no bias.*gate_bias=None"):
        Highway(nn.Identity(), gate)


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Softmax(dim=-1)])
def test_a_gate_that_ends_in_a_squashing_function_raises(last: nn.Module) -> None:
    with pytest.raises(ConfigError, match=f"gate ends in {type(last).__name__}.*applies the sigmoid itself"):
        Highway(nn.Identity(), nn.Sequential(nn.Linear(3, 3), last))
    with pytest.raises(ConfigError, match="carry ends in"):
        Highway(nn.Identity(), nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), last))


@pytest.mark.parametrize("wrong", ["transform", "gate", "carry"])
def test_a_module_that_overwrites_the_carried_input_raises(wrong: str) -> None:
    modules = {"transform": nn.Linear(3, 3), "gate": nn.Linear(3, 3), "carry": nn.Linear(3, 3)}
    modules[wrong] = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 3))
    with pytest.raises(ConfigError, match=f"the {wrong} begins with ReLU.*inplace=False"):
        Highway(**modules)


@pytest.mark.parametrize("wrong", ["transform", "gate", "carry"])
def test_different_shapes_raise_with_advice(wrong: str) -> None:
    sizes = {"transform": 3, "gate": 3, "carry": 3, wrong: 1}  # 1 would broadcast
    block = Highway(*(nn.Linear(3, size) for size in sizes.values()))
    with pytest.raises(ShapeError, match=rf"{wrong}\(x\).*\(2, 1\).*\(2, 3\).*Resize"):
        block(torch.ones(2, 3))
