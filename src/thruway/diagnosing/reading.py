"""Reading of a trace for the rules: aligned arrays, layers in forward order, parameters and loss."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from thruway.errors import ConfigError
from thruway.watching.sites import Kind, Site
from thruway.watching.trace.series import empty_array
from thruway.watching.trace.trace import Trace

__all__ = ["MAP_OPERATIONS", "NORM_OPERATIONS", "Layer", "Parameter", "Reading", "Values"]

# Operations of the layers that multiply by a weight, as named by watching: module classes and functions.
_MAPS = (
    "Linear Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d Bilinear "
    "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d bilinear"
)
_NORMS = (
    "BatchNorm1d BatchNorm2d BatchNorm3d LayerNorm GroupNorm RMSNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d "
    "batch_norm layer_norm group_norm rms_norm"
)
MAP_OPERATIONS = frozenset(_MAPS.split())
NORM_OPERATIONS = frozenset(_NORMS.split())

# Parts of the names of operations that keep or drop values, without weights.
_PASSING = ("Dropout", "Pool", "Identity", "Flatten")

_TINY = 1e-140  # the square of a smaller number loses digits

Matrix = NDArray[np.float64]
Derived = TypeVar("Derived")


@dataclass(frozen=True)
class Values:
    """One quantity, aligned with the steps of the trace: `values` (sites, steps), NaN where it was not measured."""

    sites: tuple[Site, ...]
    values: Matrix

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each site by name."""
        return {site.name: row for row, site in enumerate(self.sites)}

    def of(self, name: str) -> Matrix | None:
        """Return the values of one site, (steps,), or None if it was not measured."""
        row = self.row_of.get(name)
        return None if row is None else self.values[row]


@dataclass(frozen=True)
class Layer:
    """A layer that multiplies by a weight, with the activation that follows it.

    Attributes:
        name: name of the output site (the pre-activation).
        weight, bias: names of the parameters, or None if unknown.
        fan_in: number of inputs of one unit; 0 if unknown.
        activation: key of ACTIVATIONS of the function that takes this output, or None.
        activation_site: name of the site of the activation's output, or None.
        is_normalised: a norm lies between the layer and the activation.
        pre_activation: name of the site whose output the activation takes: that of the norm, if there is one.
    """

    name: str
    weight: str | None
    bias: str | None
    fan_in: int
    activation: str | None
    activation_site: str | None
    is_normalised: bool
    pre_activation: str


