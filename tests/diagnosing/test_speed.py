"""Time of a diagnosis of a thousand layers and two thousand steps."""

import dataclasses
import time

import torch
from torch import nn

from tests.diagnosing.nets import scaled
from thruway import watch
from thruway.diagnosing import diagnose
from thruway.watching import Trace


def long_trace(depth: int, steps: int) -> Trace:
    """Return a trace of a deep tanh net: ten recorded steps, repeated."""
    torch.manual_seed(0)
    net = nn.Sequential(*(part for _ in range(depth) for part in (nn.Linear(8, 8), nn.Tanh())), nn.Linear(8, 4))
    for module in net:
        if isinstance(module, nn.Linear):
            scaled(1.0)(module.weight)
    optimizer = torch.optim.SGD(net.parameters(), 1e-6)
    x, y = torch.randn(16, 8), torch.randint(0, 4, (16,))
    with watch(net, optimizer=optimizer) as trace:
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    recorded = trace._flushed_steps()
    trace._steps = [dataclasses.replace(recorded[step % 10], number=step) for step in range(steps)]
    return trace


def test_a_thousand_layers_and_two_thousand_steps() -> None:
    """The target is 1 s on an idle machine; the bound allows a busy one."""
    trace = long_trace(1000, 2000)
    start = time.process_time()
    diagnose(trace)
    assert time.process_time() - start < 6


def test_a_large_series_has_the_numbers_of_its_steps() -> None:
    """Arrays above 4 MiB get their memory in another way."""
    trace = long_trace(300, 2000)
    series = trace.series("std", "parameter")
    assert series.values.nbytes > 2**22
    few = long_trace(300, 10).series("std", "parameter")
    assert few.values.nbytes < 2**22
    for step in (0, 1, 31, 32, 999, 1999):
        assert (series.values[:, step] == few.values[:, step % 10]).all()
