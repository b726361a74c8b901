"""Watching changes no bit of a training run."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.nn import HighwayStack, RecurrentHighway
from thruway.watching import Quantity, Trace, watch

STEPS = 50


class Everything(nn.Module):
    """Dropout, BatchNorm, ReLU in place, x += skip, highway layers of two kinds and functional activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.branch = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout(0.3, inplace=True)
        self.stack = HighwayStack(4, 3)
        self.recurrent = RecurrentHighway(4, 4, 3, dropout=0.2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.stem(x)
        x = F.leaky_relu(self.branch(skip))
        x += skip
        x = self.drop(F.relu_(x).mean((2, 3)))
        x = x + 0.01 * torch.randn_like(x)  # in evaluation too
        x = self.recurrent(self.stack(x).view(-1, 2, 4))[0].reshape(-1, 4)  # of 8 pictures, 2 sequences of 4 steps
        return self.head(F.dropout(torch.tanh(x), 0.1, self.training))


Optimizer = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, weight_decay=1e-3),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.01),
    "adam, one call": lambda parameters: torch.optim.Adam(parameters, 0.01, fused=True),
    "foreach": lambda parameters: torch.optim.AdamW(parameters, 0.01, foreach=True),
}


@dataclasses.dataclass
class Ran:
    """Everything a run leaves behind, and every loss on the way."""

    tensors: dict[str, Tensor]
    losses: list[float]
    trace: Trace | None = None


def train(optimizer: Optimizer, options: dict[str, Any] | None, *, gives_optimizer: bool = False) -> Ran:
    """50 steps, with the global generator in use for data and dropout, as most loops do."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = Everything()
        steps = optimizer(model.parameters())

        def loop() -> list[float]:
            losses = []
            for _ in range(STEPS):
                steps.zero_grad()
                loss = F.cross_entropy(model(torch.randn(8, 1, 6, 6)), torch.randint(3, (8,)))
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                steps.step()
                losses.append(loss.item())
            return losses

        if options is None:
            trace, losses = None, loop()
        else:
            with watch(model, optimizer=steps if gives_optimizer else None, **options) as trace:
                losses = loop()
        tensors = {f"state {name}": t.clone() for name, t in model.state_dict().items()}
        tensors |= {f"gradient {n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        for index, state in enumerate(steps.state.values()):
            tensors |= {f"optimizer {index} {n}": t.clone() for n, t in state.items() if isinstance(t, Tensor)}
        tensors["random numbers"] = torch.get_rng_state()
        modes = torch.tensor([module.training for module in model.modules()])
        return Ran(tensors | {"training modes": modes}, losses, trace)


WAYS: dict[str, dict[str, Any]] = {
    "every step": {},
    "every 7th": {"every": 7},
    "by a function": {"every": lambda step: step in (0, 1, 5, 6, 7, 49)},
    "with a probe": {"probe": torch.ones(4, 1, 6, 6), "every": 3},
}


@pytest.mark.parametrize(
    ("optimizer", "way", "gives_optimizer"),
    [
        ("sgd", "every step", False),
        ("adam", "every step", False),
        ("sgd", "every step", True),
        ("adam, one call", "every step", True),
        ("foreach", "every step", True),
        ("sgd", "every 7th", False),
        ("adam", "every 7th", True),
        ("sgd", "by a function", True),
        ("sgd", "with a probe", False),
        ("adam", "with a probe", True),
    ],
)
def test_not_one_bit_is_changed(optimizer: str, way: str, gives_optimizer: bool) -> None:
    options = WAYS[way]
    watched = train(OPTIMIZERS[optimizer], options, gives_optimizer=gives_optimizer)
    assert differences(watched, bare(optimizer)) == []
    assert watched.trace is not None
    is_sampled = options.get("every", 1)
    wanted = [s for s in range(STEPS) if (is_sampled(s) if callable(is_sampled) else s % is_sampled == 0)]
    assert watched.trace.steps == wanted
    assert watched.trace.failure is None
    if "probe" in options:
        assert watched.trace.probe is not None
        assert watched.trace.probe.steps == wanted


def test_one_random_number_more_would_be_noticed() -> None:
    """The alarm works: a quantity that draws from the global generator changes losses, gradients and weights."""
    draws = Quantity("draws", "", lambda rows: rows.mean * torch.rand(()))
    watched = train(OPTIMIZERS["sgd"], {"quantities": [draws], "every": 49})
    assert {"losses", "state head.weight", "gradient head.weight", "random numbers"} <= set(
        differences(watched, bare("sgd"))
    )


@functools.cache
def bare(optimizer: str) -> Ran:
    return train(OPTIMIZERS[optimizer], None)


def differences(one: Ran, other: Ran) -> list[str]:
    """The names of the entries that are not equal bit for bit."""
    assert one.tensors.keys() == other.tensors.keys()
    unequal = [name for name, tensor in one.tensors.items() if not torch.equal(tensor, other.tensors[name])]
    return unequal + ["losses"] * (one.losses != other.losses)
