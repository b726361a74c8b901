"""Every parameter of the model is in the trace, with its state: frozen, forgotten, without gradient, not zeroed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from thruway.watching import ParameterState, Trace, watch

TRAINABLE, OPTIMIZED, HAS_GRADIENT, STALE = ParameterState
TRAINED = TRAINABLE | OPTIMIZED | HAS_GRADIENT


class Net(nn.Module):
    """A frozen layer, one whose output is detached, one that is not called, a tied weight, and a whole number."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.detached, self.unused = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.first, self.second, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.second.weight = self.first.weight
        self.frozen.requires_grad_(False)
        self.count = nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)
        self.lazy = nn.LazyLinear(4)  # never called, so its parameters have no shape

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.frozen(x)) + self.detached(x).detach()
        y: Tensor = self.head(self.second(torch.tanh(self.first(x))))
        return y


def states(trace: Trace) -> dict[str, list[int]]:
    series = trace.series("state")
    assert series.kind == "parameter"
    assert trace.failure is None
    return {n: [int(v) for v in row] for n, row in zip(series.names, series.values, strict=True)}


def train(zero: Callable[[Any, Any], None], steps: int = 3, *, when: str = "before", every: int = 1) -> Trace:
    net = Net()
    wanted = [p for name, p in net.named_parameters() if not name.startswith(("head", "lazy"))]  # the head is forgotten
    optimizer = torch.optim.SGD([p for p in wanted if p.is_floating_point()], 0.1)
    with watch(net, every, optimizer=optimizer) as trace:
        for step in range(steps):
            if when == "before":
                zero(net, optimizer)
            loss = net(torch.randn(4, 3, generator=torch.Generator().manual_seed(step))).square().mean()
            if when == "after the forward pass":
                zero(net, optimizer)
            loss.backward()
            optimizer.step()
            if when == "after":
                zero(net, optimizer)
    return trace


def by_data(net: Any, _optimizer: Any) -> None:
    for parameter in net.parameters():
        if parameter.grad is not None:
            parameter.grad.data.zero_()


ZEROING: dict[str, Callable[[Any, Any], None]] = {
    "model": lambda net, _: net.zero_grad(),
    "in place": lambda net, _: net.zero_grad(set_to_none=False),
    "by data": by_data,
}


@pytest.mark.parametrize("when", ["before", "after the forward pass", "after"])
@pytest.mark.parametrize("zeroing", ZEROING)
def test_every_parameter_has_its_state(zeroing: str, when: str) -> None:
    found = states(train(ZEROING[zeroing], when=when))
    expected = {
        "frozen": OPTIMIZED,
        "detached": TRAINABLE | OPTIMIZED,
        "unused": TRAINABLE | OPTIMIZED,
        "first": TRAINED,
        "second": TRAINED,
        "head": TRAINABLE | HAS_GRADIENT,
    }
    names = [f"{layer}.{part}" for layer in expected for part in ("weight", "bias")]
    names.remove("second.weight")  # tied: one parameter
    assert found == {name: [int(expected[name.partition(".")[0]])] * 3 for name in names}


def test_gradients_that_are_not_zeroed_are_stale_from_the_second_step_on() -> None:
    found = states(train(lambda *_: None))
    assert found["first.weight"] == [TRAINED, TRAINED | STALE, TRAINED | STALE]
    assert found["head.weight"][1:] == [TRAINABLE | HAS_GRADIENT | STALE] * 2
    assert found["frozen.weight"] == [OPTIMIZED] * 3
    seldom = states(train(lambda *_: None, 5, every=2))
    assert seldom["first.weight"] == [TRAINED, TRAINED | STALE, TRAINED | STALE]


def test_an_optimizer_zeroes_only_its_own() -> None:
    found = states(train(lambda _, optimizer: optimizer.zero_grad()))
    assert found["first.weight"] == [TRAINED] * 3
    assert found["head.weight"] == [5, 13, 13]


def test_micro_batches_are_not_stale() -> None:
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with watch(net, optimizer=optimizer) as trace:
        for _ in range(3):
            optimizer.zero_grad()
            for _ in range(2):
                net(torch.ones(2, 3)).sum().backward()
            optimizer.step()
    assert states(trace) == {"weight": [TRAINED] * 3, "bias": [TRAINED] * 3}


