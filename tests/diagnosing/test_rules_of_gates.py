"""Gates that multiply the input of a layer, and gates of cells whose roles are recorded."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class Update(nn.Module):
    """A cell with one gate, which takes the new state at 1."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.update, self.new = nn.Linear(17, 12), nn.Linear(17, 12)
        nn.init.constant_(self.update.bias, bias)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        both = torch.cat([x, state[0]], 1)
        h = torch.lerp(state[0], torch.tanh(self.new(both)), torch.sigmoid(self.update(both)))
        return h, h


class Remember(nn.Module):
    """A cell with an input gate and a forget gate, and no output gate."""

    def __init__(self, takes: float, keeps: float) -> None:
        super().__init__()
        self.take, self.keep, self.new = nn.Linear(17, 12), nn.Linear(17, 12), nn.Linear(17, 12)
        nn.init.constant_(self.take.bias, takes)
        nn.init.constant_(self.keep.bias, keeps)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        both = torch.cat([x, state[0]], 1)
        old = state[1] * torch.sigmoid(self.keep(both))
        c = torch.tanh(self.new(both)) * torch.sigmoid(self.take(both)) + old
        return torch.tanh(c), c


class OverTime(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.out = cell, nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        state = (x.new_zeros(len(x), 12),) * 2
        for at in x.unbind(1):
            state = self.cell(at, state)
        return self.out(state[0])


def findings(cell: nn.Module, *, times: int, steps: int, lr: float) -> dict[str, tw.diagnosing.Finding]:
    """Train to name the first token of a sequence."""
    generator = torch.Generator().manual_seed(5)
    net = OverTime(cell)
    optimizer = torch.optim.Adam(net.parameters(), lr)
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(steps):
            tokens = torch.randint(5, (48, times), generator=generator)
            optimizer.zero_grad()
            F.cross_entropy(net(F.one_hot(tokens, 5).float()), tokens[:, 0]).backward()
            optimizer.step()
    return {finding.rule: finding for finding in tw.diagnose(trace)}


@pytest.mark.parametrize(
    ("make", "gate", "times"),
    [
        (lambda: Update(-14.0), "cell.update", 6),
        (lambda: Remember(-13.0, 1.0), "cell.take", 6),
        (lambda: Remember(0.0, -9.0), "cell.keep", 14),
    ],
)
def test_a_gate_of_a_cell_that_is_shut(make: Callable[[], nn.Module], gate: str, times: int) -> None:
    torch.manual_seed(0)
    found = findings(make(), times=times, steps=60, lr=1e-3)
    assert found["gates_shut"].sites == (gate,)
    assert found["gates_shut"].since == (None, 0)
    assert found["gates_shut"].until is None


def test_a_gate_of_a_cell_that_opens_in_the_end() -> None:
    torch.manual_seed(0)
    finding = findings(Update(-11.0), times=6, steps=200, lr=0.02)["gates_shut"]
    assert finding.sites == ("cell.update",)
    assert finding.until is not None
    assert finding.until < 190


@pytest.mark.parametrize("make", [lambda: Update(-3.0), lambda: Remember(0.0, 3.0), lambda: Remember(-2.0, 5.0)])
def test_gates_of_a_cell_that_learns(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    assert not findings(make(), times=6, steps=120, lr=0.02)