@dataclass(frozen=True)
class Parameter:
    """One parameter: series over the steps of the trace, NaN where a number was not measured."""

    name: str
    shape: tuple[int, ...]
    state: Matrix  # bit mask ParameterState; NaN in traces of older versions
    norm: Matrix
    std: Matrix
    gradient_norm: Matrix
    update_norm: Matrix

    @property
    def update_ratio(self) -> Matrix:
        """|update| / |parameter|; NaN where the parameter is zero."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.norm > 0, self.update_norm / self.norm, np.nan)


class Reading:
    """The numbers of a trace as the rules need them. Everything is computed when it is first used, and then kept.

    Args:
        trace: a trace with at least one step.
        losses: losses of the recorded steps, or of all steps from the first on, if the trace has none.
    """

    def __init__(self, trace: Trace, losses: Sequence[float] | None = None) -> None:
        self.trace = trace
        self.steps: NDArray[np.int64] = np.array(trace.steps, dtype=np.int64)
        self._losses = losses
        self._values: dict[tuple[str, Kind], Values | None] = {}
        self._derived: dict[Callable[..., Any], Any] = {}

    def derived(self, function: Callable[["Reading"], Derived]) -> Derived:
        """Return function(reading), computed once: several rules use the same numbers."""
        if function not in self._derived:
            self._derived[function] = function(self)
        found: Derived = self._derived[function]
        return found

    def values(self, quantity: str, kind: Kind = "output") -> Values | None:
        """Return a quantity at all sites of a kind, aligned with `steps`, or None if it was not measured."""
        key = quantity, kind
        if key not in self._values:
            self._values[key] = self._read(quantity, kind)
        return self._values[key]

    def _read(self, quantity: str, kind: Kind) -> Values | None:
        try:
            series = self.trace.series(quantity, kind)
        except ConfigError:
            return None
        if len(series.steps) == len(self.steps):
            return Values(series.sites, series.values)
        values = np.full((len(series.sites), len(self.steps)), np.nan)
        values[:, np.searchsorted(self.steps, series.steps)] = series.values
        return Values(series.sites, values)

    def rms(self, kind: Kind = "output") -> Values | None:
        """Return the root mean square of every site: sqrt(mean^2 + std^2)."""
        key = "rms of mean and std", kind
        if key not in self._values:
            self._values[key] = self._rms(kind)
        return self._values[key]

    def _rms(self, kind: Kind) -> Values | None:
        mean, std = self.values("mean", kind), self.values("std", kind)
        if mean is None or std is None or mean.sites != std.sites:
            return None
        found = empty_array(*mean.values.shape)
        with np.errstate(over="ignore", under="ignore"):
            for row, (m, s) in enumerate(zip(mean.values, std.values, strict=True)):  # a row stays in the cache
                np.sqrt(m * m + s * s, out=found[row])
        if np.fmin.reduce(found, axis=None, initial=1) < _TINY or np.isinf(np.fmax.reduce(found, axis=None, initial=0)):
            found = np.hypot(mean.values, std.values)  # several times slower, but exact for such numbers
        return Values(std.sites, found)

    @cached_property
    def loss(self) -> Matrix | None:
        """The loss at every step of the trace, or None if it is not known."""
        if self._losses is not None:
            given = np.asarray(self._losses, dtype=np.float64).reshape(-1)
            if len(given) == len(self.steps):
                return given
            places = self.steps - self.steps[0]
            if len(given) <= places[-1]:
                raise ConfigError(
                    f"losses has {len(given)} numbers, but the trace has {len(self.steps)} steps up to number "
                    f"{self.steps[-1]}. Pass one loss for each recorded step, or for each step from the first on."
                )
            of_steps: Matrix = given[places]
            return of_steps
        found = self.values("loss", "step")
        return None if found is None else found.values[0]

    @cached_property
    def outputs(self) -> tuple[Site, ...]:
        """The output sites in forward order, without scalars such as a returned loss."""
        sites = [site for site in self.trace.sites if site.kind == "output"]
        return tuple(site for site in sites if not site.shape or math.prod(site.shape) > 1)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that multiply by a weight, in forward order."""
        shapes = {s.name: s.shape for s in self.trace.sites if s.kind == "parameter"}
        found = []
        for place, site in enumerate(self.outputs):
            if site.operation in MAP_OPERATIONS:
                weight, bias = (
                    next((name for name in _owned(site.name, part) if name in shapes), None)
                    for part in ("weight", "bias")
                )
                activation, norm = self._activation_after(place)
                found.append(
                    Layer(
                        site.name,
                        weight,
                        bias,
                        0 if weight is None else _fan_in(shapes[weight], site.operation),
                        None if activation is None else activation.activation,
                        None if activation is None else activation.name,
                        norm is not None,
                        norm or site.name,
                    )
                )
        return tuple(found)

    def _activation_after(self, place: int) -> tuple[Site | None, str | None]:
        """Return the activation that directly follows an output, and the name of the norm between them, if any."""
        norm = None
        for site in self.outputs[place + 1 :]:
            if site.activation is not None and site.activation not in ("softmax", "log_softmax"):
                return site, norm
            if site.operation in NORM_OPERATIONS:
                norm = site.name
            elif not any(part in site.operation for part in _PASSING):
                break
        return None, norm

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters of the model that were recorded, in the order of the registry."""
        nothing = np.full(len(self.steps), np.nan)

        def of(quantity: str, kind: Kind, name: str) -> Matrix:
            values = self.values(quantity, kind)
            found = None if values is None else values.of(name)
            return nothing if found is None else found

        return tuple(
            Parameter(
                site.name,
                site.shape,
                of("state", "parameter", site.name),
                of("norm", "parameter", site.name),
                of("std", "parameter", site.name),
                of("norm", "parameter_gradient", site.name),
                of("norm", "update", site.name),
            )
            for site in self.trace.sites
            if site.kind == "parameter"
        )

    def onset(self, is_sick: NDArray[np.bool_]) -> tuple[tuple[int | None, int], int | None] | None:
        """Return ((last step without, first step with), last step with or None) of the last run of True values.

        The last element is None if the symptom lasts to the end of the trace.

        Args:
            is_sick: (steps,), True where the symptom is present.
        """
        places = np.flatnonzero(is_sick)
        if not len(places):
            return None
        last = int(places[-1])
        healthy = np.flatnonzero(~is_sick[:last])
        first = int(healthy[-1]) + 1 if len(healthy) else 0
        before = int(self.steps[first - 1]) if first else None
        until = None if last == len(self.steps) - 1 else int(self.steps[last])
        return (before, int(self.steps[first])), until

    def spell(
        self, is_sick: NDArray[np.bool_], is_known: NDArray[np.bool_]
    ) -> tuple[tuple[int | None, int], int | None] | None:
        """Return the onset and the end of a lasting symptom as `onset` does, None if it does not last.

        It lasts if it is present in four fifths of the steps since it was first seen, or in the last tenth of all
        steps. A symptom that passes while the network learns is not worth a warning.

        Args:
            is_sick: (steps,), True where the symptom is present.
            is_known: (steps,), False where it could not be seen.
        """
        steps, sick = self.steps[is_known], is_sick[is_known]
        if not sick.any():
            return None
        first = int(np.argmax(sick))
        if sick[first:].mean() < 0.8 or len(sick) - first < len(sick) / 20:
            healthy = np.flatnonzero(~sick)
            first = int(healthy[-1]) + 1 if len(healthy) else 0
            if len(sick) - first < max(2, len(sick) / 10):
                return None
        last = int(np.flatnonzero(sick)[-1])
        until = None if last == len(sick) - 1 else int(steps[last])
        return (int(steps[first - 1]) if first else None, int(steps[first])), until


def _owned(name: str, part: str) -> tuple[str, ...]:
    """Return the possible names of a parameter of an output site, whose name may end in "#2" or ".linear"."""
    path = name.split("#")[0]
    parent = path.rpartition(".")[0]
    return (f"{path}.{part}", f"{parent}.{part}" if parent else part)


def _fan_in(shape: tuple[int, ...], operation: str) -> int:
    if len(shape) < 2:
        return 0
    return math.prod((shape[0], *shape[2:])) if "ranspose" in operation else math.prod(shape[1:])
