"""A long watch stays within its memory limit, and still has the exact step of the first bad value."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from thruway.watching import Quantity, Trace, watch

STEPS = 3000
LIMIT = 20_000


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def bytes_of(trace: Trace) -> int:
    """The bytes of the kept steps, including whole buffers that a view keeps alive."""
    buffers: dict[int, int] = {}
    for step in trace._steps:
        for numbers in (step.numbers, *(m.values for m in step.arrays)):
            owner = numbers
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            buffers[id(owner)] = owner.nbytes
    return sum(buffers.values())


@pytest.fixture(scope="module")
def watched() -> tuple[Trace, list[int]]:
    net = Net()
    sizes = []
    with watch(net, memory=LIMIT, quantities=["mean", "nan", "inf"]) as trace:
        for step in range(STEPS):
            x = torch.full((2, 2), step / STEPS)
            if step == 1237:
                x[0, 1] = math.nan  # a step that is dropped later
            net(x).sum().backward()
            if step % 100 == 99:
                sizes.append(bytes_of(trace))
    return trace, sizes


def test_memory_is_flat(watched: tuple[Trace, list[int]]) -> None:
    trace, sizes = watched
    assert max(sizes) <= LIMIT
    assert min(sizes[5:]) > LIMIT / 3, "half of the steps are dropped at a time, not more"
    assert bytes_of(trace) <= LIMIT


def test_what_is_kept_is_every_so_manyth_step(watched: tuple[Trace, list[int]]) -> None:
    trace, _ = watched
    assert trace.kept_every > 1
    assert math.log2(trace.kept_every).is_integer()
    assert trace.steps == list(range(0, STEPS, trace.kept_every))
    means = trace.series("mean")
    assert means.values.shape == (len(means.sites), len(trace.steps))


def test_the_first_bad_value_is_known_to_the_step(watched: tuple[Trace, list[int]]) -> None:
    trace, _ = watched
    assert 1237 not in trace.steps
    assert trace.first_bad is not None
    assert (trace.first_bad.step, trace.first_bad.site.key, trace.first_bad.nan) == (1237, ("input", "input"), 1)


def test_changing_shapes_leave_nothing_behind() -> None:
    """Sentences of every length: memory held per shape must not grow during a run."""
    net = Net()
    with watch(net, quantities=["mean"]) as trace:
        for length in range(1, 400):
            net(torch.ones(1, length, 2)).sum().backward()
    assert len(trace.steps) == 399
    assert len(trace._layouts) < 10


def test_a_quantity_of_many_numbers_counts_in_full() -> None:
    whole = Quantity("whole", "", lambda rows: rows.flat.clone(), ("output",), numbers=64)
    net = Net()
    with watch(net, memory=LIMIT, quantities=["mean", whole]) as trace:
        for _ in range(300):
            net(torch.ones(8, 2)).sum().backward()
    assert trace.kept_every > 1
    assert bytes_of(trace) <= LIMIT
