"""Recurrent cells written by hand, without a module of their own: chains over time steps, and gates."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import thruway as tw
from tests.diagnosing.nets import found, roots
from thruway.diagnosing.rules.through_time import ratio_over_time
from thruway.watching import Trace


class HandRNN(nn.Module):
    def __init__(self, gain: float, steps: int = 30) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.x2h, self.h2h, self.out = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.steps = steps
        nn.init.orthogonal_(self.h2h.weight, gain)
        nn.init.normal_(self.x2h.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 16)
        for _ in range(self.steps):
            h = torch.tanh(self.x2h(x) + self.h2h(h))
        return self.out(h)


class HandLSTM(nn.Module):
    """Four linear maps; `is_split` adds maps of input and state, so that gates are functions of sums."""

    def __init__(self, input_bias: float = 0.0, *, is_split: bool = False, steps: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        width = 8 if is_split else 24
        self.ff, self.ii, self.gg, self.oo = (nn.Linear(width, 16) for _ in range(4))
        self.hh, self.fc = nn.Linear(16, 64), nn.Linear(16, 4)
        self.is_split, self.steps = is_split, steps
        nn.init.constant_(self.ff.bias, 2.0)
        nn.init.constant_(self.ii.bias, input_bias)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 16)
        for _ in range(self.steps):
            if self.is_split:
                a, b, d, e = self.hh(h).chunk(4, 1)
                u, v, w, z = self.ff(x) + a, self.ii(x) + b, self.gg(x) + d, self.oo(x) + e
            else:
                both = torch.cat([x, h], 1)
                u, v, w, z = self.ff(both), self.ii(both), self.gg(both), self.oo(both)
            c = torch.sigmoid(u) * c + torch.sigmoid(v) * torch.tanh(w)
            h = torch.sigmoid(z) * torch.tanh(c)
        return self.fc(h)


def run(net: nn.Module, *, steps: int = 40, lr: float = 3e-3) -> Trace:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(32, 8, generator=generator)
    y = x[:, :4].argmax(1)
    optimizer = torch.optim.Adam(net.parameters(), lr)
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    return trace


@pytest.mark.parametrize(("gain", "rule"), [(4.0, "exploding_gradient"), (0.4, "vanishing_gradient")])
def test_the_ratio_of_a_recurrence_by_hand_is_that_of_its_time_steps(gain: float, rule: str) -> None:
    net = HandRNN(gain)
    twin = copy.deepcopy(net).double()
    outputs: list[Tensor] = []
    twin.h2h.register_forward_hook(lambda module, args, output: outputs.append(output))
    x = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
    loss = F.cross_entropy(twin(x.double()), x[:, :4].argmax(1))
    sizes = [float(g.square().mean().sqrt()) for g in torch.autograd.grad(loss, outputs)]

    finding = found(run(net, steps=2 if gain > 1 else 40, lr=1e-9))[rule]
    assert finding.sites == ("h2h",)
    assert f"{net.steps} steps" in finding.cause
    # An error of single precision in the state grows as the gradient does.
    assert finding.evidence[0].value == pytest.approx(sizes[0] / sizes[-1], rel=0.05 if gain > 1 else 1e-3)


def test_an_explosion_through_time_is_the_cause_of_steps_that_are_too_large() -> None:
    (root,) = tw.diagnose(run(HandRNN(4.0), lr=1.0))
    assert root.rule == "exploding_gradient"
    assert "lr_too_high" in [effect.rule for effect in root.effects]


def test_the_gates_of_one_time_step_are_no_time_steps() -> None:
    assert roots(run(HandLSTM(), lr=1e-7)) == ["lr_too_low"]


def test_a_chain_has_many_factors_and_zeros_of_unread_values_are_none() -> None:
    chain = 0.3 ** np.arange(20.0)[::-1, None]
    assert ratio_over_time(chain, is_cell=False)[0] == pytest.approx(19 * np.log(0.3))
    with_zero = np.concatenate([[[0.0]], chain])
    assert ratio_over_time(with_zero, is_cell=False)[0] == pytest.approx(19 * np.log(0.3))
    underflow = np.concatenate([[[0.0], [1e-44]], chain])
    assert ratio_over_time(underflow, is_cell=True)[0] == pytest.approx(np.log(1e-45))
    side_by_side = np.array([[1e-6], [1.0], [0.9], [1.1], [1.0]])
    assert ratio_over_time(side_by_side, is_cell=False)[0] == 0.0


@pytest.mark.parametrize("is_split", [False, True])
def test_one_gate_called_at_every_time_step_is_no_stack_of_layers(*, is_split: bool) -> None:
    trace = run(HandLSTM(is_split=is_split, steps=16), lr=1e-2)
    assert sum(site.is_gate for site in trace.sites) >= 16
    assert "gate_bias_not_negative" not in found(trace)
    x = torch.randn(32, 8)
    with tw.watch(net := HandLSTM(is_split=is_split, steps=16)) as trace:  # no optimizer, so no parameters
        F.cross_entropy(net(x), x[:, :4].argmax(1)).backward()
    assert "gate_bias_not_negative" not in found(trace)


@pytest.mark.parametrize(("bias", "expected"), [(-16.0, ["gates_shut"]), (0.0, [])])
def test_a_shut_gate_of_a_cell_by_hand_is_named(bias: float, expected: list[str]) -> None:
    diagnosis = tw.diagnose(run(HandLSTM(bias)))
    assert [finding.rule for finding in diagnosis] == expected
    assert all(finding.sites == ("ii",) for finding in diagnosis)
