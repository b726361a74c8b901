"""Gates and the gate bias for a depth."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nn_cases import seeded

from thruway.errors import ConfigError
from thruway.nn import CarryGate, TransformGate, gate_bias_for_depth
from thruway.nn.gates import mix, resolve_gate_bias


@pytest.mark.parametrize("gate", [TransformGate(), CarryGate()])
def test_gates_are_the_logistic_function(gate: torch.nn.Module) -> None:
    z = torch.linspace(-30, 30, 61, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(gate(z), 1 / (1 + torch.exp(-z)), rtol=1e-14, atol=0)
    assert torch.autograd.gradcheck(gate, z)
    assert torch.autograd.gradgradcheck(gate, z)


@pytest.mark.parametrize("carry", [False, True])
def test_the_derivatives_of_mix_match_finite_differences(carry: bool) -> None:
    tensors = torch.rand(4 if carry else 3, 5, dtype=torch.float64, generator=seeded()).unbind()
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(mix, leaves)
    assert torch.autograd.gradgradcheck(mix, leaves)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 1))
def test_a_coupled_output_lies_between_input_and_transform(x: float, h: float, t: float) -> None:
    y = mix(*(torch.tensor(value, dtype=torch.float64) for value in (x, h, t))).item()
    assert min(x, h) - 1e-14 <= y <= max(x, h) + 1e-14  # three roundings on numbers below 10


@pytest.mark.parametrize(("depth", "bias", "share"), [(10, -1.0, 0.269), (20, -2.0, 0.119), (30, -3.0, 0.047)])
def test_the_guideline_as_published(depth: int, bias: float, share: float) -> None:
    assert gate_bias_for_depth(depth) == bias
    assert TransformGate()(torch.tensor(bias)).item() == pytest.approx(share, abs=5e-4)  # three decimals given


@given(st.integers(1, 2000))
def test_the_gate_bias_falls_with_depth_within_the_searched_range(depth: int) -> None:
    assert -10 <= gate_bias_for_depth(depth + 1) <= gate_bias_for_depth(depth) <= -1


@pytest.mark.parametrize("depth", [0, -3, 2.5, True, "10"])
def test_an_invalid_depth_raises(depth: object) -> None:
    with pytest.raises(ConfigError, match=r"depth must be an integer of at least 1, got"):
        gate_bias_for_depth(depth)


def test_resolving_a_gate_bias() -> None:
    assert resolve_gate_bias("depth", 20) == -2.0
    assert resolve_gate_bias(1, 20) == 1.0
    assert resolve_gate_bias(-math.inf, 20) == -math.inf
    with pytest.raises(ConfigError, match="a number or 'depth', got 'deep'"):
        resolve_gate_bias("deep", 20)
    with pytest.raises(ConfigError, match="must be a number"):
        resolve_gate_bias(math.nan, 20)
