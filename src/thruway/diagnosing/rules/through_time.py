"""Gradients through the time steps of recurrent layers, measured step by step or expected from the recurrent weight.

A cell that is called once per time step has one output per step: "cell", "cell#2" and so on. So has a map from state to
state in a loop, "h2h", where the cell has no module of its own; the sites of one call are no time steps. The layers
nn.RNN, nn.LSTM and nn.GRU compute all steps at once. For nn.RNN, theory gives the factor sqrt(sigma_w^2 E f'(u)^2) per
step from the measured outputs and the scale of the recurrent weight. Gates of LSTM and GRU are made to keep or forget,
so no factor is expected of them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from thruway.diagnosing.reading import MAP_OPERATIONS, Matrix, Reading
from thruway.diagnosing.theory import mean_square, mean_square_slope
from thruway.diagnosing.trunk import STEPS_OF_A_RECURRENCE, column, recurrent_names, without_call

__all__ = ["Recurrence", "ratio_over_time", "recurrences"]

_UNDERFLOW = math.log(1e-30)


@dataclass(frozen=True)
class Recurrence:
    """The gradient through time of one recurrent layer.

    Attributes:
        name: name of the module.
        steps: number of time steps.
        log_ratio: (steps of training,), natural logarithm of the gradient at the first time step relative to the last.
        is_measured: True if `log_ratio` was measured, False if it is expected from the recurrent weight.
        gain: sigma_w of the recurrent weight at the first step of training; NaN if unknown.
        is_gated: True for LSTM and GRU.
    """

    name: str
    steps: int
    log_ratio: Matrix
    is_measured: bool
    gain: float
    is_gated: bool


def recurrences(reading: Reading) -> tuple[Recurrence, ...]:
    """Return the recurrent layers of a network."""
    return (*_unrolled(reading), *_fused(reading))


def _unrolled(reading: Reading) -> Iterator[Recurrence]:
    gradient = reading.rms("gradient")
    if gradient is None:
        return
    calls: dict[str, list[tuple[int, int]]] = {}
    for row, site in enumerate(gradient.sites):
        path, call = without_call(site.name)
        calls.setdefault(path, []).append((call, row))
    repeated = {path: sorted(found) for path, found in calls.items() if len(found) >= STEPS_OF_A_RECURRENCE}
    modules = reading.derived(recurrent_names)
    found = []
    for path, rows in repeated.items():
        name, _, part = path.partition("[")
        site = gradient.sites[rows[0][1]]
        if name not in modules or part not in ("", "0]") or any(name.startswith(f"{other}.") for other in modules):
            continue
        is_cell = _is_cell(reading, name, site.operation)
        if not is_cell and (site.operation not in MAP_OPERATIONS or _is_gated(reading, name)):
            continue
        ratio = ratio_over_time(gradient.values[[row for _, row in rows]], is_cell=is_cell)
        is_gated = "LSTM" in site.operation or "GRU" in site.operation
        found.append((is_cell, Recurrence(name, len(rows), ratio, True, _gain(reading, name), is_gated)))
    shapes = {parameter.name: parameter.shape for parameter in reading.parameters}
    # Of the maps of a cell without a module of its own, the one from state to state has a square weight.
    found.sort(key=lambda pair: not pair[0] and not _is_square(shapes.get(f"{pair[1].name}.weight", ())))
    yield from (recurrence for _, recurrence in found)


def ratio_over_time(values: Matrix, *, is_cell: bool) -> Matrix:
    """Return the logarithm of the gradient at the first time step relative to the last, for each step of training.

    Args:
        values: (time steps, steps of training), root mean squares of the gradient.
        is_cell: True for outputs of a cell. Those of a map are a chain only if many factors make up their ratio:
            otherwise the calls may be side by side, and one of them has a small gradient of its own.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values)
    # A gradient of exactly 0 is that of a value which nothing reads, such as the first forget gate's (its cell state is
    # 0), unless the next gradient is so small that the one before underflows.
    logs[~np.isfinite(logs)] = np.nan
    ratio = np.full(values.shape[1], np.nan)
    for step, column_of in enumerate(logs.T):
        places = np.flatnonzero(np.isfinite(column_of))
        if len(places) < 2:
            continue
        known = column_of[places]
        if places[0] > 0 and known[0] < _UNDERFLOW and (values[: places[0], step] == 0).all():
            known = np.append(math.log(1e-45), known)
        # Time steps whose outputs the loss reads directly have a gradient of their own.
        largest = 1 + int(known[1:].argmax())
        ratio[step] = known[0] - known[largest]
        if ratio[step] > 0:
            largest = len(known) - 1
            ratio[step] = known[0] - known[-1]
        changes = np.diff(known[: largest + 1])
        if not is_cell and np.abs(changes).max() > 0.5 * abs(ratio[step]):
            ratio[step] = 0.0
    return ratio


