"""Nets in training, with the spread of their weight gradients watched."""

import dataclasses
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.experiments.experiment import Progress
from thruway.experiments.glorot2010.initialization import Config, Scheme
from thruway.experiments.glorot2010.initialization_data import Parts
from thruway.experiments.glorot2010.initialization_nets import build_net
from thruway.experiments.glorot2010.initialization_start import Under
from thruway.runs import Run
from thruway.seeding import generator
from thruway.watching import QUANTITIES, watch

__all__ = ["Training", "train_net", "trained_widths", "updates_made"]

# A checkpoint at least this often; what a kill -9 can cost.
_SAVE_EVERY_S = 30.0
_DRAWN_AT_ONCE = 1000  # examples: drawn a few at a time, Shapeset costs more than training on them

_WEIGHT_GRADIENT_STD = dataclasses.replace(QUANTITIES["std"], kinds=("parameter_gradient",))


class Training(NamedTuple):
    """One net to train."""

    scheme: Scheme
    seed: int

    @property
    def site(self) -> str:
        """Where its numbers stand in the series; the sites of its layers are below."""
        return f"training/{self.scheme}"

    @property
    def name(self) -> str:
        """The name of its checkpoint."""
        return f"training-{self.scheme}-{self.seed}"


def trained_widths(config: Config, parts: Parts) -> tuple[int, ...]:
    """Inputs and units of each hidden layer of the nets that are trained."""
    return (parts.inputs, *(config.trained_width,) * config.depth)


def updates_made(training: Training, run: Run) -> int:
    """Updates of this net that need not be made again."""
    return int(_state_of(training, run)["updates"])


def train_net(config: Config, training: Training, parts: Parts, run: Run, progress: Progress, cost: float) -> None:
    """Train one net to the end by plain SGD, from its checkpoint if there is one.

    Every sampled update logs the standard deviation of the gradient of each weight matrix, and the loss, both of that
    update's batch.

    Args:
        cost: of one update, for `progress`.
    """
    weights = generator(training.seed, "weights", "trained")
    model = build_net(trained_widths(config, parts), parts.classes, "tanh", training.scheme, weights)
    model = model.to(config.device)
    state = _state_of(training, run)
    update, seconds = int(state["updates"]), float(state["seconds"])
    if update:
        model.load_state_dict(run.load(training.name).tensors)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate)
    batches = _Batches(config, training.seed, parts)
    sink, stride = Under(run, training.site, training.seed), config.stride
    started = saved_at = time.monotonic()
    # Sampled by the update's number, so that a resumed training meets the same updates. The run has all numbers:
    # the trace need not keep many.
    watcher = watch(
        model,
        lambda step: step % stride == 0,
        [_WEIGHT_GRADIENT_STD],
        optimizer,
        sink,
        first_step=update,
        memory=1 << 16,
    )
    with watcher:
        while update < config.updates:
            images, labels = batches.of(update)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if update % stride == 0:
                run.log(update, {"loss": loss.item()}, site=training.site, member=training.seed)
            update += 1
            if update % stride or update == config.updates:
                continue
            spent = seconds + time.monotonic() - started
            if time.monotonic() - saved_at > _SAVE_EVERY_S:
                _save(training, model, run, update, spent)
                saved_at = time.monotonic()
            try:
                progress.advance(cost * stride, f"{training.site}, seed {training.seed}, update {update:,}")
            except KeyboardInterrupt:
                _save(training, model, run, update, spent)
                raise
    seconds += time.monotonic() - started
    run.log(config.updates, {"seconds": seconds}, site=training.site, member=training.seed)
    _save(training, model, run, update, seconds)


class _Batches:
    """The batch of each update, drawn many at a time."""

    def __init__(self, config: Config, seed: int, parts: Parts) -> None:
        self._source, self._seed, self._batch = parts.source, seed, config.batch
        self._at_once = max(1, _DRAWN_AT_ONCE // config.batch)
        self._first = -self._at_once  # the update whose batch is the first of those drawn
        self._drawn: tuple[Tensor, Tensor]

    def of(self, update: int) -> tuple[Tensor, Tensor]:
        first = update // self._at_once * self._at_once
        if first != self._first:
            self._first = first
            self._drawn = self._source.draw(self._seed, first * self._batch, self._at_once * self._batch)
        start = (update - first) * self._batch
        images, labels = self._drawn
        return images[start : start + self._batch], labels[start : start + self._batch]


def _save(training: Training, model: nn.Module, run: Run, update: int, seconds: float) -> None:
    run.save(training.name, model.state_dict(), state={"updates": update, "seconds": seconds})


def _state_of(training: Training, run: Run) -> dict[str, Any]:
    state: dict[str, Any] = {"updates": 0, "seconds": 0.0}
    found = run.load(training.name).state if training.name in run.checkpoints() else None
    return state | (found or {})
