"""Steps of a discriminator and a generator: the passes for the other optimizer are left out of a step."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.watching import DEFAULT, Trace, WatchWarning, watch

STEPS = 6
Zero = Callable[[nn.Module, torch.optim.Optimizer], Any]
ZEROES: dict[str, Zero] = {
    "the module, as in DCGAN": lambda net, _: net.zero_grad(),
    "the optimizer": lambda _, optimizer: optimizer.zero_grad(),
    "to zeros": lambda net, _: net.zero_grad(set_to_none=False),
}


def nets() -> tuple[nn.Sequential, nn.Sequential]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
        return generator, nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1), nn.Sigmoid())


def train(
    zero: Zero,
    *,
    watched: str | None = "discriminator",
    is_apart: bool = False,
    is_frozen: bool = False,
    zeroes_late: bool = False,
    zeroes_after: bool = False,
    every: int = 1,
) -> tuple[Trace | None, list[Tensor]]:
    """Train a GAN.

    With `is_apart`, the step of the generator runs through a copy of the discriminator, so that no pass of the watched
    module belongs to it. `is_frozen`: the discriminator's parameters take no gradients in that step.
    """
    generator, discriminator = nets()
    models = {"generator": generator, "discriminator": discriminator}
    optimizers = {name: torch.optim.Adam(model.parameters(), 0.02) for name, model in models.items()}
    numbers = torch.Generator().manual_seed(1)
    trace = None

    def loop() -> None:
        for _ in range(STEPS):
            if not zeroes_late and not zeroes_after:
                zero(discriminator, optimizers["discriminator"])
            real = discriminator(torch.randn(5, 4, generator=numbers) + 2)
            if zeroes_late:
                zero(discriminator, optimizers["discriminator"])
            F.binary_cross_entropy(real, torch.ones(5, 1)).backward()
            fake = generator(torch.randn(5, 3, generator=numbers))
            F.binary_cross_entropy(discriminator(fake.detach()), torch.zeros(5, 1)).backward()
            optimizers["discriminator"].step()
            if zeroes_after:
                zero(discriminator, optimizers["discriminator"])
            zero(generator, optimizers["generator"])
            critic = copy.deepcopy(discriminator) if is_apart else discriminator
            critic.requires_grad_(not is_frozen)
            F.binary_cross_entropy(critic(fake), torch.ones(5, 1)).backward()
            critic.requires_grad_(True)
            optimizers["generator"].step()

    if watched is None:
        loop()
    else:
        quantities = [*DEFAULT, "count"]
        with watch(models[watched], every, quantities, optimizers[watched]) as trace:
            loop()
    return trace, [parameter.detach().clone() for model in models.values() for parameter in model.parameters()]


def assert_same(ours: Trace | None, theirs: Trace | None) -> None:
    assert ours is not None
    assert theirs is not None
    assert ours.failure is None
    found, wanted = ours.table(), theirs.table()
    for column in ("step", "kind", "site", "quantity"):
        assert list(found[column]) == list(wanted[column])
    assert np.array_equal(found["value"], wanted["value"], equal_nan=True)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("name", ZEROES)
def test_the_generators_pass_is_no_part_of_the_discriminators_step(name: str, every: int) -> None:
    (ours, _), (theirs, _) = (train(ZEROES[name], every=every, is_apart=apart) for apart in (False, True))
    assert_same(ours, theirs)
    assert ours is not None
    # real and fake examples are merged, like micro-batches
    assert ours.series("count").values[0].tolist() == [80] * (STEPS // every)


@pytest.mark.parametrize("options", [{"is_frozen": True}, {"is_frozen": True, "zeroes_after": True}], ids=str)
def test_a_frozen_discriminator_is_left_out_too(options: dict[str, bool]) -> None:
    zero = ZEROES["the optimizer"]
    (ours, _), (theirs, _) = (train(zero, is_apart=apart, **options) for apart in (False, True))
    assert_same(ours, theirs)


def test_a_generator_has_its_own_step() -> None:
    ours, _ = train(ZEROES["the optimizer"], watched="generator")
    theirs, _ = train(ZEROES["the optimizer"], watched="generator", is_apart=True)
    assert_same(ours, theirs)


@pytest.mark.parametrize("watched", ["discriminator", "generator"])
@pytest.mark.parametrize("name", ZEROES)
def test_training_is_bit_for_bit_that_of_unwatched_nets(name: str, watched: str) -> None:
    _, bare = train(ZEROES[name], watched=None)
    _, ours = train(ZEROES[name], watched=watched)
    assert all(torch.equal(a, b) for a, b in zip(bare, ours, strict=True))


def test_steps_that_cannot_be_told_apart_are_said_once() -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        train(ZEROES["the optimizer"], zeroes_late=True)
    assert [issubclass(w.category, WatchWarning) for w in found] == [True]
    assert "another optimizer made a step" in str(found[0].message)


def test_two_optimizers_of_one_loss_share_the_step() -> None:
    first, last = nn.Linear(4, 4), nn.Linear(4, 2)
    model = nn.Sequential(first, last)
    optimizers = [torch.optim.SGD(layer.parameters(), 0.01) for layer in (first, last)]
    with watch(model, optimizer=optimizers[1], quantities=["count"]) as trace:
        for _ in range(4):
            for optimizer in optimizers:
                optimizer.zero_grad()
            for _ in range(2):  # micro-batches
                model(torch.ones(3, 4)).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
    assert trace.steps == [0, 1, 2, 3]
    assert trace.series("count").values.tolist() == [[24.0] * 4, [12.0] * 4]
