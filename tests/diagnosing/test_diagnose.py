"""The entry: traces, models before training, losses, rules of one's own, and what is refused."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thruway as tw
from thruway.diagnosing import RULES, Finding, Rule
from thruway.diagnosing.reading import Reading, Values
from thruway.errors import ConfigError


def mlp(*last):
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4), *last)


def batch(size=32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, 12, generator=generator), torch.randint(0, 4, (size,), generator=generator)


def trained(net, steps=12, lr=0.1, **options):
    optimizer = torch.optim.SGD(net.parameters(), lr)
    losses = []
    with tw.watch(net, **{"optimizer": optimizer, **options}) as trace:
        for _ in range(steps):
            optimizer.zero_grad()
            x, y = batch()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return trace, losses


def test_the_rms_of_a_trace_without_sites_is_empty(monkeypatch):
    reading = Reading(trained(mlp(), steps=2)[0])
    monkeypatch.setattr(reading, "values", lambda quantity, kind: Values((), np.empty((0, 2))))
    assert reading.rms().values.shape == (0, 2)


# Before training


def test_a_healthy_model_has_no_finding_before_training():
    diagnosis = tw.diagnose(mlp(), batch(), F.cross_entropy)
    assert diagnosis.healthy, str(diagnosis)
    assert {"lr_too_low", "gradients_accumulate", "diverging", "lr_too_high"} <= set(diagnosis.unseen)
    assert "steps" in diagnosis.unseen["lr_too_low"]


def test_a_model_is_not_changed_by_its_diagnosis():
    net = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 4)).eval()
    net(batch()[0]).sum().backward()
    state = copy.deepcopy(net.state_dict())
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    tw.diagnose(net, batch(), F.cross_entropy)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()
    assert not net.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("net", "rule"),
    [
        (mlp(nn.Softmax(dim=1)), {"double_softmax"}),
        (mlp(), {"constant_output", "symmetric_init"}),
        (mlp(), {"nan_or_inf"}),
    ],
    ids=["softmax", "zero weights", "nan weight"],
)
def test_faults_are_found_before_training(net, rule):
    if "constant_output" in rule:
        for parameter in net.parameters():
            nn.init.zeros_(parameter)
    if rule == {"nan_or_inf"}:
        with torch.no_grad():
            net[2].weight[0, 0] = float("nan")
    (found,) = tw.diagnose(net, batch(), F.cross_entropy)
    assert found.rule in rule


def test_a_model_may_return_its_loss():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(nn.Softmax(dim=1))

        def forward(self, x, y):
            return {"loss": F.cross_entropy(self.body(x), y)}

    x, y = batch()
    for given in ({"x": x, "y": y}, (x, y)):
        assert [finding.rule for finding in tw.diagnose(Model(), given)] == ["double_softmax"]


def test_a_trace_of_no_update_accuses_no_learning_rate():
    diagnosis = tw.diagnose(mlp(), batch(), lambda out, y: 1e6 * F.cross_entropy(out, y))
    assert not {"lr_too_high", "lr_too_low"} & {finding.rule for _, finding in diagnosis.every_finding()}


def test_what_is_no_batch_or_loss_is_refused():
    net, (x, y) = mlp(), batch()
    frozen = mlp().requires_grad_(False)
    for arguments, message in (
        ((net,), "pass a batch"),
        ((net, x, F.cross_entropy), "pair of inputs and targets"),
        ((net, (x, y), 3), "function of"),
        ((net, x), "not a 0-d loss"),
        ((net, (x, y), lambda out, y: out), "not a 0-d loss"),
        ((frozen, (x, y), F.cross_entropy), "requires a gradient"),
        (("trace",), "takes a Trace or a model, got str"),
    ):
        with pytest.raises(ConfigError, match=message):
            tw.diagnose(*arguments)
    with pytest.raises(ConfigError, match="belong to a trace"):
        tw.diagnose(net, (x, y), F.cross_entropy, losses=[1.0])


# Traces


def test_an_empty_trace_is_refused():
    with pytest.warns(UserWarning, match="nothing was recorded"), tw.watch(mlp()) as trace:
        pass
    with pytest.raises(ConfigError, match="the trace is empty"):
        tw.diagnose(trace)


def test_losses_may_be_passed_for_recorded_steps_or_for_all():
    trace, losses = trained(mlp(), 40, every=10)
    assert len(trace.steps) == 4
    for given in (losses, losses[::10]):
        assert tw.diagnose(trace, losses=given).healthy
    with pytest.raises(ConfigError, match="losses has 3 numbers"):
        tw.diagnose(trace, losses=[1.0, 2.0, 3.0])


def test_a_trace_without_an_optimizer_says_what_it_cannot_show():
    trace, _ = trained(mlp(), optimizer=None)
    diagnosis = tw.diagnose(trace)
    assert diagnosis.healthy
    for rule in ("lr_too_high", "frozen_parameters", "gradients_accumulate"):
        assert "optimizer=" in diagnosis.unseen[rule]


def test_a_model_adds_what_a_trace_without_an_optimizer_lacks():
    net = mlp()
    nn.init.zeros_(net[2].weight)
    net[2].weight.requires_grad_(False)
    trace, _ = trained(net, 4, optimizer=None)
    assert "frozen_parameters" in [f.rule for _, f in tw.diagnose(trace, model=net).every_finding()]
    with pytest.raises(ConfigError, match="the trace is of a Sequential, but model is a Linear"):
        tw.diagnose(trace, model=nn.Linear(2, 2))


def test_a_model_adds_nothing_to_a_trace_with_parameters_whatever_its_title():
    net = mlp()
    trace, _ = trained(net, 4)
    trace.model = "Sequential (SGD #0)"  # as `thruway watch` calls it
    assert tw.diagnose(trace, model=net).to_json() == tw.diagnose(trace).to_json()


def test_a_rule_that_raises_hides_no_other():
    def broken(_reading):
        raise RuntimeError("a bug")
        yield

    def always(reading):
        yield Finding("mine", "This is always found.", since=(None, int(reading.steps[0])))

    trace, _ = trained(mlp(), 3)
    diagnosis = tw.diagnose(trace, rules=[Rule("broken", broken), Rule("mine", always)])
    assert [finding.rule for finding in diagnosis] == ["mine"]
    assert diagnosis.unseen == {"broken": "the rule failed: RuntimeError: a bug"}


def test_no_rule_of_the_table_raises_on_partial_traces():
    traces = [
        trained(mlp(), 1)[0],
        trained(mlp(), 30, every=10, first_step=500)[0],
        trained(mlp(), 5, quantities=["mean"])[0],
        trained(mlp(), 5, quantities=["norm"])[0],
        trained(mlp(), 5, quantities=["saturation_low", "nan"])[0],
        trained(mlp(), 30, memory=30_000)[0],
        trained(mlp(), 5, lr=1e6)[0],
        trained(mlp(), 5, optimizer=None)[0],
    ]
    for trace in traces:
        failed = {rule: why for rule, why in tw.diagnose(trace).unseen.items() if "failed" in why}
        assert not failed


def test_the_table_names_only_known_rules():
    for rule in RULES.values():
        assert rule.explains <= set(RULES), rule.name
        assert rule.name not in rule.explains
