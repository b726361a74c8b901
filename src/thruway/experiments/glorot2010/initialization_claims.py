"""Claims of sec. 4.2 about networks before and during training, and the statistics that they use."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from thruway.experiments.glorot2010.initialization import sampling_error
from thruway.experiments.machinery import Claim, Rows, mean_of, only
from thruway.report import TableData, paper_comparison

__all__ = [
    "START_CLAIMS",
    "TRAINING_CLAIMS",
    "by_layer",
    "factor_per_layer",
    "mean_factor",
    "mean_stretch",
    "paper_table",
    "spreads",
]

_PAPER = "Glorot & Bengio 2010"

# A measured quantity, and its prediction.
_PAIRS = {
    "activation_variance": "activation_predicted",
    "gradient_variance": "gradient_predicted",
    "single_weight_gradient_variance": "single_weight_gradient_predicted",
}


def _net(rows: Rows, scheme: str, shape: str = "equal", activation: str = "tanh") -> list[Mapping[str, Any]]:
    """Return the rows of the layers of one network, starting with the first layer."""
    chosen = [r for r in rows if (r["scheme"], r["shape"], r["activation"]) == (scheme, shape, activation)]
    return sorted(chosen, key=lambda row: int(row["layer"]))


def by_layer(
    rows: Rows, scheme: str, quantity: str, shape: str = "equal", activation: str = "tanh"
) -> dict[int, list[float]]:
    """Return, for each layer, the quantity for every seed."""
    found: dict[int, list[float]] = {}
    for row in _net(rows, scheme, shape, activation):
        found.setdefault(row["layer"], []).append(row[quantity])
    return found


def factor_per_layer(rows: Rows, scheme: str, quantity: str, *, upwards: bool) -> float:
    """Return the factor by which a mean square changes from one hidden layer to the next one above, or below.

    The factor is the geometric mean over the layers of the tanh network with equally wide layers.
    """
    values = [row[quantity] for row in _net(rows, scheme)]
    if len(values) < 2 or not all(value > 0 for value in values):
        return math.nan
    first, last = (values[0], values[-1]) if upwards else (values[-1], values[0])
    return float((last / first) ** (1 / (len(values) - 1)))


def mean_stretch(rows: Rows, scheme: str, activation: str = "tanh") -> float:
    """Return the mean singular value of the Jacobians of all hidden layers except the first; these are square."""
    values = [row["singular_value"] for row in _net(rows, scheme, activation=activation)[1:]]
    return sum(values) / len(values) if values else math.nan


def mean_factor(rows: Rows, scheme: str, quantity: str, *, upwards: bool) -> float:
    """Return the mean over seeds of `factor_per_layer`; NaN without rows."""
    seeds = sorted({row["seed"] for row in rows})
    return mean_of(factor_per_layer(only(rows, seed=seed), scheme, quantity, upwards=upwards) for seed in seeds)


def spreads(rows: Rows, scheme: str) -> list[float]:
    """Return the ratio of the largest to the smallest std of the weight gradients, in each tenth of training."""
    layers = [row["std_by_tenth"] for row in rows if row["scheme"] == scheme]
    return [_widest(stds) for stds in zip(*layers, strict=True)]


def _widest(values: Iterable[float]) -> float:
    found = list(values)
    return max(found) / min(found) if found and all(value > 0 for value in found) else math.nan


def _worst_factor(rows: Rows, scheme: str) -> float:
    """Return the largest ratio of measured to predicted, or of predicted to measured, in the tanh network."""
    # Eq. 7 is the product of these two, and of one example: it varies more by chance.
    names = ("activation_variance", "gradient_variance")
    pairs = [(row[name], row[_PAIRS[name]]) for row in _net(rows, scheme) for name in names]
    return max((max(m / p, p / m) if m > 0 else math.inf for m, p in pairs), default=math.nan)


def _worst_error(rows: Rows) -> float:
    """Return the largest relative deviation of a linear network from the equations, in units of `sampling_error`."""
    worst = [math.nan]
    for scheme, shape in sorted({(row["scheme"], row["shape"]) for row in rows}):
        layers = _net(rows, scheme, shape, "linear")
        width, top = min(row["width"] for row in layers), len(layers)
        for row in layers:
            below, above = row["layer"], top - row["layer"]
            # Number of random matrices on the way; a weight gradient depends on those of all layers but its own.
            maps = {
                "activation_variance": below,
                "gradient_variance": above,
                "single_weight_gradient_variance": top - 1,
            }
            worst += [
                abs(row[m] / row[_PAIRS[m]] - 1) / sampling_error(count, width) for m, count in maps.items() if count
            ]
    return max(worst[1:], default=math.nan)


def _tapered_gain(rows: Rows) -> float:
    """Return the spread of gradient variances (largest / smallest), normalized / standard, of the worse tapered net."""
    shapes = sorted({row["shape"] for row in rows} - {"equal"})
    gains = [
        _widest(row["gradient_variance"] for row in _net(rows, "normalized", shape))
        / _widest(row["gradient_variance"] for row in _net(rows, "standard", shape))
        for shape in shapes
    ]
    return max(gains, default=math.nan)


def _weight_gradient_spread(rows: Rows) -> float:
    return math.sqrt(_widest(row["weight_gradient_variance"] for row in _net(rows, "standard")))


def _divergence(rows: Rows) -> float:
    found = spreads(rows, "standard")
    return max(found) / found[0] if found else math.nan


def _lower_over_top(rows: Rows) -> float:
    """Return the std of the first hidden layer over that of the top one, in the tenth with the largest spread."""
    found = spreads(rows, "standard")
    if not found:
        return math.nan
    tenth = found.index(max(found))
    stds = {row["layer"]: row["std_by_tenth"][tenth] for row in rows if row["scheme"] == "standard"}
    return float(stds[min(stds)] / stds[max(stds)])


START_CLAIMS = (
    Claim(
        id="activations-shrink-upwards",
        text="With standard initialization activations get smaller from layer to layer.",
        source=f"{_PAPER}, fig. 6, eq. 5",
        statistic="ratio of the stds of activations between adjacent layers, upwards, standard (predicted 0.58)",
        measure=lambda rows: math.sqrt(factor_per_layer(rows, "standard", "activation_variance", upwards=True)),
        holds_if="<=",
        threshold=0.7,
    ),
    Claim(
        id="activations-level",
        text="With normalized initialization activations do not get smaller from layer to layer.",
        source=f"{_PAPER}, fig. 6, eqs. 5 and 12",
        statistic="ratio of the stds of activations between adjacent layers, upwards, normalized (predicted 1)",
        measure=lambda rows: math.sqrt(factor_per_layer(rows, "normalized", "activation_variance", upwards=True)),
        holds_if=">=",
        threshold=0.8,
    ),
    Claim(
        id="gradients-shrink-downwards",
        text="With standard initialization back-propagated gradients get smaller towards the input: their variance "
        "falls about threefold per layer.",
        source=f"{_PAPER}, fig. 7, eqs. 13 and 15",
        statistic="ratio of the variances of dC/ds between adjacent layers, downwards, standard (predicted 0.33)",
        measure=lambda rows: factor_per_layer(rows, "standard", "gradient_variance", upwards=False),
        holds_if="<=",
        threshold=0.45,
    ),
    Claim(
        id="gradients-level",
        text="With normalized initialization back-propagated gradients stay about level.",
        source=f"{_PAPER}, fig. 7, eqs. 11 and 12",
        statistic="ratio of the variances of dC/ds between adjacent layers, downwards, normalized (predicted 1)",
        measure=lambda rows: factor_per_layer(rows, "normalized", "gradient_variance", upwards=False),
        holds_if=">=",
        threshold=0.6,
    ),
    Claim(
        id="weight-gradients-level",
        text="Before training, weight gradients are level over the layers even with standard initialization.",
        source=f"{_PAPER}, fig. 8, eq. 14",
        statistic="std of dC/dW, largest / smallest hidden layer, standard (predicted 1)",
        measure=_weight_gradient_spread,
        holds_if="<=",
        threshold=2,
    ),
    Claim(
        id="equations-exact-when-linear",
        text="Without activation functions eqs. 5 to 7 are exact, up to the randomness of the weights.",
        source=f"{_PAPER}, eqs. 4 to 7",
        statistic="largest relative deviation of a variance from its prediction, in upper bounds of its std",
        measure=_worst_error,
        holds_if="<=",
        threshold=5,
    ),
    Claim(
        id="equations-describe-tanh",
        text="With standard initialization tanh units are nearly linear, so that eqs. 5 and 6 describe them.",
        source=f"{_PAPER}, sec. 4.2.1",
        statistic="measured / predicted variance or its inverse, worst of all layers, standard, tanh",
        measure=lambda rows: _worst_factor(rows, "standard"),
        holds_if="<=",
        threshold=2,
    ),
    Claim(
        id="stretch-standard",
        text="The mean singular value of a layer's Jacobian is about 0.5 with standard initialization.",
        source=f"{_PAPER}, eq. 17",
        statistic="distance from 0.5 of the mean singular value, square hidden layers, tanh",
        measure=lambda rows: abs(mean_stretch(rows, "standard") - 0.5),
        holds_if="<=",
        threshold=0.1,
    ),
    Claim(
        id="stretch-normalized",
        text="The mean singular value of a layer's Jacobian is about 0.8 with normalized initialization.",
        source=f"{_PAPER}, eq. 17",
        statistic="distance from 0.8 of the mean singular value, square hidden layers, tanh",
        measure=lambda rows: abs(mean_stretch(rows, "normalized") - 0.8),
        holds_if="<=",
        threshold=0.1,
    ),
    Claim(
        id="tapered-nets-too",
        text="In networks whose layers get wider or narrower, normalized initialization keeps gradients more level "
        "too.",
        source=f"{_PAPER}, sec. 2.3 and eq. 12",
        statistic="largest / smallest variance of dC/ds over layers, normalized / standard, the worse of both networks",
        measure=_tapered_gain,
        holds_if="<",
        threshold=1,
    ),
)
"""Claims about rows of the stage "start", in the order of the report."""

TRAINING_CLAIMS = (
    Claim(
        id="standard-diverges",
        text="As a network with standard initialization trains, the weight gradients of its layers grow apart.",
        source=f"{_PAPER}, fig. 9",
        statistic="spread of std of dC/dW over layers (largest / smallest), maximum / first tenth",
        measure=_divergence,
        holds_if=">=",
        threshold=1.5,
    ),
    Claim(
        id="lower-layers-larger",
        text="With standard initialization the weight gradients become largest in the lower layers.",
        source=f"{_PAPER}, fig. 9",
        statistic="std of dC/dW, first / top hidden layer, where the standard network's layers are furthest apart",
        measure=_lower_over_top,
        holds_if=">=",
        threshold=1.5,
    ),
    Claim(
        id="normalized-together",
        text="With normalized initialization the weight gradients of the layers stay together.",
        source=f"{_PAPER}, fig. 9",
        statistic="maximal spread of std of dC/dW over layers (largest / smallest), normalized / standard",
        measure=lambda rows: (
            max(spreads(rows, "normalized"), default=math.nan) / max(spreads(rows, "standard"), default=math.nan)
        ),
        holds_if="<",
        threshold=1,
    ),
)
"""Claims about rows of the stage "training"."""


def paper_table(start: Rows) -> TableData:
    """Return a table of the numbers in the paper and our means over seeds."""
    seeds = sorted({row["seed"] for row in start})
    entries: list[tuple[str, str, float, str]] = []
    for scheme, published in (("standard", "about 0.5"), ("normalized", "about 0.8")):
        stretch = mean_of(mean_stretch(only(start, seed=seed), scheme) for seed in seeds)
        entries.append((f"mean singular value, {scheme}", published, stretch, "eq. 17"))
    for name, quantity, upwards, sources in (
        ("Var z", "activation_variance", True, ("eqs. 5 and 15", "eqs. 5 and 12")),
        ("Var dC/ds", "gradient_variance", False, ("eqs. 13 and 15", "eqs. 6 and 12")),
    ):
        for scheme, published, source in zip(("standard", "normalized"), ("1/3", "1"), sources, strict=True):
            factor = mean_factor(start, scheme, quantity, upwards=upwards)
            entries.append((f"ratio of {name} between adjacent layers, {scheme}", published, factor, source))
    return paper_comparison(
        entries,
        caption="Tanh, equally wide layers. The ratios in the paper's column are those of its equations, which assume "
        "a linear activation; the paper prints no numbers for figs. 6 to 9.",
    )
