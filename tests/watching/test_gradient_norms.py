"""Norms of all gradients, before and after they are clipped, and learning rates, against float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from thruway.watching import DEFAULT, Trace, watch


def net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def norm_of(model: nn.Module) -> float:
    gradients = [p.grad.detach().double().flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat(gradients).norm().item()


def clip(model: nn.Module, most: float = 0.5) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), most)


def clip_by_data(model: nn.Module) -> None:
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad.data.clamp_(-0.05, 0.05)


def train(
    between: Callable[[nn.Module, int], None],
    *,
    scaler: torch.amp.GradScaler | None = None,
    tells_scaler: bool = True,
    quantities: Any = DEFAULT,
    build: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    **options: Any,
) -> tuple[Trace, list[float], list[float]]:
    """The trace, and the norms after the backward pass and at the step."""
    model = net()
    optimizer = build(model.parameters(), lr=0.1, **options)
    known = {"scaler": scaler} if tells_scaler and scaler is not None else {}
    raw, final = [], []
    with watch(model, optimizer=optimizer, quantities=quantities, **known) as trace:  # type: ignore[arg-type]
        for step in range(5):
            optimizer.zero_grad(set_to_none=step % 2 == 0)
            loss = model(torch.randn(6, 3, generator=torch.Generator().manual_seed(step))).square().sum()
            (loss if scaler is None else scaler.scale(loss)).backward()
            if scaler is not None:
                scaler.unscale_(optimizer)
            raw.append(norm_of(model))
            between(model, step)
            final.append(norm_of(model))
            optimizer.step() if scaler is None else scaler.step(optimizer)
            if scaler is not None:
                scaler.update()
    assert trace.failure is None
    return trace, raw, final


@pytest.mark.parametrize("quantities", [DEFAULT, ["mean"]], ids=["from the norms of each", "at once"])
def test_clipping_shows_both_norms(quantities: Any) -> None:
    trace, raw, final = train(lambda model, _: clip(model), quantities=quantities)
    assert max(final) < 0.6 * max(raw)
    for name, expected in (("gradient_norm", final), ("raw_gradient_norm", raw)):
        series = trace.series(name)
        assert (series.kind, series.names, series.steps.tolist()) == ("step", [name], [0, 1, 2, 3, 4])
        np.testing.assert_allclose(series.values[0], expected, 2e-6)  # single precision


@pytest.mark.parametrize("quantities", [DEFAULT, ["mean"]], ids=["from the norms of each", "at once"])
@pytest.mark.parametrize("most", [None, 1e9], ids=["none", "never reached"])
def test_without_clipping_there_is_one_norm(most: float | None, quantities: Any) -> None:
    trace, _, final = train(lambda model, _: None if most is None else clip(model, most), quantities=quantities)
    np.testing.assert_allclose(trace.series("gradient_norm").values[0], final, 2e-6)
    assert "raw_gradient_norm" not in trace.quantities("step")


def test_the_raw_norm_is_recorded_where_gradients_were_clipped() -> None:
    def first_and_last(model: nn.Module, step: int) -> None:
        clip(model, 0.5 if step in (0, 4) else 1e9)

    trace, raw, _ = train(first_and_last)
    series = trace.series("raw_gradient_norm")
    assert series.steps.tolist() == [0, 4]
    np.testing.assert_allclose(series.values[0], [raw[0], raw[4]], 2e-6)


def test_clipping_that_begins_later_is_recorded_from_the_next_step_on() -> None:
    trace, _, _ = train(lambda model, step: clip(model) if step >= 2 else None)
    assert trace.series("raw_gradient_norm").steps.tolist() == [3, 4]


def test_clipping_by_value_through_data_is_seen() -> None:
    trace, raw, final = train(lambda model, _: clip_by_data(model))
    np.testing.assert_allclose(trace.series("raw_gradient_norm").values[0], raw, 2e-6)
    np.testing.assert_allclose(trace.series("gradient_norm").values[0], final, 2e-6)


@pytest.mark.parametrize("tells_scaler", [True, False], ids=["known", "unknown"])
def test_unscaling_is_no_clipping(tells_scaler: bool) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    trace, _, final = train(lambda *_: None, scaler=scaler, tells_scaler=tells_scaler)
    np.testing.assert_allclose(trace.series("gradient_norm").values[0], final, 2e-6)
    assert "raw_gradient_norm" not in trace.quantities("step")


def test_clipping_after_unscaling_shows_the_unscaled_norm() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    trace, raw, final = train(lambda model, _: clip(model), scaler=scaler)
    np.testing.assert_allclose(trace.series("raw_gradient_norm").values[0], raw, 2e-6)
    np.testing.assert_allclose(trace.series("gradient_norm").values[0], final, 2e-6)


@pytest.mark.parametrize("quantities", [DEFAULT, ["mean"]], ids=["from the norms of each", "at once"])
def test_an_optimizer_that_unscales_by_itself(quantities: Any) -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    norms = []
    with watch(model, optimizer=optimizer, scaler=scaler, quantities=quantities) as trace:
        for step in range(3):
            optimizer.zero_grad()
            loss = model(torch.randn(6, 3, generator=torch.Generator().manual_seed(step))).square().sum()
            scaler.scale(loss).backward()
            norms.append(norm_of(model) / 2.0**10)
            scaler.step(optimizer)
            scaler.update()
    np.testing.assert_allclose(trace.series("gradient_norm").values[0], norms, 2e-6)
    assert "raw_gradient_norm" not in trace.quantities("step")


@pytest.mark.parametrize(("value", "shown"), [(torch.nan, "nan"), (torch.inf, "inf")])
def test_a_gradient_that_is_not_finite_makes_the_norm_so(value: float, shown: str) -> None:
    def spoil(model: nn.Module, step: int) -> None:
        if step == 4:
            model.get_parameter("0.bias").grad[0] = value  # type: ignore[index]

    trace, _, _ = train(spoil)
    assert str(trace.series("gradient_norm").values[0, -1]) == shown
    assert "raw_gradient_norm" not in trace.quantities("step")


def test_learning_rates_are_those_of_each_group_at_each_step() -> None:
    model = net()
    groups = [{"params": [p], "lr": lr} for p, lr in zip(model.parameters(), (1.0, 0.5, 0.25, 0.125), strict=True)]
    optimizer = torch.optim.SGD(groups[:2])
    optimizer.add_param_group(groups[2])
    optimizer.add_param_group({**groups[3], "lr": torch.tensor(0.125)})
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    with watch(model, 2, optimizer=optimizer) as trace:
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
            schedule.step()
    series = trace.series("learning_rate")
    assert series.names == ["group.0", "group.1", "group.2", "group.3"]
    assert series.values.tolist() == [[lr, lr / 4] for lr in (1.0, 0.5, 0.25, 0.125)]
    assert trace.optimizer == "SGD"


def test_gradients_of_half_precision_do_not_overflow() -> None:
    model = nn.Linear(4, 4).half()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with watch(model, optimizer=optimizer, quantities=["mean"]) as trace:
        (model(torch.ones(2, 4).half()) * 2e4).sum().backward()
        expected = norm_of(model)
        optimizer.step()
    assert expected > torch.finfo(torch.float16).max
    assert trace.series("gradient_norm").values.item() == pytest.approx(expected, rel=1e-6)


def test_a_closure_that_clips_shows_both_norms() -> None:
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=3)
    norms: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(torch.ones(6, 3)).square().sum()
        loss.backward()
        norms.append(norm_of(model))
        clip(model, 0.01)
        return loss

    with watch(model, optimizer=optimizer) as trace:
        optimizer.step(closure)
    assert trace.series("raw_gradient_norm").values.item() == pytest.approx(norms[0], rel=2e-6)
    assert trace.series("gradient_norm").values.item() == pytest.approx(0.01, rel=1e-4)  # clip_grad_norm_ adds 1e-6
