"""The training loop, compared with SGD written as loops and with closed forms."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.testing import assert_close
from train_cases import CASES, batches

from thruway.errors import ConfigError
from thruway.train import exponential, train

NET = CASES[0]  # plain, tanh


def reference_sgd(model, epochs, *, lr, momentum=0.0, nesterov=False, weight_decay=0.0, gamma=1.0, clip=None):
    """Return (losses, parameters) of the textbook update rule, applied to one tensor at a time."""
    w = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    v = {name: torch.zeros_like(p) for name, p in w.items()}
    losses = []
    for epoch, steps in enumerate(epochs):
        for inputs, targets in steps:
            loss = F.cross_entropy(functional_call(model, w, (inputs,)), targets)
            g = dict(zip(w, torch.autograd.grad(loss, list(w.values())), strict=True))
            if clip is not None:
                norm = math.sqrt(sum((each**2).sum().item() for each in g.values()))
                g = {name: each * min(1.0, clip / (norm + 1e-6)) for name, each in g.items()}
            for name in w:
                with torch.no_grad():
                    d = g[name] + weight_decay * w[name]
                    v[name] = momentum * v[name] + d
                    w[name] -= lr * gamma**epoch * (d + momentum * v[name] if nesterov else v[name])
            losses.append(loss.item())
    return losses, w


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.1},
        {"gamma": 0.5},
        {"clip": 0.05},
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.02, "gamma": 0.7, "clip": 0.1},
    ],
    ids=lambda rule: "-".join(rule) or "bare",
)
def test_sgd_equals_the_reference(rule):
    epochs = [list(batches(3, seed=epoch)) for epoch in range(3)]
    (model,) = NET.nets(1)
    losses, w = reference_sgd(model, epochs, lr=0.4, **rule)
    kept = {name: rule[name] for name in ("momentum", "nesterov", "weight_decay") if name in rule}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4, **kept)
    steps = list(train(model, epochs, optimizer, schedule=exponential(rule.get("gamma", 1.0)), clip=rule.get("clip")))
    # The same sums in another order: errors of 1e-16 each, over nine steps.
    assert_close(
        torch.stack([step.loss for step in steps]), torch.tensor(losses, dtype=torch.float64), rtol=1e-12, atol=0
    )
    assert_close(dict(model.named_parameters()), w, rtol=1e-10, atol=1e-13)


def test_every_part_of_the_rule_has_an_effect():
    """Otherwise the comparison above could be trivial."""
    epochs = [list(batches(3, seed=epoch)) for epoch in range(2)]
    rules = [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.1},
        {"gamma": 0.5},
        {"clip": 0.05},
    ]
    last = [reference_sgd(NET.nets(1)[0], epochs, lr=0.4, **rule)[0][-1] for rule in rules]
    assert all(abs(a - b) > 1e-6 for a, b in itertools.combinations(last, 2))


def test_a_parabola_follows_the_closed_form():
    """loss = w^2/2: w_n = w_0 (1 - lr)^n, and the yielded loss is that before the update."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.fill_(3.0)
    one = [(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps = list(train(model, [one] * 20, optimizer, loss=lambda y, t: 0.5 * ((y - t) ** 2).sum()))
    expected = [0.5 * (3.0 * 0.9**n) ** 2 for n in range(20)]
    assert_close(torch.stack([s.loss for s in steps]), torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=0)
    assert math.isclose(model.weight.item(), 3.0 * 0.9**20, rel_tol=1e-13)  # twenty roundings of a double


def test_any_torch_optimiser_gives_the_same_results_as_in_a_plain_loop():
    epochs = [list(batches(4, seed=epoch)) for epoch in range(2)]
    ours, theirs = NET.nets(1)[0], NET.nets(1)[0]
    for _ in train(ours, epochs, torch.optim.Adam(ours.parameters(), lr=0.01)):
        pass
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.01)
    for inputs, targets in itertools.chain(*epochs):
        optimizer.zero_grad()
        F.cross_entropy(theirs(inputs), targets).backward()
        optimizer.step()
    for name, weight in ours.state_dict().items():
        assert torch.equal(weight, theirs.state_dict()[name])


def test_a_schedule_scales_each_group_from_its_own_rate():
    (model,) = NET.nets(1)
    groups = [{"params": model.stem.parameters(), "lr": 0.5}, {"params": model.head.parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    epochs = [list(batches(2)) for _ in range(3)]
    rates = [
        [g["lr"] for g in optimizer.param_groups] for _ in train(model, epochs, optimizer, schedule=exponential(0.5))
    ]
    assert rates == [[0.5, 0.1]] * 2 + [[0.25, 0.05]] * 2 + [[0.125, 0.025]] * 2


def test_training_in_two_calls_equals_training_in_one():
    epochs = [list(batches(2, seed=epoch)) for epoch in range(4)]
    whole, parted = NET.nets(1)[0], NET.nets(1)[0]
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.4, momentum=0.9) for net in (whole, parted)]
    steps = list(train(whole, epochs, optimizers[0], schedule=exponential(0.5)))
    parts = list(train(parted, epochs[:2], optimizers[1], schedule=exponential(0.5)))
    parts += train(parted, epochs[2:], optimizers[1], schedule=exponential(0.5), first_epoch=2)
    assert [(s.epoch, s.loss) for s in parts] == [(s.epoch, s.loss) for s in steps]
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, parted.state_dict()[name])


