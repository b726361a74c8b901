"""Vectorised training against ordinary training of the same setups in float64."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thruway.diagnosing.prescribing.alone import Alone
from thruway.diagnosing.prescribing.setup import Setup
from thruway.diagnosing.prescribing.snapshot import load
from thruway.diagnosing.prescribing.together import Together, group_key, reason_against
from thruway.nn import Highway, Residual

SGD, ADAM, ADAMW, RMSPROP = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop
OPTIMIZERS = {
    "sgd": (SGD, {}),
    "momentum": (SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (SGD, {"momentum": 0.9, "nesterov": True}),
    "dampening": (SGD, {"momentum": 0.8, "dampening": 0.3, "maximize": True}),
    "adam": (ADAM, {"betas": (0.7, 0.95), "weight_decay": 0.1}),
    "amsgrad": (ADAM, {"amsgrad": True, "eps": 1e-3}),
    "adamw": (ADAMW, {"weight_decay": 0.3}),
    "rmsprop": (RMSPROP, {"alpha": 0.8, "weight_decay": 0.1}),
    "rmsprop with all": (RMSPROP, {"momentum": 0.7, "centered": True}),
}


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))


def normed() -> nn.Module:
    inner = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.GELU())
    layers = (nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), Residual(inner, scale=0.5), nn.Linear(6, 3))
    return nn.Sequential(*layers)


def gated() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 6), Highway(nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Linear(6, 6)), nn.Linear(6, 3)
    )


class Viewed(nn.Module):
    """A model whose reshaping is not in the table of stacked functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(3, 3)

    def forward(self, x):
        return self.last(torch.sigmoid(self.first(x)).view(len(x), 2, 3).mean(dim=1))


def setups(build=mlp, optimizer=SGD, options=None, rates=(0.01, 0.05, 0.1), **changes) -> list[Setup]:
    made = []
    for seed, rate in enumerate(rates):
        torch.manual_seed(seed)
        model = build().double()
        made.append(Setup(model, optimizer(model.parameters(), lr=rate, **(options or {})), **changes))
    return made


def batches(count=5):
    made = torch.Generator().manual_seed(7)
    return [
        (torch.randn(9, 4, generator=made, dtype=torch.float64), torch.randint(3, (9,), generator=made))
        for _ in range(count)
    ]


def pass_of(together: Together) -> str:
    """Return the name of the pass that was chosen."""
    return together._pass.__name__


def check_equal(made: list[Setup], steps=12, tolerance=1e-10, loss=F.cross_entropy) -> Together:
    """Train together and alone; compare losses of all steps, measured losses and all tensors."""
    together = Together(made, loss)
    alone = [Alone(setup, loss) for setup in map(copied, made)]
    data = batches()
    for step in range(steps):
        batch = data[step % len(data)]
        expected = torch.cat([run.step(batch) for run in alone])
        torch.testing.assert_close(together.step(batch), expected, rtol=tolerance, atol=tolerance)
    expected = torch.cat([run.measure(data[:2]) for run in alone])
    torch.testing.assert_close(together.measure(data[:2]), expected, rtol=tolerance, atol=tolerance)
    for member, run in enumerate(alone):
        ours, theirs = together.snapshot(member), run.snapshot()
        torch.testing.assert_close(ours.tensors, theirs.tensors, rtol=tolerance, atol=tolerance)
    return together


def copied(setup: Setup) -> Setup:
    model, optimizer = copy.deepcopy((setup.model, setup.optimizer))
    return Setup(model, optimizer, setup.clip, setup.zero_grad)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_those_of_torch(name):
    kind, options = OPTIMIZERS[name]
    assert pass_of(check_equal(setups(optimizer=kind, options=options))) == "_stacked_losses"


PASSES = [(normed, "_stacked_losses"), (gated, "_stacked_losses"), (Viewed, "_mapped_losses")]


@pytest.mark.parametrize(("build", "name"), PASSES)
def test_both_forward_passes_are_those_of_torch(build, name):
    assert pass_of(check_equal(setups(build, options={"momentum": 0.9}))) == name


def ignoring(targets):
    return torch.where(targets == 1, -100, targets)