def test_a_critic_whose_gradients_come_from_the_generator_is_not_stale() -> None:
    """It is zeroed before its own losses, after the generator's loss has gone through it."""
    net, before = nn.Linear(3, 1), nn.Linear(3, 3)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with watch(net, optimizer=optimizer) as trace:
        for _ in range(3):
            net.zero_grad()
            net(torch.ones(2, 3)).sum().backward()
            optimizer.step()
            net(before(torch.ones(2, 3))).sum().backward()
    assert states(trace)["weight"] == [TRAINED] * 3


def test_parameters_without_an_update_are_measured_once() -> None:
    trace = train(ZEROING["model"])
    series = trace.series("norm", "parameter")
    measured = dict(zip(series.names, np.isfinite(series.values).sum(1).tolist(), strict=True))
    assert measured == {
        **{f"{layer}.{part}": 1 for layer in ("detached", "unused") for part in ("weight", "bias")},
        # Those frozen in the optimizer may be averages of other weights: they are measured again at 1, 2, 4, 8 ...
        **dict.fromkeys(("frozen.weight", "frozen.bias"), 3),
        # The head has a gradient, and another optimizer may update it.
        **dict.fromkeys(("head.weight", "head.bias"), 3),
        **dict.fromkeys(("first.weight", "first.bias", "second.bias"), 3),
    }
    assert set(trace.series("update_ratio").names) == {"first.weight", "first.bias", "second.bias"}


def test_the_numbers_of_a_frozen_parameter_are_its_own() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)).double()
    net[0].requires_grad_(False)
    optimizer = torch.optim.SGD(net[1].parameters(), 0.1)
    with watch(net, optimizer=optimizer) as trace:
        net(torch.ones(2, 3).double()).sum().backward()
        optimizer.step()
    series = trace.series("norm", "parameter")
    weight = net[0].weight.detach()
    assert series.names == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert series.values[0, 0] == pytest.approx(weight.norm().item(), rel=1e-12)
    assert trace.series("mean", "parameter").values[0, 0] == pytest.approx(weight.mean().item(), rel=1e-12)
    assert {site.shape for site in trace.sites if site.name == "0.weight"} == {(3, 3)}


def test_a_parameter_that_gets_a_gradient_later_is_measured_from_then_on() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    net[0].requires_grad_(False)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with watch(net, optimizer=optimizer) as trace:
        for step in range(6):
            net[0].requires_grad_(step >= 4)
            optimizer.zero_grad()
            net(torch.ones(2, 3)).sum().backward()
            optimizer.step()
    assert states(trace)["0.weight"] == [OPTIMIZED] * 4 + [TRAINED] * 2
    assert np.isfinite(trace.series("norm", "parameter").values[0]).tolist() == [True, True, True, False, True, True]


def test_sparse_gradients_do_no_harm() -> None:
    net = nn.Sequential(nn.Embedding(10, 3, sparse=True), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    norms = []
    with watch(net, optimizer=optimizer) as trace:
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.tensor([[1, 2, 2], [3, 1, 2]])).square().sum().backward()
            gradients = [p.grad.to_dense().double() for p in net.parameters() if p.grad is not None]
            norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())
            optimizer.step()
    assert states(trace)["0.weight"] == [TRAINED] * 3
    np.testing.assert_allclose(trace.series("gradient_norm").values[0], norms, 1e-6)  # single precision


def test_without_an_optimizer_there_are_only_losses() -> None:
    net = Net()
    with watch(net) as trace:
        net(torch.ones(2, 3)).sum().backward()
    assert {site.kind for site in trace.sites} == {"input", "output", "gradient", "step"}
    assert trace.quantities("step") == ["loss"]
    assert trace.optimizer == ""


def test_sharded_parameters_have_states_and_no_numbers() -> None:
    """A DTensor is in several processes: reading it would be communication."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        fully_shard(net, mesh=dist.init_device_mesh("cpu", (1,)))
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        with watch(net, optimizer=optimizer) as trace:
            for _ in range(2):
                optimizer.zero_grad()
                net(torch.ones(2, 3)).sum().backward()
                nn.utils.clip_grad_norm_(net.parameters(), 0.1)
                optimizer.step()
    finally:
        dist.destroy_process_group()
    assert states(trace) == {name: [TRAINED] * 2 for name in ("0.weight", "0.bias", "2.weight", "2.bias")}
    assert trace.quantities("step") == ["loss", "learning_rate"]
