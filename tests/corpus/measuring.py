"""Float64 measurement of a training run with explicit hooks, independent of `thruway.watching`."""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tests.corpus.case import Case
from tests.corpus.running import seeded

ROOT = "(root)"  # the name of the whole model


@dataclass
class Record:
    """Numbers of one run in float64.

    Outputs and gradients are kept as tensors, by step and by name of the module; a module that is called again in the
    same step has the names "name#2", "name#3", ...
    """

    losses: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)  # of the same batch, after the step; only if requested
    outputs: list[dict[str, Tensor]] = field(default_factory=list)
    gradients: list[dict[str, Tensor]] = field(default_factory=list)  # of the loss with respect to the outputs
    weights: list[dict[str, Tensor]] = field(default_factory=list)  # before the first step, then after every step
    weight_gradients: list[dict[str, Tensor | None]] = field(default_factory=list)  # as the optimizer saw them

    @property
    def end(self) -> float:
        """The mean loss of the last tenth of the steps; infinite if any loss of the run is not finite."""
        if not all(map(math.isfinite, self.losses)):
            return math.inf
        tail = self.losses[-max(1, len(self.losses) // 10) :]
        return sum(tail) / len(tail)

    @property
    def fall(self) -> float:
        """The share of the first loss by which the loss has fallen; negative if it has risen, or is not finite."""
        return (self.losses[0] - self.end) / abs(self.losses[0])


@contextlib.contextmanager
def _hooks(model: nn.Module, record: Record) -> Iterator[Callable[[], None]]:
    """Fill `record` from forward hooks on all modules. The yielded function begins a new step."""
    calls: dict[str, int] = {}

    def begin() -> None:
        calls.clear()
        record.outputs.append({})
        record.gradients.append({})

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def capture(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            if not (isinstance(tensor, Tensor) and torch.is_grad_enabled()):
                return
            calls[name] = calls.get(name, 0) + 1
            site = name if calls[name] == 1 else f"{name}#{calls[name]}"
            record.outputs[-1][site] = tensor.detach()
            if tensor.requires_grad:
                gradients = record.gradients[-1]
                tensor.register_hook(lambda gradient: gradients.__setitem__(site, gradient.detach()))

        return capture

    handles = [m.register_forward_hook(hook(name or ROOT)) for name, m in model.named_modules()]
    try:
        yield begin
    finally:
        for handle in handles:
            handle.remove()


def measure(case: Case, seed: int, *, after: bool = False, steps: int | None = None) -> Record:
    """Train a case in float64 and return what was measured; with `after`, also every batch's loss after its step."""
    training, record = case.training(seed, torch.float64), Record()
    if steps is not None:
        training.batches = training.batches[:steps]
    model = case.watched(training.model)
    record.weights.append(_copies(model))
    with warnings.catch_warnings(), seeded(training), _hooks(model, record) as begin:
        warnings.simplefilter("ignore")
        begin()
        for step, loss in enumerate(case.loop(training)):
            record.losses.append(loss)
            record.weights.append(_copies(model))
            record.weight_gradients.append(
                {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
            )
            if after:
                with torch.no_grad(), torch.random.fork_rng():
                    record.after.append(training.on(training.batches[step]).item())
            begin()
    record.outputs.pop(), record.gradients.pop()
    return record


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def rms(x: Tensor) -> float:
    return x.double().pow(2).mean().sqrt().item()


def dependence(x: Tensor) -> float:
    """Return the share of the second moment that depends on the input, 1 - ||E h||² / E||h||², in [0, 1].

    0 means that the output is the same for every input. Leading dimensions but the first count as units.
    """
    x = x.double().flatten(1)
    total = x.pow(2).sum(1).mean()
    return 0.0 if total == 0 else (1 - x.mean(0).pow(2).sum() / total).item()


def cosine(x: Tensor) -> float:
    """Return the mean cosine between the representations of different inputs."""
    x = torch.nn.functional.normalize(x.double().flatten(1), dim=1)
    count = len(x)
    return ((x.sum(0).pow(2).sum() - count) / (count * (count - 1))).item()


def always_zero(outputs: list[Tensor]) -> Tensor:
    """Return, per unit (channel for images, else last dimension), True if it was zero for all samples."""
    units = [x.transpose(1, -1).flatten(0, -2) if x.dim() >= 4 else x.flatten(0, -2) for x in outputs]
    samples = torch.cat(units)
    assert len(samples) >= 512, f"{len(samples)} samples are too few for a statement about units"
    return (samples == 0).all(0)