LOSSES = {
    "module": (nn.CrossEntropyLoss(), "_stacked_losses"),
    "ignored targets": (lambda outputs, y: F.cross_entropy(outputs, ignoring(y)), "_stacked_losses"),
    "another ignored": (nn.CrossEntropyLoss(ignore_index=2), "_stacked_losses"),
    "weights": (nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)), "_stacked_outputs"),
    "smoothing": (nn.CrossEntropyLoss(label_smoothing=0.1), "_stacked_outputs"),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), "_stacked_outputs"),
    "mse": (lambda outputs, y: F.mse_loss(outputs, F.one_hot(y, 3).double()), "_stacked_losses"),
    "own code": (lambda outputs, y: (outputs.log_softmax(-1) * F.one_hot(y, 3)).sum() / -len(y), "_stacked_outputs"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_members_are_those_of_torch(name):
    loss, expected = LOSSES[name]
    assert pass_of(check_equal(setups(), loss=loss)) == expected


def test_members_clip_and_accumulate_each_on_their_own():
    made = setups(options={"momentum": 0.9})
    made[0] = Setup(made[0].model, made[0].optimizer, clip=0.05)
    made[1] = Setup(made[1].model, made[1].optimizer, clip=0.05, zero_grad=False)
    check_equal(made)


def test_parameter_groups_have_their_own_numbers_and_forgotten_parameters_stay():
    made = setups()
    for setup in made:
        first, last = setup.model[0], setup.model[4]
        groups = [{"params": first.parameters(), "lr": 0.2, "weight_decay": 0.5}, {"params": last.parameters()}]
        object.__setattr__(setup, "optimizer", ADAM(groups, lr=0.01))
    before = made[0].model[2].weight.clone()
    together = check_equal(made)
    assert torch.equal(together.snapshot(0).tensors["2.weight"], before)


def test_frozen_and_unused_parameters_are_not_changed():
    def build():
        model = mlp()
        model[2].weight.requires_grad_(False)
        model.unused = nn.Parameter(torch.ones(3))
        model.forward = nn.Sequential(*list(model)[:5]).forward
        return model

    made = setups(build, ADAMW, {"weight_decay": 0.3})
    together = Together(made, F.cross_entropy)
    for batch in batches():
        together.step(batch)
    assert torch.equal(together.snapshot(1).tensors["unused"], torch.ones(3, dtype=torch.float64))
    assert torch.equal(together.snapshot(1).tensors["2.weight"], made[1].model[2].weight)


def test_a_member_that_diverges_leaves_the_others_as_they_are():
    made = setups(rates=(0.05, 1e200, 0.1), options={"momentum": 0.9})
    rest = setups(rates=(0.05, 0.1, 0.1), options={"momentum": 0.9})
    rest[1] = setups(rates=(0.0, 0.0, 0.1), options={"momentum": 0.9})[2]
    together, others = Together(made, F.cross_entropy), Together(rest, F.cross_entropy)
    for batch in batches(8):
        losses, expected = together.step(batch), others.step(batch)
        torch.testing.assert_close(losses[[0, 2]], expected[[0, 1]], rtol=1e-10, atol=1e-10)
    assert together.diverged_at.tolist()[1] > 0
    assert together.is_alive(0)
    assert not together.is_alive(1)
    assert bool(losses[1].isnan())


@pytest.mark.parametrize("kind", [SGD, ADAM])
def test_a_snapshot_continues_the_training(kind):
    """Continue one member in an ordinary loop, and compare with the population."""
    made = setups(optimizer=kind, options={"momentum": 0.9} if kind is SGD else {}, zero_grad=False)
    together, data = Together(made, F.cross_entropy), batches()
    for batch in data:
        together.step(batch)
    load(made[1], together.snapshot(1))
    alone = Alone(made[1], F.cross_entropy)
    for batch in data:
        torch.testing.assert_close(together.step(batch)[1:2], alone.step(batch), rtol=1e-9, atol=1e-9)


def test_what_cannot_be_trained_together_is_said():
    model = mlp()
    other = Setup(model, torch.optim.Adagrad(model.parameters(), lr=0.1))
    assert "Adagrad is not vectorised (those of SGD, Adam, AdamW, RMSprop are)" in reason_against(other)
    groups = [{"params": [model[0].weight]}, {"params": [model[0].bias], "nesterov": True}]
    mixed = Setup(model, SGD(groups, lr=0.1, momentum=0.9))
    assert "different settings" in reason_against(mixed)
    model[4].double()
    assert "different dtypes" in reason_against(Setup(model, SGD(model.parameters(), lr=0.1)))
    assert reason_against(setups()[0]) == ""


def test_setups_of_one_architecture_have_one_key():
    first, second, third = setups()
    third.model[1] = nn.ReLU()
    assert group_key(first) == group_key(second)
    assert group_key(first) != group_key(third)
    assert group_key(first) != group_key(setups(optimizer=ADAM)[0])
