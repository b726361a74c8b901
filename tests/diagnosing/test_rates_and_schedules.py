"""Learning rates that a schedule, a warm-up or the scale of the loss makes too low, and their harmless neighbours."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR

import thruway as tw
from tests.diagnosing.made_traces import made_trace
from thruway.diagnosing import Diagnosis
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.long_warmup import steps_of_warmup
from thruway.diagnosing.rules.loss_scale import loss_scale

Loss = Callable[[Tensor, Tensor], Tensor]


def run(
    rate: float,
    schedule: Callable[[int], float] | None = None,
    loss: Loss = F.cross_entropy,
    steps: int = 60,
    noise: float = 0.5,
) -> Diagnosis:
    """Train a network of two layers on six noisy classes; a noise of infinity leaves random labels."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(12, 30), nn.SiLU(), nn.Linear(30, 6))
    optimizer = torch.optim.RMSprop(net.parameters(), rate)
    scheduler = None if schedule is None else LambdaLR(optimizer, schedule)
    centres = torch.randn(6, 12)
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(steps):
            y = torch.randint(0, 6, (50,))
            x = torch.randn(50, 12) if noise == float("inf") else centres[y] + noise * torch.randn(50, 12)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
    diagnosis = tw.diagnose(trace)
    assert not [why for why in diagnosis.unseen.values() if "failed" in why]
    return diagnosis


def test_a_rate_that_is_halved_in_every_step() -> None:
    (finding,) = run(4e-4, lambda step: 0.5**step)
    assert finding.rule == "lr_too_low"
    assert finding.since == (9, 10)  # 2^-10 is the first power below a thousandth
    assert "schedule" in finding.cause
    assert "scheduler.step()" in finding.cures[0].text


def test_schedules_that_end_when_the_network_has_learnt() -> None:
    assert not list(run(0.01, lambda step: (1 - step / 60) ** 2))
    assert not list(run(0.02, lambda step: 0.6**step, steps=80))


def test_a_short_schedule_without_anything_to_learn() -> None:
    """Labels that have nothing to do with the inputs: the steps were long enough, and the loss cannot fall."""
    rules = [f.rule for f in run(0.01, lambda step: float(step < 15), noise=float("inf"))]
    assert "lr_too_low" not in rules


def test_a_warmup_that_takes_too_long() -> None:
    (finding,) = run(1e-3, lambda step: (step + 1) / 1e6)
    assert (finding.rule, finding.since) == ("lr_too_low", (None, 0))
    assert "still rises" in finding.cause
    assert [cure.name for cure in finding.cures] == ["shorten_warmup"]
    assert not list(run(1e-3, lambda step: min(1.0, (step + 1) / 4e3)))


def test_the_length_of_a_warmup() -> None:
    """At 1e-6 more of the update ratio in each step, 2e-3 is reached at step 1,999; a faster rise has no length."""
    linear, quadratic = ([(k + 1.0) ** power for k in range(40)] for power in (1, 2))
    for rates, expected in ((linear, 1999.0), (quadratic, None), ([1.0] * 40, None)):
        reading = Reading(made_trace({("step", "learning_rate"): {"group.0": rates}}))
        found = steps_of_warmup(reading, 40e-6)
        assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("scale", [1e-4, 0.02])
def test_a_loss_that_is_scaled_down(scale: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 5))
    optimizer = torch.optim.SGD(net.parameters(), 0.1 if scale < 1e-3 else 1e-4)
    x, y = torch.randn(40, 8), torch.arange(40) % 5
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(30):
            optimizer.zero_grad()
            (F.cross_entropy(net(x), y) * scale).backward()
            optimizer.step()
    assert loss_scale(Reading(trace)) == pytest.approx(scale, rel=0.1)
    (finding,) = tw.diagnose(trace)
    assert finding.rule == "lr_too_low"
    assert "times the mean over the examples" in finding.cause
    assert finding.cures[0].name == "unscale_loss"


@pytest.mark.parametrize("classes", [2, 5])
def test_a_scaled_loss_of_a_network_that_has_learnt(classes: int) -> None:
    """It need not fall: the loss divided by its factor is far below that of a constant guess."""
    torch.manual_seed(0)
    net = nn.Linear(classes, classes)
    with torch.no_grad():
        net.weight.copy_(5.0 * torch.eye(classes))
        net.bias.zero_()
    optimizer = torch.optim.SGD(net.parameters(), 1e-4)
    y = torch.arange(40) % classes
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(30):
            optimizer.zero_grad()
            (F.cross_entropy(net(F.one_hot(y, classes).float()), y) * 1e-3).backward()
            optimizer.step()
    assert "lr_too_low" not in [f.rule for f in tw.diagnose(trace)]


def test_a_schedule_of_pytorch() -> None:
    """ExponentialLR, made for epochs and called for every batch."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 1))
    optimizer = torch.optim.SGD(net.parameters(), 2e-3)
    scheduler = ExponentialLR(optimizer, 0.4)
    x = torch.randn(64, 6)
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(50):
            optimizer.zero_grad()
            F.mse_loss(net(x), x.sum(1, keepdim=True)).backward()
            optimizer.step()
            scheduler.step()
    (finding,) = tw.diagnose(trace)
    assert (finding.rule, finding.since) == ("lr_too_low", (7, 8))
