"""What is measured, in one table. To add a quantity, write a row; it is a pure function of a block of tensors.

>>> kurtosis = Quantity("kurtosis", "", lambda rows: ((rows.flat - rows.mean[:, None]) ** 4).mean(1) / rows.std**4)
>>> chosen([*DEFAULT, kurtosis])[-1].name
'kurtosis'
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, unknown_name
from thruway.watching.operations import ENDS
from thruway.watching.quantities.effective_rank import effective_rank
from thruway.watching.quantities.histograms import BINS, histogram
from thruway.watching.quantities.percentiles import percentile
from thruway.watching.quantities.probe_jacobians import probe_jacobians
from thruway.watching.quantities.rows import Rows
from thruway.watching.sites import KINDS, Kind
from thruway.watching.trace.following import FOLLOWING

__all__ = ["DEFAULT", "QUANTITIES", "Quantity", "chosen"]


def _of_tensors(rows: Rows) -> Tensor:
    raise ConfigError("this quantity is taken of the whole model, not of its tensors.")


@dataclass(frozen=True)
class Quantity:
    """One number per site and sampled step.

    Args:
        name: how tables and figures call it.
        unit: "" for the site's own unit, or in words.
        measure: block of k tensors -> (k,).
        kinds: the kinds of site it is taken at.
        activations: only at outputs of these activations; None for every site.
        merge: how the parts of one step (micro-batches, shards) become one number.
        window: for a quantity per unit: `measure` gives (k, units) booleans, "did something", and the number is
            the share of units that did nothing over the last `window` sampled passes.
        stride: taken at every stride-th sampled step.
        numbers: the most numbers that one site has; above 1, `measure` gives (k, m) with m of at most that many, and
            `trace.arrays` reads them.
        of_model: instead of `measure`, for what no single tensor tells: (model, probe batch) -> a number for each
            layer, by its path. Taken of the probe alone.
        source: where it comes from.
    """

    name: str
    unit: str
    measure: Callable[[Rows], Tensor] = _of_tensors
    kinds: tuple[Kind, ...] = KINDS
    activations: frozenset[str] | None = None
    merge: Literal["mean", "std", "rms", "max", "min", "sum", "last", "histogram"] = "mean"
    stride: int = 1
    window: int | None = None
    numbers: int = 1
    of_model: Callable[[nn.Module, Any], Mapping[str, float]] | None = None
    source: str = "Ours"

    def __post_init__(self) -> None:
        if self.measure is _of_tensors and self.of_model is None:
            raise ConfigError(
                f"the quantity {self.name!r} does not say what to measure. Pass measure=, a function of Rows, or "
                "of_model=, a function of the model and the probe batch."
            )


_LOW = frozenset(name for name, ends in ENDS.items() if ends.low is not None)
_HIGH = frozenset(name for name, ends in ENDS.items() if ends.high is not None)
_GATES = frozenset(("sigmoid", "hardsigmoid"))
_WEIGHTS: tuple[Kind, ...] = ("parameter", "parameter_gradient", "update")


def _saturation_low(rows: Rows) -> Tensor:
    return rows.share_at_most(ENDS[str(rows.activation)].low or 0.0)


def _saturation_high(rows: Rows) -> Tensor:
    return rows.share_at_least(ENDS[str(rows.activation)].high or 0.0)


def _norm(rows: Rows) -> Tensor:
    return rows.root_mean_square * rows.finite_count.sqrt()


def _did_something(rows: Rows) -> Tensor:
    """(k, units), bool: some input gave something else than zero; NaN is something."""
    size = rows.values.abs()
    if rows.inputs:
        size = size.amax(rows.inputs)
    return size.reshape(len(size), -1) != 0


def _input_dependence(rows: Rows) -> Tensor:
    """Mean over units of the standard deviation over inputs."""
    if not rows.inputs:
        return torch.full_like(rows.mean, math.nan)
    if not (rows.is_plain and rows._is_tame):
        return _finite_input_dependence(rows)
    centred = rows.values - rows.values.mean(rows.inputs, keepdim=True)
    spread: Tensor = torch.linalg.vector_norm(centred, dim=rows.inputs)
    inputs = rows.count / spread.shape[1]
    return spread.mean(1).div(math.sqrt(inputs))


def _finite_input_dependence(rows: Rows) -> Tensor:
    """The same from what is finite, as shares of each tensor's largest value: closed gates may be below 1e-20."""
    finite = torch.isfinite(rows.values)
    scale = torch.where(rows.abs_max > 0, rows.abs_max, 1.0)
    shares = torch.where(finite, rows.values, 0.0) / scale.view(-1, *[1] * (rows.values.dim() - 1))
    inputs = finite.sum(rows.inputs, keepdim=True).to(shares.dtype)
    centred = torch.where(finite, shares - shares.sum(rows.inputs, keepdim=True) / inputs, 0.0)
    spread: Tensor = torch.linalg.vector_norm(centred, dim=rows.inputs) / inputs.flatten(1).sqrt()
    return spread.nanmean(1) * scale


