"""Parameters that no step changes although gradients are computed, each fault beside its nearest harmless run."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import thruway as tw
from tests.diagnosing.nets import batch, mlp
from thruway.diagnosing import Diagnosis

SGD = torch.optim.SGD


def run(net: nn.Module, optimizer: torch.optim.Optimizer, *, zero: str = "before", steps: int = 20) -> Diagnosis:
    x, y = batch()
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(steps):
            if zero == "before":
                optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            if zero != "before":
                optimizer.zero_grad(set_to_none=zero == "to None")
            optimizer.step()
    diagnosis = tw.diagnose(trace)
    assert not [why for why in diagnosis.unseen.values() if "failed" in why]
    return diagnosis


@pytest.mark.parametrize("zero", ["to None", "to 0"])
def test_gradients_set_to_zero_before_the_step(zero: str) -> None:
    net = mlp(2, nn.Tanh)
    (finding,) = run(net, SGD(net.parameters(), 0.1), zero=zero)
    assert (finding.rule, finding.sites, finding.since) == ("frozen_parameters", ("0", "2", "4"), (None, 0))
    assert "between backward() and step()" in finding.cause
    assert finding.evidence[1].value > 0  # the gradient at the output


@pytest.mark.parametrize(("factor", "expected"), [(0.0, ["frozen_parameters"]), (1e-3, [])])
def test_a_mask_that_makes_gradients_zero(factor: float, expected: list[str]) -> None:
    net = mlp(3, nn.Tanh)
    for parameter in net[2].parameters():
        parameter.register_hook(lambda gradient: gradient * factor)
    diagnosis = run(net, SGD(net.parameters(), 0.1))
    assert [finding.rule for finding in diagnosis] == expected
    assert all(finding.sites == ("2",) and "mask" in finding.cause for finding in diagnosis)


@pytest.mark.parametrize("layers", [(0, 2, 4), (4,)])
def test_a_group_without_a_learning_rate(layers: tuple[int, ...]) -> None:
    """Its gradients are computed for nothing; a backbone that is kept on purpose does not require any."""
    net = mlp(4, nn.Tanh)
    still = [p for layer in layers for p in net[layer].parameters()]
    others = [p for p in net.parameters() if not any(p is one for one in still)]
    groups = [{"params": still, "lr": 0.0}, {"params": others}]
    (finding,) = run(net, SGD(groups, 0.1))
    assert finding.rule == "frozen_parameters"
    assert finding.sites == tuple(str(layer) for layer in layers)
    assert "learning rate" in finding.cause
    assert not list(run(net, SGD(groups, 0.1), steps=5))  # perhaps the start of a warm-up
    for parameter in still:
        parameter.requires_grad_(False)
    assert (not list(run(net, SGD(others, 0.1)))) or 0 not in layers


class Cut(nn.Module):
    """Two parts with an operation between them."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.operation = operation
        self.code = nn.Sequential(nn.Linear(20, 24), nn.ELU(), nn.Linear(24, 12))
        self.decode = nn.Sequential(nn.Linear(12, 16), nn.ELU(), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.operation(self.code(x)))


@pytest.mark.parametrize("operation", [torch.sign, torch.floor, lambda x: (x > 0) + 0.0 * x])
def test_an_operation_whose_derivative_is_zero(operation: Callable[[Tensor], Tensor]) -> None:
    net = Cut(operation)
    (finding,) = run(net, SGD(net.parameters(), 0.1))
    assert (finding.rule, finding.sites, finding.since) == ("frozen_parameters", ("code.0", "code.2"), (None, 0))
    assert "between code.2 and " in finding.cause


@pytest.mark.parametrize("operation", [lambda x: x + (torch.sign(x) - x).detach(), lambda x: 1e-3 * x])
def test_a_gradient_that_passes(operation: Callable[[Tensor], Tensor]) -> None:
    net = Cut(operation)
    assert "frozen_parameters" not in [f.rule for f in run(net, SGD(net.parameters(), 0.1))]


def test_a_head_that_starts_at_zero_and_a_dead_relu() -> None:
    net = Cut(torch.tanh)
    nn.init.zeros_(net.decode[2].weight)  # no gradient passes it at the first step
    assert "frozen_parameters" not in [f.rule for f in run(net, SGD(net.parameters(), 0.1))]
    net = Cut(torch.relu)
    nn.init.constant_(net.code[2].bias, -99.0)
    assert "frozen_parameters" not in [f.rule for f in run(net, SGD(net.parameters(), 0.1))]


class Listed(nn.Module):
    def __init__(self, *, is_registered: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Linear(20, 16), nn.Linear(16, 16)]
        self.layers = nn.ModuleList(layers) if is_registered else layers
        self.out = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.elu(layer(x))
        return self.out(x)


class Functional(nn.Module):
    """A linear map of its own, by a function and a parameter of the module."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(16, 20) / 20**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


def test_layers_in_a_python_list_are_no_parameters() -> None:
    net = Listed(is_registered=False)
    (finding,) = run(net, SGD(net.parameters(), 0.01))
    assert (finding.rule, finding.sites) == ("frozen_parameters", ("linear", "linear_2"))
    for healthy in (Listed(is_registered=True), nn.Sequential(Functional(), nn.Tanh(), nn.Linear(16, 4))):
        assert not list(run(healthy, SGD(healthy.parameters(), 0.01)))


class Distilled(nn.Module):
    """A network and a target that follows it, which is a copy of it or has weights of its own."""

    def __init__(self, *, is_copy: bool) -> None:
        super().__init__()
        self.net, self.target = mlp(2, nn.Tanh, width=16), mlp(2, nn.Tanh, width=24)
        if is_copy:
            self.target = copy.deepcopy(self.net)
        self.target.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + 0.1 * self.target(x)


class Average(SGD):
    """SGD after which the target moves."""

    target: list[nn.Parameter]

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step(closure)
        with torch.no_grad():
            for parameter in self.target:
                parameter.mul_(0.99)


@pytest.mark.parametrize("is_copy", [True, False])
@pytest.mark.parametrize("moves", [True, False])
def test_a_frozen_part_in_the_optimizer(*, is_copy: bool, moves: bool) -> None:
    """A copy is a target on purpose, and so is what changes without gradients."""
    net = Distilled(is_copy=is_copy)
    optimizer = Average(net.parameters(), 0.1)
    optimizer.target = list(net.target.parameters()) if moves else []
    found = [(f.rule, f.sites) for f in run(net, optimizer)]
    sites = ("target.0", "target.2", "target.4")
    assert found == ([] if is_copy or moves else [("frozen_parameters", sites)])


@pytest.mark.parametrize(("at", "expected"), [(15, True), (35, False)])
def test_layers_frozen_in_the_middle_of_a_run(at: int, *, expected: bool) -> None:
    """Layers that were learning; at the end of the trace there is nothing to see."""
    net = mlp(2, nn.Tanh)
    optimizer = SGD(net.parameters(), 0.02)
    step = 0

    def freeze(_module: nn.Module, _inputs: object) -> None:
        nonlocal step
        net[2].requires_grad_(requires_grad=step < at)
        step += 1

    net.register_forward_pre_hook(freeze)
    found = [f for f in run(net, optimizer, steps=40) if f.rule == "frozen_parameters"]
    assert [(f.sites, f.since) for f in found] == ([(("2",), (at - 1, at))] if expected else [])
