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


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("name", ZEROES)
def test_the_generators_pass_is_left_out_if_gradients_are_zeroed_late(name: str, is_frozen: bool, every: int) -> None:
    options: dict[str, Any] = {"zeroes_late": True, "is_frozen": is_frozen, "every": every}
    (ours, _), (theirs, _) = (train(ZEROES[name], is_apart=apart, **options) for apart in (False, True))
    assert_same(ours, theirs)
    assert ours is not None
    assert ours.series("count").values[0].tolist() == [80] * (STEPS // every)


def numbers_of(passes: list[Tensor]) -> list[float]:
    """Return mean and standard deviation of outputs, and of the gradients that they retain."""
    outputs = torch.cat([output.detach().flatten() for output in passes])
    gradients = torch.cat([output.grad.flatten() for output in passes if output.grad is not None])
    return [float(number) for each in (outputs, gradients) for number in (each.mean(), each.std(correction=0))]


def test_both_nets_are_right_if_all_gradients_are_zeroed_after_the_forward_passes() -> None:
    """As in tutorials with a function reset_grad. The twin repeats the nets' own passes in float64."""
    generator, discriminator = nets()
    models = {"generator": generator, "discriminator": discriminator}
    optimizers = {name: torch.optim.Adam(model.parameters(), 0.02) for name, model in models.items()}
    numbers = torch.Generator().manual_seed(1)
    wanted: dict[str, list[list[float]]] = {name: [] for name in models}

    def reset_grad() -> None:
        for optimizer in optimizers.values():
            optimizer.zero_grad()

    def loss_of(output: Tensor, target: float) -> Tensor:
        return F.binary_cross_entropy(output, torch.full_like(output, target))

    def double(*tensors: Tensor) -> tuple[nn.Module, nn.Module, list[Tensor]]:
        bare = nets()
        for twin, model in zip(bare, models.values(), strict=True):
            twin.load_state_dict(model.state_dict())
        return bare[0].double(), bare[1].double(), [tensor.double() for tensor in tensors]

    def discriminator_twin(real: Tensor, noise: Tensor) -> None:
        g, d, (real, noise) = double(real, noise)
        passes = [d(real), d(g(noise))]
        for output in passes:
            output.retain_grad()
        (loss_of(passes[0], 1) + loss_of(passes[1], 0)).backward()
        wanted["discriminator"].append(numbers_of(passes))

    def generator_twin(noise: Tensor) -> None:
        g, d, (noise,) = double(noise)
        fake = g(noise)
        fake.retain_grad()
        loss_of(d(fake), 1).backward()
        wanted["generator"].append(numbers_of([fake]))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with (
            watch(generator, quantities=["mean", "std"], optimizer=optimizers["generator"]) as of_generator,
            watch(discriminator, quantities=["mean", "std"], optimizer=optimizers["discriminator"]) as of_discriminator,
        ):
            for _ in range(STEPS):
                real, noise = torch.randn(5, 4, generator=numbers) + 2, torch.randn(5, 3, generator=numbers)
                discriminator_twin(real, noise)
                loss = loss_of(discriminator(real), 1) + loss_of(discriminator(generator(noise)), 0)
                reset_grad()
                loss.backward()
                optimizers["discriminator"].step()
                noise = torch.randn(5, 3, generator=numbers)
                generator_twin(noise)
                loss = loss_of(discriminator(generator(noise)), 1)
                reset_grad()
                loss.backward()
                optimizers["generator"].step()
    for name, trace in (("generator", of_generator), ("discriminator", of_discriminator)):
        for column, (kind, quantity) in enumerate((k, q) for k in ("output", "gradient") for q in ("mean", "std")):
            found = trace.series(quantity, kind).values[-1]
            np.testing.assert_allclose(found, [row[column] for row in wanted[name]], rtol=1e-5, atol=1e-7)


def test_steps_that_cannot_be_told_apart_are_said_once() -> None:
    """All calls come first: the discriminator's gradients are zeroed between the generator's step and its own."""
    generator, discriminator = nets()
    optimizers = [torch.optim.SGD(model.parameters(), 0.01) for model in (generator, discriminator)]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with watch(discriminator, optimizer=optimizers[1]):
            for _ in range(3):
                fake = generator(torch.ones(5, 3))
                of_generator, loss = discriminator(fake).sum(), discriminator(fake.detach()).square().sum()
                of_generator.backward()
                optimizers[0].step()
                optimizers[1].zero_grad()
                loss.backward()
                optimizers[1].step()
    assert [issubclass(w.category, WatchWarning) for w in found] == [True]
    assert "another optimizer made a step" in str(found[0].message)


def test_passes_without_a_zeroing_are_all_of_the_step() -> None:
    """Another optimizer's steps between micro-batches make no difference."""
    model, other = nn.Linear(4, 2), nn.Linear(1, 1)
    optimizers = [torch.optim.SGD(each.parameters(), 0.0) for each in (model, other)]
    traces = []
    for steps_between in (False, True):
        with watch(model, optimizer=optimizers[0], quantities=["count", "mean"]) as trace:
            for _ in range(3):
                optimizers[0].zero_grad()
                for size in (3, 5):
                    model(torch.ones(size, 4)).sum().backward()
                    if steps_between:
                        optimizers[1].step()
                optimizers[0].step()
        traces.append(trace)
    assert traces[1].series("count").values.tolist() == [[16.0] * 3]
    assert np.allclose(traces[0].series("mean").values, traces[1].series("mean").values, rtol=1e-6)


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
