"""Mixed precision: gradients are recorded unscaled, wherever the scaler unscales them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.watching import Trace, WatchWarning, watch

SCALE = 2.0**10


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)))


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), 0.01)


def fused(net: nn.Module) -> torch.optim.Optimizer:
    """Takes the scale out of the gradients itself, inside step()."""
    return torch.optim.Adam(net.parameters(), 0.01, fused=True)


def train(
    dtype: torch.dtype,
    scale: float | None,
    build: Callable[[nn.Module], torch.optim.Optimizer] = sgd,
    *,
    unscales: bool = False,
    gives_optimizer: bool = True,
    spoils: int | None = None,
) -> Trace:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net()
    optimizer = build(net)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, growth_interval=2, enabled=scale is not None)
    options: dict[str, Any] = {"optimizer": optimizer} if gives_optimizer else {}
    with watch(net, scaler=scaler, quantities=["mean", "abs_max", "norm", "inf"], **options) as trace:
        for step in range(4):
            optimizer.zero_grad()
            x = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
            with torch.autocast("cpu", dtype):
                loss = F.mse_loss(net(x).float(), torch.ones(6, 2))
            if step == spoils:
                loss = loss * torch.inf
            scaler.scale(loss).backward()
            if unscales:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(net.parameters(), 1e9)
            scaler.step(optimizer)
            scaler.update()
    return trace


WAYS: dict[str, dict[str, Any]] = {
    "in scaler.step": {},
    "in scaler.unscale_": {"unscales": True},
    "inside the optimizer": {"build": fused},
    "before a fused optimizer": {"build": fused, "unscales": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gradients_are_those_of_the_plain_loss(dtype: torch.dtype, way: str) -> None:
    """The scale is a power of two and grows on the way (2**10, 2**11): taking it out again costs nothing."""
    scaled, plain = train(dtype, SCALE, **WAYS[way]), train(dtype, None, **WAYS[way])
    assert scaled.steps == plain.steps == [0, 1, 2, 3]
    # In float16 the plain gradients, about 1e-4, are short of digits; the scaled ones are not.
    rtol = 1e-6 if dtype is torch.bfloat16 else 2e-2
    for kind in ("gradient", "parameter_gradient"):
        for quantity in ("abs_max", "norm") if kind == "parameter_gradient" else ("abs_max", "mean"):
            ours, theirs = scaled.series(quantity, kind), plain.series(quantity, kind)  # type: ignore[arg-type]
            assert ours.names == theirs.names
            np.testing.assert_allclose(ours.values, theirs.values, rtol, 1e-6, err_msg=f"{quantity} of {kind}")
            if quantity != "mean":
                assert (ours.values > 0).all()


def test_without_an_optimizer_activations_gradients_are_unscaled_too() -> None:
    scaled, plain = (train(torch.bfloat16, scale, gives_optimizer=False) for scale in (SCALE, None))
    ours, theirs = scaled.series("abs_max", "gradient"), plain.series("abs_max", "gradient")
    assert ours.steps.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(ours.values, theirs.values, 1e-6)


def test_an_unknown_scale_is_warned_of_once() -> None:
    net = Net()

    def loop() -> None:
        for _ in range(3):
            with torch.autocast("cpu", torch.float16):
                y = net(torch.ones(2, 4))
            y.float().sum().backward()

    with pytest.warns(WatchWarning, match="pass it as scaler=") as warned, watch(net):
        loop()
    assert len(warned) == 1


def test_a_step_the_scaler_skips_counts_with_the_one_after_it() -> None:
    trace = train(torch.bfloat16, SCALE, spoils=1)
    assert trace.steps == [0, 1, 2]
    assert trace.failure is None
    infinite = trace.series("inf", "gradient").values
    assert (infinite[:, 1] > 0).all()
    assert (infinite[:, [0, 2]] == 0).all()
    assert np.isfinite(trace.series("norm", "parameter_gradient").values).all()
