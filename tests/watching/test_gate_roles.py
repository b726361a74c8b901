"""Which operand of a blend a gate multiplies: the older signal or the one that was computed from it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from thruway.watching import Trace, watch

BLENDS = {
    "c * x + (1 - c) * h": (lambda c, x, h: c * x + (1 - c) * h, "carry"),
    "h + c * (x - h)": (lambda c, x, h: h + c * (x - h), "carry"),
    "(ones - c) * h + x * c": (lambda c, x, h: (torch.ones_like(c) - c) * h + x * c, "carry"),
    "lerp(h, x, c)": (lambda c, x, h: torch.lerp(h, x, c), "carry"),
    "t * h + (1 - t) * x": (lambda t, x, h: t * h + (1 - t) * x, "transform"),
    "x + t * (h - x)": (lambda t, x, h: x + t * (h - x), "transform"),
    "(1 - t) * x in place + t * h": (lambda t, x, h: (1 - t).mul(x).add_(t * h), "transform"),
    "(-t + 1) * x + h * t": (lambda t, x, h: (-t + 1) * x + h * t, "transform"),
    "lerp(x, h, t)": (lambda t, x, h: torch.lerp(x, h, t), "transform"),
    "x + t * h": (lambda t, x, h: x + t * h, None),
    "t * h": (lambda t, x, h: t * h, None),
}


class Layer(nn.Module):
    def __init__(self, blend: str) -> None:
        super().__init__()
        self.h, self.g, self.blend = nn.Linear(4, 4), nn.Linear(4, 4), blend

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.g(x))
        return BLENDS[self.blend][0](gate, x, torch.tanh(self.h(x)))


def roles(net: nn.Module, x: Tensor, folder: Path) -> dict[str, str | None]:
    with watch(net) as trace:
        net(x).sum().backward()
    trace.save(folder / "trace.npz")
    loaded = {site.name: site.gate_role for site in Trace.load(folder / "trace.npz").sites if site.is_gate}
    assert loaded == {site.name: site.gate_role for site in trace.sites if site.is_gate}
    return loaded


@pytest.mark.parametrize("blend", BLENDS)
def test_the_operand_that_a_gate_multiplies(blend: str, tmp_path: Path) -> None:
    expected = BLENDS[blend][1]
    found = roles(nn.Sequential(Layer(blend), Layer(blend)), torch.randn(3, 4), tmp_path)
    assert found == {"0.g.sigmoid": expected, "1.g.sigmoid": expected}


class LSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f, self.i, self.o, self.g = (nn.Linear(6, 3) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 3)
        for at in x.unbind(1):
            z = torch.cat([at, h], 1)
            c = self.f(z).sigmoid() * c + self.i(z).sigmoid() * self.g(z).tanh()
            h = self.o(z).sigmoid() * c.tanh()
        return h


def test_each_gate_of_an_lstm_has_a_product_of_its_own(tmp_path: Path) -> None:
    found = roles(LSTM(), torch.randn(2, 5, 3), tmp_path)
    assert {name[0]: role for name, role in found.items() if "#4" in name} == {"f": "forget", "i": "input", "o": None}
