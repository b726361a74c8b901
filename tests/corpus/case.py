"""A case of the corpus: a small training run, its label, and the proof of the label.

A case is a table entry. Its functions take a `Draw`, which turns the seed into initial weights, data order and small
changes of depth, width and learning rate. The same case therefore is a different run for every seed.
"""

import dataclasses
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

TUNING_SEEDS = (0, 1, 2, 3, 4)
HELD_OUT_SEEDS = (5, 6, 7, 8, 9)

SYMPTOMS = (
    "vanishing_gradient",
    "exploding_gradient",
    "exploding_activation",
    "poor_init",
    "saturated",
    "dead_units",
    "dying_relu",
    "symmetric_init",
    "frozen_parameters",
    "nan_or_inf",
    "lr_too_high",
    "lr_too_low",
    "rank_collapse",
    "gates_shut",
    "gates_open",
    "gradients_accumulate",
    "double_softmax",
    "constant_output",
    "unscaled_input",
    "gate_bias_not_negative",
    "diverging",
)

Batch = tuple[Tensor, Tensor]  # inputs and targets


@dataclass(frozen=True)
class Draw:
    """Random choices of one case and seed. Each choice has a name, so that adding one changes no other."""

    case: str
    seed: int

    def _random(self, name: str) -> random.Random:
        return random.Random(f"{self.case}/{self.seed}/{name}")

    def integer(self, name: str, low: int, high: int) -> int:
        """Return an integer in [low, high]."""
        return self._random(name).randint(low, high)

    def near(self, name: str, value: float, factor: float = 1.25) -> float:
        """Return a number between value / factor and value * factor, uniform in its logarithm."""
        return value * factor ** self._random(name).uniform(-1, 1)

    def generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.number(name))

    def number(self, name: str) -> int:
        """Return a seed for a generator."""
        return zlib.crc32(f"{self.case}/{self.seed}/{name}".encode())


@dataclass
class Training:
    """A training run that has not begun: what a loop needs."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: list[Batch]
    loss: Callable[[nn.Module, Batch], Tensor]
    draw: Draw
    losses: list[float] = field(default_factory=list)

    def on(self, batch: Batch) -> Tensor:
        return self.loss(self.model, batch)


# A loop yields the loss of every optimizer step, after the step.
Loop = Callable[[Training], Iterator[float]]
Proof = Callable[[Any], None]  # of the Evidence; raises WrongLabelError if the label is not true


class WrongLabelError(AssertionError):
    """A label that the float64 computation does not confirm."""


def plain(training: Training) -> Iterator[float]:
    """Step through the batches: zero_grad, forward, backward, step."""
    for batch in training.batches:
        training.optimizer.zero_grad()
        loss = training.on(batch)
        loss.backward()
        training.optimizer.step()
        yield loss.item()


@dataclass(frozen=True)
class Case:
    """A labelled training run.

    Args:
        name: unique name; the family's table contains it.
        family: "mlp", "cnn", "recurrent", "transformer", "gan", "autoencoder", "highway" or "residual".
        build: function that returns the model; PyTorch's global generator is seeded.
        data: function that returns the batches, one per step.
        loss: function of the model and a batch.
        optimizer: function that returns the optimizer of the watched model.
        loop: generator function with the training loop; its quirks are the fault of some cases.
        symptoms: rule ids that are acceptable as the primary finding, the best one first. None if the run is healthy.
        also: rule ids that are true effects of the fault, and neither counted for a diagnoser nor against it.
        sites: patterns (fnmatch) of the modules or parameters at fault. None if the whole network is.
        onset: first and last step that are right answers to "since when".
        tempting: for a healthy run, the naive rule that accuses it.
        source: for a published fault, where it was described.
        watched: the part of the model that is watched, if not all of it.
        proof: function of the float64 `Evidence` that raises WrongLabelError if the label is not true.
        cure: fields to replace, with which the fault is absent. Proofs compare the two runs.
    """

    name: str
    family: str
    build: Callable[[Draw], nn.Module]
    data: Callable[[Draw], list[Batch]]
    loss: Callable[[nn.Module, Batch], Tensor]
    optimizer: Callable[[Draw, nn.Module], torch.optim.Optimizer]
    proof: Proof
    loop: Loop = plain
    symptoms: tuple[str, ...] = ()
    also: frozenset[str] = frozenset()
    sites: tuple[str, ...] = ()
    onset: tuple[int, int] = (0, 0)
    tempting: str = ""
    source: str = ""
    watched: Callable[[nn.Module], nn.Module] = lambda model: model
    cure: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = {*self.symptoms, *self.also} - set(SYMPTOMS)
        assert not unknown, f"{self.name}: unknown symptoms {sorted(unknown)}"
        assert bool(self.tempting) != bool(self.symptoms), f"{self.name}: healthy cases, and only these, are tempting"

    @property
    def accepted(self) -> frozenset[str]:
        return frozenset(self.symptoms)

    @property
    def is_healthy(self) -> bool:
        return not self.symptoms

    def training(self, seed: int, dtype: torch.dtype = torch.float32) -> Training:
        """Return the run for a seed. In float64 it has the same initial weights and data."""
        draw = Draw(self.name, seed)
        with torch.random.fork_rng():
            torch.manual_seed(draw.number("weights"))
            model = self.build(draw).to(dtype)
        batches = [(as_dtype(x, dtype), as_dtype(y, dtype)) for x, y in self.data(draw)]
        return Training(model, self.optimizer(draw, model), batches, self.loss, draw)

    def cured(self) -> "Case":
        """Return the case without its fault."""
        assert self.cure, f"{self.name} has no cure"
        return dataclasses.replace(self, **self.cure)


def as_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype) if x.is_floating_point() else x
