"""The table of quantities. To add one, add an entry: a name, a unit and a pure function of a block of tensors.

>>> kurtosis = Quantity("kurtosis", "", lambda rows: ((rows.flat - rows.mean[:, None]) ** 4).mean(1) / rows.std**4)
>>> kurtosis.measure(Rows(Tensor([[-1.0, 1.0, -1.0, 1.0]])))
tensor([1.])
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.watching.quantities.distributions import BINS, histogram, percentile
from thruway.watching.quantities.layer_jacobians import probe_jacobians
from thruway.watching.quantities.rows import Rows
from thruway.watching.quantities.saturation import WITH_HIGH_END, WITH_LOW_END, saturation_high, saturation_low
from thruway.watching.quantities.units import (
    active_units,
    effective_rank,
    input_correlation,
    input_dependence,
    position_correlation,
)
from thruway.watching.sites import KINDS, Kind, Site

__all__ = ["DEFAULT", "QUANTITIES", "Quantity"]


def _not_measured(rows: Rows) -> Tensor:
    raise ConfigError("this quantity is measured on the whole model, not on its tensors.")


@dataclass(frozen=True)
class Quantity:
    """A number for each site and sampled step.

    Args:
        name: name in tables and figures.
        unit: unit in words; "" for the unit of the measured tensor.
        measure: function of a block of k tensors that returns (k,).
        kinds: kinds of sites at which it is measured.
        activations: If given, only outputs of these activations are measured.
        dims: If given, only tensors with this number of dimensions are measured.
        merge: rule for combining the numbers of the parts of a step (micro-batches, shards).
        window: If given, `measure` returns (k, units), bool, True for active units, and the number is the share of
            units that were inactive in the last `window` passes in which it was measured.
        stride: the quantity is measured at every stride-th sampled step.
        numbers: maximum number of numbers per site. If above 1, `measure` returns (k, m) with m up to `numbers`, which
            `trace.arrays` reads.
        of_model: alternative to `measure`: function of the model and the probe batch that returns a number for each
            path of a layer. It is measured on the probe only.
        source: publication that defines the quantity.
    """

    name: str
    unit: str
    measure: Callable[[Rows], Tensor] = _not_measured
    kinds: tuple[Kind, ...] = KINDS
    activations: frozenset[str] | None = None
    dims: int | None = None
    merge: Literal["mean", "std", "rms", "max", "min", "sum", "last", "histogram"] = "mean"
    stride: int = 1
    window: int | None = None
    numbers: int = 1
    of_model: Callable[[nn.Module, Any], Mapping[str, float]] | None = None
    source: str = "Ours"

    def is_for(self, site: Site, dims: int) -> bool:
        """Return True if the quantity is measured of tensors with so many dimensions at a site."""
        is_of_activation = self.activations is None or site.activation in self.activations
        return site.kind in self.kinds and self.dims in (None, dims) and is_of_activation

    def __post_init__(self) -> None:
        if self.measure is _not_measured and self.of_model is None:
            raise ConfigError(
                f"the quantity {self.name!r} has no function that measures it. Pass measure=, a function of Rows, or "
                "of_model=, a function of the model and the probe batch."
            )


_GATES = frozenset(("sigmoid", "hardsigmoid"))
_WEIGHTS: tuple[Kind, ...] = ("parameter", "parameter_gradient", "update")


def _norm(rows: Rows) -> Tensor:
    return rows.root_mean_square * rows.finite_count.sqrt()


_GLOROT = "Glorot & Bengio 2010, sec. 3"
_RELU_LIKE = frozenset(("relu", "relu6", "hardswish"))  # zero, with zero slope, below some input
# Activations that are exactly zero for a range of inputs. Zeros at other sites are in `zero_share`.
_ZEROING = frozenset(("relu", "relu6", "hardsigmoid", "hardswish", "softshrink", "hardshrink"))
_HIGHWAY = "Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), fig. 2"

QUANTITIES: dict[str, Quantity] = {
    row.name: row
    for row in (
        Quantity("mean", "", lambda rows: rows.mean, source=f"{_GLOROT}, fig. 2"),
        Quantity("std", "", lambda rows: rows.std, merge="std", source=f"{_GLOROT}, figs. 2, 3, 9"),
        Quantity("abs_max", "", lambda rows: rows.abs_max, merge="max"),
        Quantity("zeros", "share of values", lambda rows: rows.share_equal(0.0), ("output",), _ZEROING),
        Quantity("saturation_low", "share of values", saturation_low, ("output",), WITH_LOW_END, source=_GLOROT),
        Quantity("saturation_high", "share of values", saturation_high, ("output",), WITH_HIGH_END, source=_GLOROT),
        Quantity("nan", "values", lambda rows: rows.nan_count, merge="sum"),
        Quantity("inf", "values", lambda rows: rows.inf_count, merge="sum"),
        Quantity("norm", "", _norm, _WEIGHTS, merge="last"),
        Quantity("input_dependence", "", input_dependence, ("output",), _GATES, stride=10, source=_HIGHWAY),
        Quantity("input_correlation", "share of the mean square", input_correlation, ("output",), stride=10),
        Quantity(
            "position_correlation",
            "share of the mean square",
            position_correlation,
            ("output",),
            dims=3,
            stride=10,
            source="Dong, Cordonnier & Loukas 2021 (Attention is not all you need), sec. 2",
        ),
        Quantity(
            "dead_units",
            "share of units",
            active_units,
            ("output",),
            _RELU_LIKE,
            # Each shard has inputs of its own: a unit is dead for the whole batch only if it is dead in all shards.
            merge="min",
            stride=10,
            window=5,  # with the stride, the last 50 sampled steps
            source="Lu, Shin, Su & Karniadakis 2020 (Dying ReLU and initialization), sec. 1",
        ),
        # The following cost more, so they are measured only if requested.
        Quantity("zero_share", "share of values", lambda rows: rows.share_equal(0.0)),
        Quantity("count", "values", lambda rows: rows.finite_count, merge="sum"),
        Quantity("rms", "", lambda rows: rows.root_mean_square, merge="rms"),
        Quantity("p2", "", lambda rows: percentile(rows, 2), source=f"{_GLOROT}, fig. 3 (its mirror image)"),
        Quantity("p50", "", lambda rows: percentile(rows, 50)),
        Quantity("p98", "", lambda rows: percentile(rows, 98), source=f"{_GLOROT}, figs. 3, 10"),
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
            stride=50,  # it costs as much as dozens of training steps
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
    "input_correlation",
    "position_correlation",
    "dead_units",
)
