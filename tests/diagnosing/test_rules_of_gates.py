"""Gates that multiply the input of a layer, and gates of cells whose roles are recorded."""

import pytest
import torch
from torch import Tensor, nn

import thruway as tw
from tests.diagnosing.nets import found, train


class Carrying(nn.Module):
    """A highway layer whose gate is 1 where the input passes."""

    def __init__(self, width: int, bias: float) -> None:
        super().__init__()
        self.new, self.keep = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.constant_(self.keep.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        new = torch.relu(self.new(x))
        return new + torch.sigmoid(self.keep(x)) * (x - new)


@pytest.mark.parametrize(
    ("depth", "bias", "rules"),
    [
        (24, 3.0, set()),
        (10, 1.0, set()),
        (8, 16.0, {"gates_shut"}),
        (24, -5.0, {"gate_bias_not_negative", "gates_open"}),
        (24, 0.0, {"gate_bias_not_negative"}),
    ],
)
def test_a_gate_that_multiplies_the_input(depth: int, bias: float, rules: set[str]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 16), *(Carrying(16, bias) for _ in range(depth)), nn.Linear(16, 4))
    trace = train(net)
    assert {name for name in found(trace) if name.startswith("gate")} == rules
    for finding in tw.diagnose(trace):
        if finding.rule.startswith("gate"):
            assert "carry gates" in finding.cause
            assert ("near 1" in finding.cause) == (bias > 3)
