"""The quadratic cost of a classifier has more plateaus than its cross-entropy.

Paper     Glorot & Bengio 2010, sec. 4.1 and fig. 5
Protocol  a network with one hidden layer of tanh units and softmax outputs, with random weights, inputs and labels; two
          of its weights, one per layer, are varied over a square grid, on which both costs and their gradients with
          respect to the two weights are computed
Claims    the quadratic cost is flat on a larger share of the square, in nearly every draw, and also where the network
          is no better than guessing
Measured  results/glorot2010.cost_surface-laptop: all 3 claims hold, for weights up to 8
Cost      demo: ten seconds on one core; laptop: half a minute; paper: the same with more draws
Differs   the sizes of the network, the data and the square, and the definition of a plateau, are ours: the paper shows
          one surface and does not state them
"""

import math
import time
from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from thruway.experiments.machinery import Progress
from thruway.runs import Run
from thruway.seeding import generator

__all__ = [
    "SCALES",
    "Config",
    "Cost",
    "Draw",
    "RandomNet",
    "Surface",
    "axis_of",
    "draw_net",
    "draws_of",
    "flat_share",
    "guessing_cost",
    "is_flat",
    "prepare",
    "run_study",
    "stuck_share",
    "surfaces",
]

Cost = Literal["cross-entropy", "quadratic"]


