"""The loss of a step: what backward was called on, in every way a loop can do that."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from thruway.watching import Trace, WatchWarning, watch


def net(width: int = 3) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(width, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def batch(step: int, width: int = 3) -> Tensor:
    return torch.randn(6, width, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.1)


def losses(trace: Trace) -> list[float]:
    series = trace.series("loss")
    assert (series.kind, series.names) == ("step", ["loss"])
    assert trace.failure is None
    return series.values[0].tolist()


@pytest.mark.parametrize("gives_optimizer", [False, True], ids=["by calls", "by optimizer"])
@pytest.mark.parametrize("every", [1, 3])
def test_it_is_what_backward_was_called_on(gives_optimizer: bool, every: int) -> None:
    model = net()
    optimizer, seen = sgd(model), []
    with watch(model, every, optimizer=optimizer if gives_optimizer else None) as trace:
        for step in range(7):
            optimizer.zero_grad()
            loss = model(batch(step)).square().mean()
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
            loss.detach().mul_(0)  # what is done to it later does not matter
    assert losses(trace) == seen[::every]
    assert trace.series("loss").steps.tolist() == list(range(0, 7, every))


def test_micro_batches_are_summed() -> None:
    model = net()
    optimizer = sgd(model)
    with watch(model, optimizer=optimizer) as trace:
        for step in range(3):
            optimizer.zero_grad()
            for part in batch(step).split(2):
                (model(part).square().mean() / 3).backward()
            optimizer.step()
    with torch.no_grad():
        assert losses(trace)[0] == pytest.approx(net()(batch(0)).square().mean().item(), rel=1e-14)


BACKWARD: dict[str, tuple[Any, float | None]] = {
    "one element": (lambda y: y.sum().view(1, 1).backward(), 1.0),
    "times a gradient": (lambda y: y.sum().backward(torch.tensor(0.5, dtype=y.dtype)), 0.5),
    "two at once": (lambda y: torch.autograd.backward((y.sum(), 2 * y.sum())), 3.0),
    "by keyword": (lambda y: torch.autograd.backward(tensors=[y.sum()], grad_tensors=[None]), 1.0),
    "twice": (lambda y: (y.sum().backward(retain_graph=True), (2 * y.sum()).backward()), 3.0),
    "no scalar": (lambda y: y.backward(torch.ones_like(y)), None),
    "the gradient of an input": (lambda y: torch.autograd.grad(y.sum(), y), None),
}


@pytest.mark.parametrize("way", BACKWARD)
def test_ways_to_call_backward(way: str) -> None:
    backward, factor = BACKWARD[way]
    model = net()
    with watch(model) as trace:
        y = model(batch(0))
        backward(y)
    if factor is None:
        assert "loss" not in trace.quantities("step")
    else:
        assert losses(trace) == [pytest.approx(factor * y.sum().item(), rel=1e-14)]


def test_a_loss_of_other_layers_does_not_count() -> None:
    model, other = net(), net()
    with watch(model) as trace:
        y = model(batch(0)).sum()
        other(batch(1)).sum().backward()
        y.backward()
        other(batch(2)).sum().backward()
    assert losses(trace) == [y.item()]


def gan_step(generator: nn.Module, critic: nn.Module, opt_g: Any, opt_c: Any, step: int) -> tuple[float, float]:
    """A step as in PyTorch's DCGAN example: the critic is zeroed only before its own losses."""
    opt_c.zero_grad()
    fake = generator(batch(step))
    real_loss, fake_loss = critic(batch(step + 9)).mean(), critic(fake.detach()).mean()
    real_loss.backward()
    (-fake_loss).backward()
    opt_c.step()
    opt_g.zero_grad()
    loss = critic(fake).mean()
    loss.backward()
    opt_g.step()
    return loss.item(), real_loss.item() - fake_loss.item()


@pytest.mark.parametrize("closes", [(0, 1), (1, 0)], ids=str)
def test_a_gan_has_two_losses_however_the_watches_are_closed(closes: tuple[int, int]) -> None:
    torch_backward = torch.autograd.backward
    generator = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).double()
    critic = net()
    opt_g, opt_c = sgd(generator), sgd(critic)
    watches = [watch(generator, optimizer=opt_g), watch(critic, optimizer=opt_c)]
    traces = [each.__enter__() for each in watches]
    seen = [gan_step(generator, critic, opt_g, opt_c, step) for step in range(4)]
    for which in closes:
        watches[which].__exit__(None, None, None)
        assert (torch.autograd.backward is torch_backward) == (which == closes[-1])
    for trace, expected in zip(traces, zip(*seen, strict=True), strict=True):
        assert losses(trace) == pytest.approx(list(expected), rel=1e-12)
        assert "raw_gradient_norm" not in trace.quantities("step")


