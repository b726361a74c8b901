"""Healing of a smaller model: closer to the full one, on data that it has not seen; nothing else is changed."""

import pytest
import torch
from torch.nn import functional as F

from thruway.dissecting import DissectError, Loss, dissect, heal
from thruway.errors import ConfigError
from thruway.networks import mlp, resnet


@pytest.fixture(scope="module")
def models():
    made = torch.Generator().manual_seed(0)
    net = mlp("residual", depth=8, width=16, inputs=6, classes=3, generator=made)
    x = torch.randn(400, 6, generator=made)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).long() + (x[:, 3] > 1).long()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(net(x[:200]), y[:200]).backward()
        optimizer.step()
    net.eval()
    small = dissect(net, x[:2]).prune(Loss([(x[:200], y[:200])]), 4).model
    batches = [(x[i : i + 50], y[i : i + 50]) for i in range(0, 200, 50)]
    return net, small, batches, [(x[200:300], y[200:300])], (x[300:], y[300:])


def difference(small, net, x):
    with torch.no_grad():
        return float((small(x) - net(x)).square().mean() / net(x).var(correction=0))


def test_outputs_come_closer_on_data_of_neither_kind(models):
    net, small, batches, held_out, (x, _) = models
    states = [{k: v.clone() for k, v in model.state_dict().items()} for model in (net, small)]
    found = heal(small, net, batches, held_out, steps=300, lr=3e-3)
    assert found.held_out[0] == pytest.approx(difference(small, net, held_out[0][0]), rel=1e-5)
    assert difference(found.model, net, held_out[0][0]) == pytest.approx(min(found.held_out), rel=1e-5)
    assert difference(found.model, net, x) < 0.4 * difference(small, net, x)
    assert found.points[found.held_out.index(min(found.held_out))] == found.best
    for model, state in zip((net, small), states, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
        assert all(p.grad is None or not p.grad.isnan().any() for p in model.parameters())
    again = heal(small, net, batches, held_out, steps=300, lr=3e-3)
    assert again.losses == found.losses


def test_the_task_can_be_the_loss(models):
    net, small, batches, held_out, (x, y) = models
    found = heal(small, net, batches, held_out, loss=F.cross_entropy, steps=200, lr=3e-3)
    before, after = (F.cross_entropy(model(x), y).item() for model in (small, found.model))
    assert after < before


def test_it_stops_when_nothing_is_gained(models):
    net, _, batches, held_out, _ = models
    found = heal(net, net, batches, held_out, steps=500, every=5, patience=3, lr=0.05)
    assert found.held_out[0] == 0
    assert found.best == 0
    assert len(found.losses) == 15
    assert all(torch.equal(a, b) for a, b in zip(found.model.parameters(), net.parameters(), strict=True))


def test_modes_are_kept_and_batch_statistics_learned():
    made = torch.Generator().manual_seed(0)
    net = resnet(20, classes=4, generator=made).train()
    x = torch.randn(16, 3, 16, 16, generator=made)
    for _ in range(3):
        net(x)  # running statistics
    small = dissect(net.eval(), x[:1]).remove(1, 5)
    net.train()
    found = heal(small.train(), net, [(x, None)], [(x, None)], steps=100)
    assert net.training
    assert found.model.training
    assert all(module.training for module in net.modules())
    assert min(found.held_out) < found.held_out[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"lr": float("nan")}, "lr must be a number above 0"),
        ({"loss": "distill"}, "'distil' or a function"),
        ({"batches": []}, "at least one pair"),
        ({"held_out": []}, "at least one pair"),
    ],
)
def test_wrong_arguments(models, change, message):
    net, small, batches, held_out, _ = models
    arguments = {"batches": batches, "held_out": held_out, **change}
    with pytest.raises(ConfigError, match=message):
        heal(small, net, **arguments)


def test_a_loss_that_is_not_finite_is_refused(models):
    net, small, batches, held_out, _ = models
    x, y = batches[0]
    with pytest.raises(DissectError, match="the loss is nan at step 0"):
        heal(small, net, [(x * float("nan"), y)], held_out)
    with pytest.raises(ConfigError, match=r"have the shapes"):
        heal(small, mlp("plain", 2, 8, inputs=6, classes=5), batches, held_out)
