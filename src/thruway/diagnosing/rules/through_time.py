"""Gradients through the time steps of recurrent layers, measured step by step or expected from the recurrent weight.

A cell that is called once per time step has one output per step: "cell", "cell#2" and so on. The layers nn.RNN, nn.LSTM
and nn.GRU compute all steps at once. For nn.RNN, theory gives the factor sqrt(sigma_w^2 E f'(u)^2) per step from the
measured outputs and the scale of the recurrent weight. Gates of LSTM and GRU are made to keep or forget, so no factor
is expected of them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from thruway.diagnosing.reading import Matrix, Reading
from thruway.diagnosing.theory import mean_square, mean_square_slope
from thruway.diagnosing.trunk import column

__all__ = ["Recurrence", "recurrences"]


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
    calls: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row, site in enumerate(gradient.sites):
        path, _, rest = site.name.partition("#")
        number, _, part = (rest if rest else path).partition("[")
        base = path.split("[")[0]
        calls.setdefault((base, part), []).append((int(number) if rest and number.isdigit() else 1, row))
    repeated = {key for key, found in calls.items() if len(found) >= 4}
    outer = {name for name, _ in repeated if name}
    for (name, part), found in calls.items():
        found.sort()
        if (name, part) not in repeated or any(name.startswith(f"{other}.") for other in outer):
            continue
        operation = gradient.sites[found[0][1]].operation
        if not _is_state(reading, name, operation):
            continue
        values = gradient.values[[row for _, row in found]]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(values)
            # Steps whose outputs the loss reads directly have a gradient of their own.
            ratio = logs[0] - np.fmax.reduce(np.where(np.isfinite(logs), logs, np.nan)[1:], axis=0)
            grown = logs[0] - np.where(np.isfinite(logs[-1]), logs[-1], np.nan)
        ratio = np.where(np.isneginf(ratio), -300.0, ratio)
        ratio = np.where(ratio > 0, grown, ratio)
        is_gated = "LSTM" in operation or "GRU" in operation
        if part in ("", "0]"):
            yield Recurrence(
                name, len(found), np.where(np.isfinite(ratio), ratio, np.nan), True, _gain(reading, name), is_gated
            )


def _is_state(reading: Reading, name: str, operation: str) -> bool:
    """Return True for a cell, whose output is the state: one of PyTorch's, or a module with layers inside."""
    if operation.endswith("Cell"):
        return True
    return any(site.name.startswith(f"{name}.") for site in reading.outputs) and bool(name)


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