def test_a_closure_counts_once() -> None:
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=4)
    seen: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(batch(0)).square().mean()
        loss.backward()
        seen.append(loss.item())
        return loss

    first = []
    with watch(model, optimizer=optimizer) as trace:
        for _ in range(3):
            first.append(len(seen))
            optimizer.step(closure)
    assert len(seen) > 3
    assert losses(trace) == [seen[at] for at in first]


def test_scaled_losses_are_unscaled() -> None:
    model = net().float()
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=1)
    seen = []
    with watch(model, optimizer=optimizer, scaler=scaler) as trace:
        for step in range(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(batch(step).float()).float().square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            seen.append(loss.item())
    assert losses(trace) == seen


def test_a_step_the_scaler_skips_leaves_no_loss_behind() -> None:
    model = net().float()
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=2.0)
    with watch(model, optimizer=optimizer, scaler=scaler) as trace:
        for step in range(2):
            optimizer.zero_grad()
            loss = model(batch(step).float()).square().mean() * (torch.inf if step == 0 else 1.0)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert losses(trace) == [loss.item()]


def test_zeroing_in_place_between_two_backward_passes_drops_the_first_loss() -> None:
    model = net()
    optimizer = sgd(model)
    with watch(model, optimizer=optimizer) as trace:
        model(batch(0)).sum().backward()
        optimizer.zero_grad(set_to_none=False)
        loss = model(batch(1)).sum()
        loss.backward()
        optimizer.step()
    assert losses(trace) == [loss.item()]


def test_a_backward_pass_that_raises_has_no_loss_and_leaves_nothing() -> None:
    model, torch_backward = net(), torch.autograd.backward

    def fails(_gradient: Tensor) -> None:
        raise ZeroDivisionError

    with watch(model) as trace:
        y = model(batch(0))
        y.register_hook(fails)
        with pytest.raises(ZeroDivisionError):
            y.sum().backward()
        loss = model(batch(1)).sum()
        loss.backward()
    assert torch.autograd.backward is torch_backward
    assert trace.series("loss").steps.tolist() == [1]
    assert losses(trace) == [loss.item()]


def test_backward_of_another_thread_is_ignored() -> None:
    model, other = net(), net()
    with watch(model) as trace:
        loss = model(batch(0)).sum()

        def train() -> None:
            other(batch(1)).sum().backward()

        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        loss.backward()
    assert losses(trace) == [loss.item()]


def test_a_replacement_by_another_program_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = net(), []
    with watch(model) as trace:
        model(batch(0)).sum().backward()
        ours = torch.autograd.backward

        def theirs(*arguments: Any, **keywords: Any) -> None:
            calls.append(1)
            ours(*arguments, **keywords)

        monkeypatch.setattr(torch.autograd, "backward", theirs)
        model(batch(1)).sum().backward()
    assert torch.autograd.backward is theirs
    with watch(model) as again:
        loss = model(batch(2)).sum()
        loss.backward()
    assert torch.autograd.backward is theirs
    assert len(losses(trace)) == len(calls) == 2
    assert losses(again) == [loss.item()]


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = checkpoint(self.inner, x, use_reentrant=True)
        return y


def test_reentrant_checkpoints_are_a_part_of_one_backward_pass() -> None:
    model = Checkpointed()
    with watch(model) as trace:
        with pytest.warns(WatchWarning, match="reentrant checkpoint"):
            loss = model(batch(0).requires_grad_()).square().sum()
        loss.backward()
    assert losses(trace) == [loss.item()]


def test_compiled_models_have_losses_too() -> None:
    model = net().float()
    compiled = torch.compile(model, backend="eager")
    optimizer, seen = sgd(model), []
    with watch(compiled, 2, optimizer=optimizer) as trace:
        for step in range(4):
            optimizer.zero_grad()
            loss = F.mse_loss(compiled(batch(step).float()), torch.ones(6, 1))
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
    np.testing.assert_array_equal(losses(trace), seen[::2])


def test_losses_are_recorded_as_float32_at_least() -> None:
    model = net().bfloat16()
    with watch(model) as trace:
        loss = model(batch(0).bfloat16()).square().mean()
        loss.backward()
    assert loss.dtype is torch.bfloat16
    assert losses(trace) == [loss.item()]