def _is_cell(reading: Reading, name: str, operation: str) -> bool:
    """Return True for a cell, whose output is the state: one of PyTorch's, or a module with layers inside.

    A function of the output of a map, "ff.sigmoid", does not make the map a cell.
    """
    if operation.endswith("Cell"):
        return True
    return operation not in MAP_OPERATIONS and any(
        site.operation in MAP_OPERATIONS and site.name.startswith(f"{name}.") for site in reading.outputs
    )


def _is_gated(reading: Reading, name: str) -> bool:
    """Return True if there are gates beside a map: what its output adds to is then no state, and need not be kept."""
    scope = name.rpartition(".")[0]
    return any(site.is_gate and site.name.startswith(f"{scope}." if scope else "") for site in reading.outputs)


def _is_square(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and shape[0] == shape[1]


def _fused(reading: Reading) -> Iterator[Recurrence]:
    for site in reading.outputs:
        if site.operation not in ("RNN", "LSTM", "GRU") or not site.name.endswith("[0]") or "#" in site.name:
            continue
        name, shape = site.name[:-3], site.shape
        if len(shape) != 3:
            continue
        gain = _gain(reading, name)
        steps = min(shape[:2])  # the batch may be first or second
        ratio = np.full(len(reading.steps), np.nan)
        if site.operation == "RNN" and math.isfinite(gain):
            # The recurrent weight changes little: the first step decides about the start, the last about the rest.
            last = len(reading.steps) - 1
            ratio[1:] = _expected(reading, site.name, _gain(reading, name, last), last) * steps
            ratio[0] = _expected(reading, site.name, gain, 0) * steps
        yield Recurrence(name, steps, ratio, False, gain, site.operation != "RNN")


def _expected(reading: Reading, name: str, gain: float, at: int) -> float:
    """Return the natural logarithm of the factor per time step of a tanh or ReLU recurrence."""
    mean, std = (float(column(reading, quantity, [name], at)[0]) for quantity in ("mean", "std"))
    if not (math.isfinite(mean) and math.isfinite(std)) or gain <= 0:
        return math.nan
    size = mean * mean + std * std
    if size > 1 or (mean > 0.2 * std and size > 0):  # outputs of ReLU are not centred on 0, and may be above 1
        return math.log(gain * math.sqrt(0.5))
    # The variance of the pre-activations at which tanh has outputs of this size.
    grid = np.geomspace(1e-3, 1e3, 121)
    sizes = mean_square("tanh", np.zeros(len(grid)), grid)
    width = float(np.interp(min(size, float(sizes[-1])), sizes, grid))
    return math.log(gain * math.sqrt(float(mean_square_slope("tanh", np.zeros(1), np.array([width]))[0])))


def _gain(reading: Reading, name: str, at: int = 0) -> float:
    for parameter in reading.parameters:
        path, _, part = parameter.name.rpartition(".")
        if path == name and part.startswith("weight_hh") and len(parameter.shape) == 2:
            known = parameter.norm[: at + 1][np.isfinite(parameter.norm[: at + 1])]
            return float(known[-1]) / math.sqrt(parameter.shape[0]) if len(known) else math.nan
    return math.nan
