"""With standard initialization activations shrink upwards and gradients downwards; with normalized they do not.

Paper     Glorot & Bengio 2010, sec. 4.2: figs. 6 to 9, eqs. 4 to 7 and 13 to 17
Protocol  tanh networks of five hidden layers, biases 0, weights by eq. 1 ("standard") or eq. 16 ("normalized"); spread
          of activations, back-propagated gradients and weight gradients before training, on 300 held-out examples,
          compared with the predictions of the equations; mean singular value of each layer's Jacobian; the spread of
          weight gradients while plain SGD trains on batches of ten
Claims    some quantities shrink from layer to layer and others stay level; the equations are exact for a linear
          activation (initialization_claims.py)
Measured  results/glorot2010.initialization-laptop: all 13 claims hold
Cost      demo: half a minute on one core; laptop: three minutes; paper: requires a GPU
Differs   learning rate, number of seeds and number of updates (the paper states none of them); the report lists all
          differences
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from thruway.errors import ShapeError
from thruway.experiments.glorot2010 import streams
from thruway.experiments.glorot2010.streams import Parts, StreamConfig

__all__ = [
    "MEAN_SINGULAR_VALUE",
    "SCALES",
    "SCHEMES",
    "VARIANCES",
    "Config",
    "Net",
    "Predicted",
    "Scheme",
    "Shape",
    "load_parts",
    "predict",
    "sampling_error",
    "start_nets",
]

Scheme = Literal["standard", "normalized"]
Shape = Literal["equal", "growing", "shrinking"]

SCHEMES: dict[Scheme, str] = {"standard": "standard", "normalized": "glorot_uniform"}
"""Maps the paper's name of an initialization to the key of thruway.init.SCHEMES."""


class Config(StreamConfig):
    """Settings that determine the results of a run."""

    probe: int = Field(default=300, ge=10)
    """Number of held-out images on which the networks are measured before training."""
    depth: int = Field(default=5, ge=3)
    """Number of hidden layers."""
    width: int = Field(default=250, ge=4)
    """Number of units per hidden layer of the measured networks; of the middle layer in growing or shrinking ones."""
    shapes: tuple[Shape, ...] = Field(default=("equal", "growing", "shrinking"), min_length=1)
    """Kinds of measured networks: equally wide layers, or layers that get wider or narrower from the input on."""
    taper: float = Field(default=4.0, gt=1, lt=1000)
    """Ratio of the widest to the narrowest layer of a growing or shrinking network. Widths form a geometric series."""
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=3, ge=1)
    """Number of measured networks of each kind, with seeds seed, seed + 1, ...; a definite verdict requires three."""
    singles: int = Field(default=5, ge=1)
    """Number of held-out images that are measured one by one, for the Jacobians of layers and for eq. 7."""
    trained_width: int = Field(default=100, ge=4)
    """Number of units in each hidden layer of the trained networks."""
    trained_seeds: int = Field(default=1, ge=0)
    """Number of trained networks per initialization, with seeds seed, seed + 1, ... If 0, none is trained."""
    learning_rate: float = Field(default=0.1, gt=0, lt=math.inf)
    """Learning rate of SGD. The loss is the mean over a batch."""
    updates: int = Field(default=10_000, ge=10)
    samples: int = Field(default=250, ge=10)
    """Number of updates at which weight gradients are recorded, evenly spaced."""

    @model_validator(mode="after")
    def _can_be_run(self) -> "Config":
        if "equal" not in self.shapes or len(set(self.shapes)) < len(self.shapes):
            raise ValueError(f"shapes names each kind once and has 'equal', got {', '.join(self.shapes)}")
        if self.trained_seeds > self.seeds:
            raise ValueError(f"trained_seeds counts some of the {self.seeds} seeds, got {self.trained_seeds}")
        if self.samples > self.updates:
            raise ValueError(f"samples are taken at {self.updates} updates at most, got {self.samples}")
        return self

    @property
    def stride(self) -> int:
        """Number of updates between two samples."""
        return self.updates // self.samples

    def widths(self, shape: Shape) -> tuple[int, ...]:
        """Return the number of units of each hidden layer of the measured networks, starting with the first.

        >>> Config(width=100).widths("growing")
        (50, 71, 100, 141, 200)
        """
        direction = {"equal": 0.0, "growing": 1.0, "shrinking": -1.0}[shape]
        middle = (self.depth - 1) / 2
        step = self.taper ** (direction / (self.depth - 1))
        return tuple(max(2, round(self.width * step ** (layer - middle))) for layer in range(self.depth))


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(
        scale="laptop", width=500, seeds=10, trained_width=200, trained_seeds=3, updates=24_000, samples=500
    ),
    "paper": Config(
        scale="paper",
        size=32,
        width=1000,
        seeds=10,
        singles=20,
        trained_width=1000,
        trained_seeds=3,
        updates=100_000,
        samples=1000,
        device="cuda",
    ),
}


_Activation = Literal["tanh", "linear"]
_ACTIVATIONS: tuple[_Activation, ...] = ("tanh", "linear")


class Net(NamedTuple):
    """One network that is measured before training."""

    shape: Shape
    scheme: Scheme
    activation: _Activation

    @property
    def site(self) -> str:
        """Site of the network's numbers in the run's series, and prefix of the sites of its layers."""
        return f"start/{self.shape}/{self.scheme}/{self.activation}"


