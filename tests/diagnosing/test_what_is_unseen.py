"""Symptoms that a trace cannot show are listed as unseen, and every cure has a source."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thruway as tw
from thruway.diagnosing import CURES, RULES, rules
from thruway.diagnosing.rules.advice import ADVICE


def trained(steps, lr=1e-7, first_step=0, optimizer=torch.optim.SGD, scale=1.0, **options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    x, y = scale * torch.randn(64, 8), torch.randint(0, 4, (64,))
    updates = optimizer(net.parameters(), lr, **options)
    with tw.watch(net, optimizer=updates, first_step=first_step) as trace:
        for _ in range(steps):

            def closure():
                updates.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                return loss

            updates.step(closure)
    return trace


@pytest.mark.parametrize("steps", [1, 3, 10, 19])
def test_a_rate_that_is_too_low_is_found_or_listed(steps):
    unseen = tw.diagnose(trained(steps)).unseen
    assert "lr_too_low" in unseen
    found = tw.diagnose(trained(20))
    assert [each.rule for each in found] == ["lr_too_low"]
    assert "lr_too_low" not in found.unseen


def test_a_resumed_trace_cannot_show_how_training_began():
    unseen = tw.diagnose(trained(25, first_step=100)).unseen
    for rule in ("lr_too_low", "poor_init"):
        assert unseen[rule] == "needs the first step of training, and the trace begins at step 100."


def test_one_step_shows_no_unit_that_dies():
    assert "dying_relu" in tw.diagnose(trained(1)).unseen
    assert "dying_relu" not in tw.diagnose(trained(3)).unseen


def test_the_rate_of_lbfgs_is_no_step_size():
    fast = trained(12, 100.0)
    assert "lr_too_high" in [each.rule for each in tw.diagnose(fast)]
    fast.optimizer = "LBFGS"
    assert "lr_too_high" not in [each.rule for _, each in tw.diagnose(fast).every_finding()]
    usual = trained(12, 1.0, optimizer=torch.optim.LBFGS, line_search_fn="strong_wolfe")
    assert usual.optimizer == "LBFGS"
    assert tw.diagnose(usual).healthy


def test_inputs_whose_first_loss_is_infinite_are_unscaled():
    found = tw.diagnose(trained(5, 0.1, scale=1e38))
    assert "unscaled_input" in [each.rule for _, each in found.every_finding()]


def test_every_cure_has_a_source():
    assert all(cure.source for cure in (*CURES.values(), *ADVICE.values()))
    made = {
        path.name
        for path in Path(rules.__file__).parent.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Cure"
    }
    assert made == {"advice.py"}
    assert set(RULES) == set(tw.diagnosing.SYMPTOMS)
