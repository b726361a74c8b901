"""What is measured, in one table. To add a quantity, write a row; it is a pure function of a block of tensors.

>>> kurtosis = Quantity("kurtosis", "", lambda rows: ((rows.flat - rows.mean[:, None]) ** 4).mean(1) / rows.std**4)
>>> chosen([*DEFAULT, kurtosis])[-1].name
'kurtosis'
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from thruway.errors import ConfigError, unknown_name
from thruway.watching.operations import ENDS
from thruway.watching.rows import Rows
from thruway.watching.sites import KINDS, Kind

__all__ = ["DEFAULT", "QUANTITIES", "Quantity", "chosen"]


@dataclass(frozen=True)
class Quantity:
    """One number per site and sampled step.

    Args:
        name: how tables and figures call it.
        unit: "" for the site's own unit, or in words.
        measure: block of k tensors -> (k,)., or (k, m) for m numbers per site.
        kinds: the kinds of site it is taken at.
        activations: only at outputs of these activations; None for every site.
        merge: how the parts of one step (micro-batches, shards) become one number.
        window: for a quantity per unit: `measure` gives (k, units) booleans, "did something", and the number is
            the share of units that did nothing over the last `window` sampled steps.
        stride: taken at every stride-th sampled step.
        source: where it comes from.
    """

    name: str
    unit: str
    measure: Callable[[Rows], Tensor]
    kinds: tuple[Kind, ...] = KINDS
    activations: frozenset[str] | None = None
    merge: Literal["mean", "std", "max", "min", "sum", "last"] = "mean"
    stride: int = 1
    window: int | None = None
    source: str = "Ours"


_LOW = frozenset(name for name, ends in ENDS.items() if ends.low is not None)
_HIGH = frozenset(name for name, ends in ENDS.items() if ends.high is not None)
_GATES = frozenset(("sigmoid", "hardsigmoid"))
_SIGNALS: tuple[Kind, ...] = ("output", "gradient")
_WEIGHTS: tuple[Kind, ...] = ("parameter", "parameter_gradient", "update")


def _saturation_low(rows: Rows) -> Tensor:
    return rows.share_at_most(ENDS[str(rows.activation)].low or 0.0)


def _saturation_high(rows: Rows) -> Tensor:
    return rows.share_at_least(ENDS[str(rows.activation)].high or 0.0)


def _norm(rows: Rows) -> Tensor:
    return rows.root_mean_square * rows.finite_count.sqrt()


def _input_dependence(rows: Rows) -> Tensor:
    """Mean over units of the standard deviation over inputs."""
    if not rows.inputs:
        return torch.full_like(rows.mean, math.nan)
    centred = rows.values - rows.values.mean(rows.inputs, keepdim=True)
    spread: Tensor = torch.linalg.vector_norm(centred, dim=rows.inputs)
    inputs = rows.count / spread.shape[1]
    return spread.mean(1).div(math.sqrt(inputs))


_GLOROT = "Glorot & Bengio 2010, sec. 3"
_HIGHWAY = "Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), fig. 2"

QUANTITIES: dict[str, Quantity] = {
    row.name: row
    for row in (
        Quantity("mean", "", lambda rows: rows.mean, source=f"{_GLOROT}, fig. 2"),
        Quantity("std", "", lambda rows: rows.std, merge="std", source=f"{_GLOROT}, figs. 2, 3, 9"),
        Quantity("abs_max", "", lambda rows: rows.abs_max, merge="max"),
        Quantity("zeros", "share of values", lambda rows: rows.share_equal(0.0), _SIGNALS),
        Quantity("saturation_low", "share of values", _saturation_low, ("output",), _LOW, source=_GLOROT),
        Quantity("saturation_high", "share of values", _saturation_high, ("output",), _HIGH, source=_GLOROT),
        Quantity("nan", "values", lambda rows: rows.nan_count, merge="sum"),
        Quantity("inf", "values", lambda rows: rows.inf_count, merge="sum"),
        Quantity("norm", "", _norm, _WEIGHTS, merge="last"),
        Quantity("input_dependence", "", _input_dependence, ("output",), _GATES, source=_HIGHWAY),
    )
}

DEFAULT: tuple[str, ...] = (
    "mean",
    "std",
    "abs_max",
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
        ConfigError: for an unknown name, two quantities of one name, or no quantity at all.

    >>> [quantity.unit for quantity in chosen(["zeros"])]
    ['share of values']
    """
    rows: dict[str, Quantity] = {}
    for quantity in [quantities] if isinstance(quantities, (str, Quantity)) else quantities:
        if not isinstance(quantity, Quantity):
            if quantity not in QUANTITIES:
                raise ConfigError(unknown_name("quantity", quantity, QUANTITIES))
            quantity = QUANTITIES[quantity]
        if rows.setdefault(quantity.name, quantity) is not quantity:
            raise ConfigError(f"two quantities are called {quantity.name!r}: give one another name.")
    if not rows:
        raise ConfigError(f"no quantity to watch. Known: {', '.join(QUANTITIES)}.")
    return tuple(rows.values())
