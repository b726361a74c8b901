"""Short training of a smaller model, so that it behaves like the full one again."""

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from thruway.dissecting.errors import DissectError
from thruway.dissecting.tracing.arguments import as_call
from thruway.dissecting.tracing.structure import reachable_tensors
from thruway.errors import ConfigError
from thruway.progress import show_progress

__all__ = ["Healing", "heal"]

_CLIP = 1.0  # L2 norm of the gradient
_WARM_UP = 0.05  # share of the steps

Batch = tuple[Any, Any]


@dataclass(frozen=True, eq=False)
class Healing:
    """A healed model and its losses.

    Attributes:
        model: the model at the best step, in the mode of the one that was passed.
        losses: training loss of every step.
        points: steps before which the loss on the held-out batches was measured, the first of them 0.
        held_out: this loss.
        best: the step with the lowest of these losses.
    """

    model: nn.Module
    losses: tuple[float, ...]
    points: tuple[int, ...]
    held_out: tuple[float, ...]
    best: int

    def __repr__(self) -> str:
        return (
            f"Healing of {type(self.model).__name__}: loss on held-out batches {self.held_out[0]:.4g} before, "
            f"{min(self.held_out):.4g} after {self.best} of {len(self.losses)} steps"
        )


def heal(
    small: nn.Module,
    teacher: nn.Module,
    batches: Iterable[Batch],
    held_out: Sequence[Batch],
    *,
    loss: str | Callable[[Any, Any], Tensor] = "distil",
    steps: int = 200,
    lr: float = 1e-3,
    every: int = 20,
    patience: int = 5,
    progress: bool = False,
) -> Healing:
    """Train a smaller model for a few steps to give the outputs of the full one, or to do the task.

    Neither model is changed: the training is that of a copy, with AdamW, a cosine schedule and clipped gradients. It
    stops early when the loss on the held-out batches no longer falls, and returns the parameters of the best step.

    Args:
        small: the smaller model, for example from `Dissection.remove`.
        teacher: the full model; it runs in evaluation mode.
        batches: pairs (inputs, targets), repeated if there are fewer than `steps`.
        held_out: pairs that are not trained on.
        loss: "distil" for the squared difference of the outputs, relative to the variance of the teacher's; or a
            function of (output, targets).
        steps: number of steps.
        lr: largest learning rate.
        every: number of steps between measurements on the held-out batches.
        patience: number of measurements without a new lowest loss after which the training stops.
        progress: show the progress on stderr.
    Raises:
        ConfigError: if an argument is invalid, or the models return different outputs.
        DissectError: if the loss becomes NaN or infinite.
    Source:
        Hinton et al. 2015 (Distilling the knowledge in a neural network), here with the outputs themselves.

    >>> from thruway.networks import mlp
    >>> from thruway.dissecting import dissect, heal
    >>> net = mlp("residual", depth=6, width=8, inputs=4, classes=2, generator=torch.Generator().manual_seed(0))
    >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    >>> small = dissect(net, x).remove(1, 3)
    >>> healed = heal(small, net, [(x[:32], None)], [(x[32:], None)], steps=50)
    >>> min(healed.held_out) < healed.held_out[0]
    True
    """
    numbers = {"steps": steps, "every": every, "patience": patience}
    wrong = next((n for n, v in numbers.items() if isinstance(v, bool) or not isinstance(v, int) or v < 1), None)
    if wrong is not None:
        raise ConfigError(f"{wrong} must be a whole number of at least 1, got {numbers[wrong]!r}.")
    if not lr > 0 or not math.isfinite(lr):
        raise ConfigError(f"lr must be a number above 0, got {lr!r}.")
    if loss != "distil" and not callable(loss):
        raise ConfigError(f"loss must be 'distil' or a function of (output, targets), got {loss!r}.")
    training, kept = list(itertools.islice(batches, steps)), list(held_out)
    if not training or not kept:
        raise ConfigError("batches and held_out must each have at least one pair (inputs, targets).")
    model, modes = copy.deepcopy(small), {module: module.training for module in teacher.modules()}
    teacher.eval()
    try:
        return _healed(model, teacher, training, kept, loss, steps, lr, every, patience, progress, small.training)
    finally:
        for module, mode in modes.items():
            module.training = mode


def _healed(
    model: nn.Module,
    teacher: nn.Module,
    batches: Sequence[Batch],
    held_out: Sequence[Batch],
    loss: str | Callable[[Any, Any], Tensor],
    steps: int,
    lr: float,
    every: int,
    patience: int,
    progress: bool,
    mode: bool,
) -> Healing:
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ConfigError(f"{type(model).__name__} has no parameter that can be trained.")
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    losses: list[float] = []
    points: list[int] = []
    curve: list[float] = []
    best: dict[str, Tensor] = {}
    with torch.enable_grad(), show_progress("heal", steps, progress) as advance:
        for step in range(steps + 1):
            if step % every == 0 or step == steps:
                points.append(step)
                curve.append(_mean_loss(model, teacher, held_out, loss))
                if len(curve) == 1 or curve[-1] < min(curve[:-1]):
                    best = {name: t.detach().clone() for name, t in model.state_dict().items()}
                elif len(curve) - 1 - curve.index(min(curve)) >= patience:
                    break
            if step == steps:
                break
            model.train()
            optimizer.zero_grad()
            value = _loss(model, teacher, batches[step % len(batches)], loss)
            losses.append(float(value.detach()))
            if not math.isfinite(losses[-1]):
                raise DissectError(
                    f"the loss is {losses[-1]} at step {step} of healing, with lr={lr:g}. Lower lr, or look at the "
                    "data."
                )
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, _CLIP)
            optimizer.step()
            schedule.step()
            advance(1)
    model.load_state_dict(best)
    model.zero_grad(set_to_none=True)
    return Healing(model.train(mode), tuple(losses), tuple(points), tuple(curve), points[curve.index(min(curve))])


def _rate(step: int, steps: int) -> float:
    """Return the share of the largest learning rate: a linear warm-up, then a cosine."""
    warm = max(1, round(_WARM_UP * steps))
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _mean_loss(
    model: nn.Module, teacher: nn.Module, batches: Sequence[Batch], loss: str | Callable[[Any, Any], Tensor]
) -> float:
    model.eval()
    with torch.no_grad():
        values = [float(_loss(model, teacher, batch, loss)) for batch in batches]
    if not all(map(math.isfinite, values)):
        raise DissectError("the loss on the held-out batches is NaN or infinite. Lower lr, or look at the data.")
    return sum(values) / len(values)


def _loss(model: nn.Module, teacher: nn.Module, batch: Batch, loss: str | Callable[[Any, Any], Tensor]) -> Tensor:
    inputs, targets = batch
    args, kwargs = as_call(inputs)
    output = model(*args, **kwargs)
    if callable(loss):
        return loss(output, targets)
    with torch.no_grad():
        expected = _floating(teacher(*args, **kwargs))
    ours = _floating(output)
    if [t.shape for t in ours] != [t.shape for t in expected] or not ours:
        raise ConfigError(
            f"the outputs of the two models have the shapes {[tuple(t.shape) for t in ours]} and "
            f"{[tuple(t.shape) for t in expected]}. Pass a loss of (output, targets)."
        )
    parts = [
        (a.float() - b.float()).square().mean() / b.float().var(correction=0).clamp(min=1e-12)
        for a, b in zip(ours, expected, strict=True)
    ]
    return torch.stack(parts).mean()


def _floating(output: Any) -> list[Tensor]:
    return [tensor for tensor in reachable_tensors(output) if tensor.is_floating_point()]