_GLOROT = "Glorot & Bengio 2010, sec. 3"
_RELU_LIKE = frozenset(("relu", "relu6", "hardswish"))  # exactly zero, with no slope, from some input on down
# Their outputs are exactly zero for a range of inputs; what other sites have of zeros is in `zero_share`.
_ZEROING = frozenset(("relu", "relu6", "hardsigmoid", "hardswish", "softshrink", "hardshrink"))
_HIGHWAY = "Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), fig. 2"

QUANTITIES: dict[str, Quantity] = {
    row.name: row
    for row in (
        Quantity("mean", "", lambda rows: rows.mean, source=f"{_GLOROT}, fig. 2"),
        Quantity("std", "", lambda rows: rows.std, merge="std", source=f"{_GLOROT}, figs. 2, 3, 9"),
        Quantity("abs_max", "", lambda rows: rows.abs_max, merge="max"),
        Quantity("zeros", "share of values", lambda rows: rows.share_equal(0.0), ("output",), _ZEROING),
        Quantity("saturation_low", "share of values", _saturation_low, ("output",), _LOW, source=_GLOROT),
        Quantity("saturation_high", "share of values", _saturation_high, ("output",), _HIGH, source=_GLOROT),
        Quantity("nan", "values", lambda rows: rows.nan_count, merge="sum"),
        Quantity("inf", "values", lambda rows: rows.inf_count, merge="sum"),
        Quantity("norm", "", _norm, _WEIGHTS, merge="last"),
        Quantity("input_dependence", "", _input_dependence, ("output",), _GATES, stride=10, source=_HIGHWAY),
        # From here on by name only, as they cost more.
        Quantity("zero_share", "share of values", lambda rows: rows.share_equal(0.0)),
        Quantity("count", "values", lambda rows: rows.finite_count, merge="sum"),
        Quantity("rms", "", lambda rows: rows.root_mean_square, merge="rms"),
        Quantity("p2", "", lambda rows: percentile(rows, 2), source=f"{_GLOROT}, fig. 3 (its mirror image)"),
        Quantity("p50", "", lambda rows: percentile(rows, 50)),
        Quantity("p98", "", lambda rows: percentile(rows, 98), source=f"{_GLOROT}, figs. 3, 10"),
        Quantity(
            "dead_units",
            "share of units",
            _did_something,
            ("output",),
            _RELU_LIKE,
            # Shards each know only their own inputs: a unit is dead in the whole only if it is in all of them.
            merge="min",
            window=50,
            source="Lu, Shin, Su & Karniadakis 2020 (Dying ReLU and initialization), sec. 1",
        ),
        Quantity(
            "effective_rank",
            "directions",
            effective_rank,
            ("output",),
            stride=10,
            source="Roy & Vetterli 2007 (The effective rank), definition 1",
        ),
        Quantity(
            "histogram",
            "values",
            histogram,
            merge="histogram",
            stride=10,
            numbers=2 + BINS,
            source="Glorot & Bengio 2010, figs. 4, 6-8",
        ),
        Quantity(
            "jacobian",
            "mean singular value",
            kinds=("output",),
            stride=50,  # as it costs as much as dozens of training steps
            of_model=probe_jacobians,
            source="Glorot & Bengio 2010, eq. 17",
        ),
    )
}

DEFAULT: tuple[str, ...] = (
    "mean",
    "std",
    "zeros",
    "saturation_low",
    "saturation_high",
    "nan",
    "inf",
    "norm",
    "input_dependence",
)


def chosen(quantities: Iterable[str | Quantity]) -> tuple[Quantity, ...]:
    """The rows behind names, in order; a Quantity of the user's own stands for itself.

    Raises:
        ConfigError: for an unknown name, one of a quantity that follows from others, two quantities of one name, or
            no quantity at all.

    >>> [quantity.unit for quantity in chosen(["zeros"])]
    ['share of values']
    """
    if not isinstance(quantities, (str, Quantity, Iterable)):
        raise ConfigError(
            f"quantities must be names or Quantity rows, got {quantities!r}. Leave it out for the usual ones."
        )
    rows: dict[str, Quantity] = {}
    for quantity in [quantities] if isinstance(quantities, (str, Quantity)) else quantities:
        if not isinstance(quantity, Quantity):
            if quantity in FOLLOWING:
                raise ConfigError(FOLLOWING[quantity].instead_of_asking(quantity))
            if quantity not in QUANTITIES:
                raise ConfigError(unknown_name("quantity", quantity, [*QUANTITIES, *FOLLOWING]))
            quantity = QUANTITIES[quantity]
        if rows.setdefault(quantity.name, quantity) is not quantity:
            raise ConfigError(f"two quantities are called {quantity.name!r}: give one another name.")
    if not rows:
        raise ConfigError(f"no quantity to watch. Known: {', '.join(QUANTITIES)}.")
    return tuple(rows.values())
