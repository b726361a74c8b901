"""Adds that are no residual adds, and a HighwayStack beside the layers it stands for."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thruway.nn import HighwayStack
from thruway.watching import watch

PLAIN: dict[str, Callable[[Tensor], Any]] = {
    "a constant": lambda h: h + 1,
    "a number's tensor": lambda h: h + torch.tensor(1.0),
    "a constant of the same shape": lambda h: h + torch.ones_like(h),
    "a mask": lambda h: h + torch.where(torch.arange(4) > 1, -1.0, 0.0).expand_as(h),
    "itself": lambda h: h + h,
    "itself without weights between": lambda h: h + h.tanh(),
}


@pytest.mark.parametrize("name", PLAIN)
def test_an_add_that_joins_no_branch_is_no_residual_add(name: str) -> None:
    """The alarm that there is none is seen to work in the table above."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(PLAIN[name](self.layer(x)))

    net = Net()
    with watch(net) as trace:
        net(torch.ones(3, 4)).sum().backward()
    assert len(trace.series("mean").names) >= 2
    assert trace.branches == {}


def test_a_blend_whose_gate_comes_first_is_no_residual_add() -> None:
    """Both sides descend from the gate, and weights lie between it and H."""

    class GateFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.plain = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            t = torch.sigmoid(self.gate(x))
            h = torch.relu(self.plain(x))
            return h * t + x * (1 - t)

    net = nn.Sequential(GateFirst(), GateFirst())
    with watch(net) as trace:
        net(torch.ones(3, 4)).sum().backward()
    assert trace.branches == {}
    assert [site.name for site in trace.sites if site.is_gate] == ["0.sigmoid", "1.sigmoid"]


def test_a_stack_tells_the_numbers_of_its_layers(fingerprint: Any) -> None:
    stack = HighwayStack(4, 5, gate_bias=-0.5, generator=torch.Generator().manual_seed(3)).double()
    layers = stack.to_layers()
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    heard = []
    for model in (nn.Sequential(stack), nn.Sequential(layers)):
        with watch(model, quantities=[fingerprint, "zeros", "input_dependence"]) as trace:
            for _ in range(2):
                model(x).sin().sum().backward()
        heard.append(trace)
    ours, twins = heard
    for kind in ("output", "gradient"):
        fused, single = ours.series("fingerprint", kind), twins.series("fingerprint", kind)
        common = [name for name in single.names if name in fused.names]
        parts = (".activation", ".transform_gate", "") if kind == "output" else ("",)
        assert set(common) >= {f"0.{layer}{part}" for layer in range(4) for part in parts}
        for name in common:
            expected = single.values[single.names.index(name)]
            # float64, the same sums in another order
            assert fused.values[fused.names.index(name)] == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert {s.name for s in ours.sites if s.is_gate} == {f"0.{layer}.transform_gate" for layer in range(5)}