def start_nets(config: Config) -> list[Net]:
    """Return the networks to measure for every seed, including linear ones, for which the equations are exact."""
    return [
        Net(shape, scheme, activation) for shape, scheme, activation in product(config.shapes, SCHEMES, _ACTIVATIONS)
    ]


def load_parts(config: Config) -> Parts:
    """Load the data of a run, as in `glorot2010.errors`. `test` holds the images on which the networks are measured.

    Raises:
        ConfigError: if the data set is unknown or was never published, or a batch is larger than the training part.
        DatasetError: if the data is missing or damaged.
    """
    parts = streams.load_parts(config, held_out=config.probe)
    images, labels = parts.test
    return parts._replace(test=(images[: config.probe], labels[: config.probe]))


# --- predictions of the paper's equations
#
# Layers are counted from 1, the hidden layer next to the input, to d. W^i is (n_i, n_{i-1}), s^i = W^i z^{i-1},
# z^i = f(s^i), z^0 = x; C is the cost of one example. The paper counts z from the other side of each layer: its
# z^{i+1} is z^i here, its n_{i'} Var[W^{i'}] and n_{i'+1} Var[W^{i'}] are n_{i-1} Var[W^i] and n_i Var[W^i].
# Variances are mean squares: the equations assume means of 0.

VARIANCES: dict[Scheme, Callable[[int, int], float]] = {
    "standard": lambda fan_in, fan_out: 1 / (3 * fan_in),  # eqs. 1 and 15
    "normalized": lambda fan_in, fan_out: 2 / (fan_in + fan_out),  # eqs. 12 and 16
}
"""Var[W] of a layer as a function of its fan-in and fan-out."""

MEAN_SINGULAR_VALUE = 8 / (3 * math.pi)
"""Mean singular value of a large n x n matrix of independent entries of variance 1/n (quarter-circle law)."""


class Predicted(NamedTuple):
    """Mean squares in one hidden layer, for a linear activation."""

    activation: float  # z^i, eq. 5
    gradient: float  # dC/ds^i, as eq. 2 implies it
    gradient_as_printed: float  # eq. 6 to the letter: one factor more
    weight_gradient: float  # dC/dW^i of one example, eq. 7


def predict(
    widths: Sequence[int], scheme: Scheme, input_square: float, top_gradient_square: float, single_product: float
) -> list[Predicted]:
    """Predict the mean squares in every hidden layer from those of the input and of the gradient at the top.

        E[(z^i)^2]     = E[x^2] prod_{j<=i} n_{j-1} Var[W^j]
        E[(dC/ds^i)^2] = E[(dC/ds^d)^2] prod_{i<j<=d} n_j Var[W^j]
        E[(dC/dW^i)^2] = E[(z^{i-1})^2] E[(dC/ds^i)^2]             for one example

    Args:
        widths: n_0 (the inputs), n_1, ..., n_d.
        scheme: a key of VARIANCES.
        input_square: E[x^2].
        top_gradient_square: E[(dC/ds^d)^2].
        single_product: E[x^2] E[(dC/ds^d)^2] of one example, or its mean over several examples.
    Returns:
        A list of d predictions, starting with the first layer.
    Raises:
        ShapeError: if there are fewer than two widths.
    Source:
        Glorot & Bengio 2010, eqs. 4 to 7; for equal widths, eqs. 13 and 14.

    >>> layers = predict([8, 8, 8, 8], "standard", 1.0, 0.9, 0.9)
    >>> [round(layer.gradient, 3) for layer in layers], [round(layer.weight_gradient, 3) for layer in layers]
    ([0.1, 0.3, 0.9], [0.1, 0.1, 0.1])
    """
    if len(widths) < 2:
        raise ShapeError(
            f"widths are those of the input and of each hidden layer, got {list(widths)}. Give two or more."
        )
    fans = list(pairwise(widths))
    variances = [VARIANCES[scheme](fan_in, fan_out) for fan_in, fan_out in fans]
    upwards = [fan_in * variance for (fan_in, _), variance in zip(fans, variances, strict=True)]
    downwards = [fan_out * variance for (_, fan_out), variance in zip(fans, variances, strict=True)]
    layers = []
    for layer in range(len(fans)):
        below, above = math.prod(upwards[:layer]), math.prod(downwards[layer + 1 :])
        layers.append(
            Predicted(
                activation=input_square * below * upwards[layer],
                gradient=top_gradient_square * above,
                gradient_as_printed=top_gradient_square * above * downwards[layer],
                weight_gradient=single_product * below * above,
            )
        )
    return layers


def sampling_error(maps: int, width: int) -> float:
    """Bound the random relative deviation of the measured mean square of a linear network from its expectation.

        sqrt((1 + 2/n)^k - 1)

    A random map of n outputs, with entries no longer-tailed than Gaussian ones, multiplies the mean square of its input
    by a factor whose variance is at most 2/n times its squared mean, for any number of examples. The factors of k
    independent maps multiply.

    Args:
        maps: k, the number of random matrices between the measured and the given quantity.
        width: n, the smallest number of outputs of these matrices.
    Returns:
        An upper bound of the standard deviation of measured / predicted, dimensionless.
    Source:
        Ours; a sum of squares of n Gaussian numbers has a variance of 2/n times its squared mean.

    >>> round(sampling_error(4, 100), 3)
    0.287
    """
    return math.sqrt((1 + 2 / width) ** maps - 1)