def test_an_optimiser_saved_between_steps_resumes_at_its_rate():
    """The saved state has the decayed rate, which would decay twice if it were used as the initial one."""
    (model,) = NET.nets(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    training = train(model, [list(batches(1))] * 3, optimizer, schedule=exponential(0.5))
    assert [next(training).epoch for _ in range(2)] == [0, 1]
    saved = optimizer.state_dict()
    resumed = torch.optim.SGD(model.parameters(), lr=9.0)
    resumed.load_state_dict(saved)
    rest = train(model, [batches(1)], resumed, schedule=exponential(0.5), first_epoch=2)
    assert [resumed.param_groups[0]["lr"] for _ in rest] == [0.1]
    assert resumed.param_groups[0]["lr"] == 0.4


@pytest.mark.parametrize("end", ["exhausted", "closed", "raised"])
def test_the_learning_rates_are_restored_however_training_ends(end):
    (model,) = NET.nets(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    before = optimizer.state_dict()["param_groups"]
    training = train(model, [batches(1), batches(1)], optimizer, schedule=lambda epoch: 0.5)
    next(training)
    assert optimizer.param_groups[0]["lr"] == 0.2
    if end == "exhausted":
        list(training)
    elif end == "closed":
        training.close()
    else:
        with pytest.raises(KeyError):
            training.throw(KeyError())
    assert optimizer.state_dict()["param_groups"] == before


def test_without_a_schedule_the_rates_are_unchanged():
    (model,) = NET.nets(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    for _ in train(model, [list(batches(1))] * 3, optimizer):
        optimizer.param_groups[0]["lr"] /= 2
    assert optimizer.param_groups[0]["lr"] == 0.05


@pytest.mark.parametrize("first", [-1, 0.5, True])
def test_an_invalid_first_epoch_is_refused(first):
    (model,) = NET.nets(1)
    with pytest.raises(ConfigError, match=f"first_epoch must be an integer of at least 0, got {first}"):
        next(train(model, [batches(1)], torch.optim.SGD(model.parameters(), lr=0.1), first_epoch=first))


def test_steps_are_executed_lazily_and_counted_across_epochs():
    (model,) = NET.nets(1)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    training = train(model, [batches(2), batches(3)], torch.optim.SGD(model.parameters(), lr=0.1))
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    first = next(training)
    assert not torch.equal(model.head.weight, before["head.weight"])
    assert [(s.step, s.epoch) for s in (first, *training)] == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1)]


@pytest.mark.parametrize("clip", [0, -1.0, math.nan])
def test_an_invalid_clip_is_refused(clip):
    (model,) = NET.nets(1)
    with pytest.raises(ConfigError, match=rf"clip must be above 0.*None.*got {clip}"):
        next(train(model, [batches(1)], torch.optim.SGD(model.parameters(), lr=0.1), clip=clip))
