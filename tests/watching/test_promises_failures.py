"""An error in a quantity stops watching with a warning, never the training; earlier steps are kept."""

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.watching import DEFAULT, Quantity, Rows, Trace, WatchWarning, watch

STEPS = 8


class Clock:
    step = 0


CLOCK = Clock()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x)) + F.relu(x.mean()))


def train(**options: Any) -> tuple[list[Tensor], Trace | None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = Net()
        optimizer = torch.optim.Adam(net.parameters(), 0.05)

        def loop() -> None:
            for CLOCK.step in range(STEPS):
                optimizer.zero_grad()
                net(torch.randn(5, 3)).square().mean().backward()
                optimizer.step()

        trace = None
        if options:
            given = optimizer if options.pop("gives_optimizer") else None
            with watch(net, optimizer=given, **options) as trace:
                loop()
                hooks = [m for m in net.modules() if m._forward_hooks or m._forward_pre_hooks]
                assert hooks == [] or trace.failure is None, "hooks go at the next step"
        else:
            loop()
        left = [p.detach() for p in net.parameters()] + [p.grad for p in net.parameters() if p.grad is not None]
        return [*left, torch.get_rng_state()], trace


class Breaks:
    """A measure that fails from a step on, in a given way."""

    def __init__(self, step: int, how: Callable[[Rows], Any]) -> None:
        self.step, self.how = step, how

    def __call__(self, rows: Rows) -> Tensor:
        return self.how(rows) if CLOCK.step >= self.step else rows.mean


def raises(_rows: Rows) -> Tensor:
    raise ZeroDivisionError("a mistake in a statistic")


WAYS: dict[str, Callable[[Rows], Any]] = {
    "raises": raises,
    "gives no tensor": lambda rows: None,
    "gives a number for all sites": lambda rows: rows.flat.new_zeros(()),
    "gives too many numbers": lambda rows: rows.flat.new_zeros(len(rows.flat) + 1),
}
KINDS = ("output", "gradient", "parameter", "parameter_gradient", "update")


@pytest.mark.parametrize("way", WAYS)
def test_the_training_continues_however_a_measure_fails(way: str) -> None:
    assert_training_goes_on(Breaks(3, WAYS[way]), "output", gives_optimizer=False)


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_continues_wherever_a_measure_fails(kind: str) -> None:
    assert_training_goes_on(Breaks(3, raises), kind, gives_optimizer=True)


def assert_training_goes_on(breaks: Breaks, kind: Any, *, gives_optimizer: bool) -> None:
    bad = Quantity("bad", "", breaks, (kind,))
    with pytest.warns(WatchWarning, match=r"watching stopped at step \d.*Training continues") as warned:
        state, trace = train(quantities=[*DEFAULT, bad], gives_optimizer=gives_optimizer)
    assert len(warned) == 1
    bare, _ = train()
    assert all(map(torch.equal, state, bare))
    assert trace is not None
    assert trace.failure is not None
    assert trace.steps == [0, 1, 2]


@dataclasses.dataclass
class FullDisk:
    """Somewhere to write to, until it is full."""

    room: int
    steps: list[int] = dataclasses.field(default_factory=list)

    def log_sites(self, step: int, quantity: str, sites: Any, values: Any) -> None:
        if step >= self.room:
            raise OSError("no space left on device")
        self.steps.append(step)


def test_a_full_disk_stops_watching_only() -> None:
    disk = FullDisk(3)
    with pytest.warns(WatchWarning, match="watching stopped at step 3: OSError: no space left"):
        state, trace = train(run=disk, gives_optimizer=False)
    bare, _ = train()
    assert all(map(torch.equal, state, bare))
    assert trace is not None
    assert trace.steps[:3] == sorted(set(disk.steps)) == [0, 1, 2]


def test_a_schedule_that_fails_stops_watching_only() -> None:
    with pytest.warns(WatchWarning, match="watching stopped at step 2: ZeroDivisionError"):
        state, trace = train(every=lambda step: 1 // (2 - step) >= 0, gives_optimizer=True)
    bare, _ = train()
    assert all(map(torch.equal, state, bare))
    assert trace is not None
    assert trace.steps == [0, 1]


def test_a_probe_that_does_not_fit_stops_watching_only() -> None:
    with pytest.warns(
        WatchWarning,
        match="watching stopped at step 0: ConfigError: Net cannot be called with the probe .*mat1 and mat2",
    ):
        state, trace = train(probe=torch.ones(2, 5), gives_optimizer=False)
    bare, _ = train()
    assert all(map(torch.equal, state, bare))
    assert trace is not None
    assert trace.steps == []


def test_a_failure_lets_go_of_what_was_waiting() -> None:
    """A broken watch must not keep the activations of its last step until the training is over."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    bad = Quantity("bad", "", raises, ("output",))
    with watch(net, quantities=[bad]) as trace:
        with pytest.warns(WatchWarning):
            y = net(torch.ones(2, 3))
        kept = weakref.ref(y)
        y.sum().backward()
        del y
        assert kept() is None
    assert trace.failure is not None
    assert "in raises" in trace.failure.__notes__[0]
