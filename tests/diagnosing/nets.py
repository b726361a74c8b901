"""Small networks and runs for the tests of the rules about signals in the network."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import thruway as tw
from thruway.diagnosing import Diagnosis, diagnose
from thruway.watching import Trace

Init = Callable[[Tensor], Any]


def mlp(depth: int, act: Callable[[], nn.Module], init: Init | None = None, *, width: int = 48) -> nn.Sequential:
    """Return a plain network of `depth` hidden layers; layer k is module 2 k, its activation 2 k + 1."""
    torch.manual_seed(0)
    sizes = [20] + [width] * depth
    hidden = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), act())]
    net = nn.Sequential(*hidden, nn.Linear(width, 4))
    for module in net:
        if init is not None and isinstance(module, nn.Linear):
            init(module.weight)
            nn.init.zeros_(module.bias)
    return net


def he(weight: Tensor) -> None:
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


def scaled(sigma: float) -> Init:
    """Return an initialisation with standard deviation sigma / sqrt(fan_in)."""
    return lambda weight: nn.init.normal_(weight, 0.0, sigma / weight.shape[1] ** 0.5)


def batch(count: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(count, 20, generator=generator)
    return x, (x @ torch.randn(20, 4, generator=generator)).argmax(1)


def train(
    net: nn.Module, *, steps: int = 12, lr: float = 0.01, data: tuple[Tensor, Tensor] | None = None, **watch: Any
) -> Trace:
    """Train on fresh noise around one batch, watched."""
    x, y = batch() if data is None else data
    optimizer = torch.optim.SGD(net.parameters(), lr)
    watch.setdefault("optimizer", optimizer)
    with tw.watch(net, **watch) as trace:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    return trace


def found(trace: Trace) -> dict[str, Any]:
    """Return the findings of a diagnosis by rule, effects included."""
    diagnosis: Diagnosis = diagnose(trace)
    assert not [reason for reason in diagnosis.unseen.values() if "failed" in reason]
    return {finding.rule: finding for _, finding in diagnosis.every_finding()}


def roots(trace: Trace) -> list[str]:
    """Return the rules of the causes."""
    return [finding.rule for finding in diagnose(trace)]