class Config(BaseModel):
    """Settings that determine the results of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Literal["demo", "laptop", "paper"] = "demo"
    """demo: seconds; laptop: a minute; paper: more draws on a finer grid. Sets the defaults of the other options."""
    inputs: int = Field(default=4, ge=1)
    hidden: int = Field(default=4, ge=1)
    """Number of tanh units in the hidden layer."""
    classes: int = Field(default=4, ge=2)
    examples: int = Field(default=20, ge=1)
    """Number of random inputs with random labels."""
    reaches: tuple[float, ...] = Field(default=(2.0, 4.0, 8.0, 16.0), min_length=1)
    """Each value gives a square on which both weights go from -reach to reach."""
    reach: float = Field(default=8.0, gt=0)
    """The square that is plotted and used by the claims; one of `reaches`."""
    fractions: tuple[float, ...] = Field(default=(0.03, 0.1, 0.2), min_length=1)
    """A point is flat if the norm of its gradient is below this fraction of the largest norm on the surface."""
    fraction: float = Field(default=0.1, gt=0, lt=1)
    """The fraction that the claims use; one of `fractions`."""
    points: int = Field(default=61, ge=5, le=2001)
    """Number of grid points along each side of the square."""
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=3, ge=1)
    """Number of independent sets of draws, with seeds seed, seed + 1, ...; a definite verdict requires three."""
    draws: int = Field(default=20, ge=1)
    """Number of random networks with their data in each set."""
    device: str = "cpu"

    @model_validator(mode="after")
    def _can_be_run(self) -> "Config":
        for one, several in (("reach", "reaches"), ("fraction", "fractions")):
            known = getattr(self, several)
            if getattr(self, one) not in known:
                raise ValueError(f"{one} is one of {several}, {known}, got {getattr(self, one)}")
            if len(set(known)) < len(known) or not all(0 < each < math.inf for each in known):
                raise ValueError(f"{several} are different numbers above 0, got {known}")
        if max(self.fractions) >= 1:
            raise ValueError(f"fractions are shares below 1, got {self.fractions}")
        return self


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(scale="laptop", draws=100),
    "paper": Config(scale="paper", draws=300, points=101),
}


class Draw(NamedTuple):
    """One random network with its data."""

    seed: int
    number: int  # within its set, from 0
    member: int  # its number in the run's series


def draws_of(config: Config) -> list[Draw]:
    """Return all draws of a run, set by set.

    >>> draws_of(Config(seed=7, seeds=2, draws=2))[-1]
    Draw(seed=8, number=1, member=3)
    """
    members = range(config.seeds * config.draws)
    return [Draw(config.seed + member // config.draws, member % config.draws, member) for member in members]


# --- the network and its two costs


class RandomNet(NamedTuple):
    """The network softmax(W2^T tanh(W1^T x)) and its data; all float64."""

    first: Tensor  # W1, (inputs, hidden)
    second: Tensor  # W2, (hidden, classes)
    inputs: Tensor  # (examples, inputs)
    labels: Tensor  # (examples,), int64


class Surface(NamedTuple):
    """A cost over a grid; the rows are values of the second layer's weight, the columns values of the first layer's."""

    cost: Tensor
    slope: Tensor  # norm of the gradient with respect to the two weights


def draw_net(config: Config, generator: torch.Generator) -> RandomNet:
    """Draw Gaussian inputs of variance 1, Gaussian weights of variance 1 / fan-in, and uniform labels."""
    kind = {"generator": generator, "dtype": torch.float64}
    first = torch.randn(config.inputs, config.hidden, **kind) / math.sqrt(config.inputs)  # type: ignore[call-overload]
    second = torch.randn(config.hidden, config.classes, **kind) / math.sqrt(config.hidden)  # type: ignore[call-overload]
    inputs = torch.randn(config.examples, config.inputs, **kind)  # type: ignore[call-overload]
    labels = torch.randint(config.classes, (config.examples,), generator=generator)
    return RandomNet(*(each.to(config.device) for each in (first, second, inputs, labels)))


def surfaces(net: RandomNet, axis: Tensor) -> dict[Cost, Surface]:
    """Compute both costs for every pair of values of W1[0, 0] and W2[0, 0] from `axis`.

        cross-entropy   -log p_y                mean over examples, nats
        quadratic       |p - onehot(y)|^2       mean over examples

    Args:
        net: the network and its data.
        axis: values of each of the two weights, (points,).
    Returns:
        Costs and slopes, (points, points).
    Source:
        Glorot & Bengio 2010, sec. 4.1, fig. 5.

    >>> config = Config(inputs=2, hidden=2, classes=2, examples=3)
    >>> found = surfaces(draw_net(config, torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 5))
    >>> {name: tuple(each.cost.shape) for name, each in found.items()}
    {'cross-entropy': (5, 5), 'quadratic': (5, 5)}
    """
    axis = axis.to(net.first)
    # A weight per point of the grid: the points do not mix, so one backward pass gives the gradient at each of them.
    shape = (len(axis), len(axis))
    second, first = (each.clone().requires_grad_() for each in (axis[:, None].expand(shape), axis.expand(shape)))
    log_p = F.log_softmax(_outputs(net, first, second), dim=-1)
    wanted = F.one_hot(net.labels, net.second.shape[1]).to(log_p)
    costs: dict[Cost, Tensor] = {
        "cross-entropy": -(log_p * wanted).sum(-1).mean(-1),
        "quadratic": (log_p.exp() - wanted).square().sum(-1).mean(-1),
    }
    found: dict[Cost, Surface] = {}
    for name, cost in costs.items():
        gradients = torch.autograd.grad(cost.sum(), (first, second), retain_graph=True)
        found[name] = Surface(cost.detach(), torch.hypot(*gradients))
    return found


def _outputs(net: RandomNet, first: Tensor, second: Tensor) -> Tensor:
    """Return the outputs, (points, points, examples, classes); only the first one depends on both weights."""
    fixed = net.inputs @ net.first
    unit = torch.tanh(fixed[:, 0] + net.inputs[:, 0] * (first[..., None] - net.first[0, 0]))
    others = torch.tanh(fixed[:, 1:]) @ net.second[1:]
    to_first = unit * second[..., None]
    return others + torch.cat([to_first[..., None], unit[..., None] * net.second[0, 1:]], dim=-1)


def guessing_cost(cost: Cost, classes: int) -> float:
    """Return the cost of predicting all classes with equal probability.

    >>> guessing_cost("quadratic", 4)
    0.75
    """
    return math.log(classes) if cost == "cross-entropy" else 1 - 1 / classes


# --- plateaus; independent of the scale of the cost


def is_flat(surface: Surface, fraction: float) -> Tensor:
    """Return a mask of the points whose gradient norm is less than `fraction` times the largest norm.

    If the largest norm is 0, all points are flat.
    """
    steepest = surface.slope.max()
    return (surface.slope < fraction * steepest) | (steepest == 0)


def flat_share(surface: Surface, fraction: float) -> float:
    """Return the share of the surface that is flat (ours).

    >>> flat_share(Surface(torch.zeros(2, 2), torch.tensor([[1.0, 10.0], [0.5, 20.0]])), 0.1)
    0.5
    """
    return float(is_flat(surface, fraction).double().mean())


def stuck_share(surface: Surface, fraction: float, guessing: float) -> float:
    """Return the share of the surface that is flat and not below the cost of guessing: plateaus, not minima (ours).

    >>> surface = Surface(torch.tensor([[0.1, 2.0], [3.0, 3.0]]), torch.tensor([[0.0, 10.0], [0.5, 20.0]]))
    >>> stuck_share(surface, 0.1, guessing=1.0)
    0.25
    """
    return float((is_flat(surface, fraction) & (surface.cost >= guessing)).double().mean())


# --- the run


def prepare(config: Config) -> None:
    """Do nothing, since networks and data are drawn during the run."""


def axis_of(config: Config, reach: float) -> Tensor:
    """Return the values of each of the two weights, (points,), float64."""
    return torch.linspace(-reach, reach, config.points, dtype=torch.float64)


def run_study(config: Config, _prepared: None, run: Run, progress: Progress) -> None:
    """Measure every set of draws that the run folder does not have yet.

    A set is stored only as a whole. The first set is stored with the surfaces of its first draw.
    """
    done = run.checkpoints()
    left = [draw for draw in draws_of(config) if f"draws-{draw.seed}" not in done]
    progress.begin(len(left))
    shown: dict[str, Tensor] = {}
    started = time.monotonic()
    for draw in left:
        found = _measure(config, draw, run)
        if draw.member == 0:
            shown = found
        if draw.number == config.draws - 1:
            run.log(0, {"seconds": time.monotonic() - started}, site="draws", member=draw.seed)
            run.save(f"draws-{draw.seed}", shown)
            shown, started = {}, time.monotonic()
        progress.advance(1, f"seed {draw.seed}, draw {draw.number + 1}")


def _measure(config: Config, draw: Draw, run: Run) -> dict[str, Tensor]:
    """Log the flat shares of both costs of one network on every square; return the costs on the square `reach`."""
    net = draw_net(config, generator(draw.seed, "net", draw.number))
    shown: dict[str, Tensor] = {}
    for reach in config.reaches:
        for name, surface in surfaces(net, axis_of(config, reach)).items():
            guessing = guessing_cost(name, config.classes)
            shares = {}
            for fraction in config.fractions:
                shares[f"flat/{fraction:g}"] = flat_share(surface, fraction)
                shares[f"stuck/{fraction:g}"] = stuck_share(surface, fraction, guessing)
            run.log(0, shares, site=f"{name}/{reach:g}", member=draw.member)
            if reach == config.reach:
                shown[name] = surface.cost
    return shown
