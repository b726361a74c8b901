"""An output that does not depend on the input: weights that are all zero, or outputs without variation."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.names import embedding_names, owner_of
from thruway.diagnosing.reading import Parameter, Reading
from thruway.diagnosing.rules.constant_input import constant_input
from thruway.diagnosing.rules.loss_graph import chance_loss, loss_nodes
from thruway.diagnosing.rules.lost_input import reason_of
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.wording import join_names, number, output_text

__all__ = ["CONSTANT_OUTPUT"]

ROUNDING = 1e-6  # share of an output's power that is rounding error in float32


def find_constant_output(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if all weights are zero, or the last output is the same for every input until the end."""
    zero = _zero_weights(reading)
    if zero:
        yield _all_zero(reading, zero)
        return
    yield from _no_variation(reading)


def _zero_weights(reading: Reading) -> list[Parameter]:
    """Return the weight matrices if all of them are zero at the first recorded step, without embeddings."""
    embeddings = embedding_names(reading)
    weights = [
        p
        for p in reading.parameters
        if len(p.shape) >= 2 and np.isfinite(p.norm).any() and owner_of(p.name) not in embeddings
    ]
    # A single weight, as of logistic regression, may start at zero: its gradient does not depend on it.
    if len(weights) < 2 or any(_first(p.norm) != 0 for p in weights):
        return []
    return weights


def _first(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known[0]) if len(known) else float("nan")


def _all_zero(reading: Reading, weights: list[Parameter]) -> Finding:
    first = int(reading.steps[0])
    names = [p.name for p in weights]
    moved = [p.name for p in weights if np.nansum(p.update_norm) > 0]
    still = f"of {len(names)} weights, {len(moved)} moved" if reading.values("norm", "update") is not None else ""
    return Finding(
        "constant_output",
        f"All weights are zero at step {first} ({join_names(names)}): the output ignores the input, and no gradient "
        "reaches any layer before the last.",
        tuple(name.rpartition(".")[0] or name for name in names),
        since=(None, first),
        evidence=(
            Evidence(
                "norm", names[0], first, 0.0, f"the norm of all {len(names)} weights is 0", "threshold", None, 0.0
            ),
            Evidence(
                "gradient_norm",
                names[0],
                first,
                _first(weights[0].gradient_norm),
                "the gradient of a layer is a product with the weights after it, all zero: only the last bias moves",
                "theory",
                0.0,
            ),
            Evidence(
                "norm",
                names[-1],
                first,
                0.0,
                f"not a zero-initialised branch or head: every weight is zero{'; ' + still if still else ''}",
                "ruled out",
            ),
        ),
        cures=(CURES["break_symmetry"], CURES["critical_init"]),
        span=(names[0].rpartition(".")[0], names[-1].rpartition(".")[0]),
        confidence=0.99,
    )


def _no_variation(reading: Reading) -> Iterator[Finding]:
    found = _share_of_constant(reading)
    if found is None:
        return
    name, values = found
    inputs = reading.values("std", "input")
    if inputs is not None and not np.nansum(inputs.values) > 0:
        yield from constant_input(reading, name)
        return
    places = np.flatnonzero(np.isfinite(values))
    is_constant = 1.0 - values[places] <= ROUNDING
    # A head that starts at zero is constant at the first step only.
    if not len(places) or not is_constant[-1] or (len(reading.steps) < 2 and _starts_at_zero(reading, name)):
        return
    varying = np.flatnonzero(~is_constant)
    start = int(varying[-1]) + 1 if len(varying) else 0
    place = int(places[start])
    if len(places) < 2 and not start and _starts_at_zero(reading, name):
        return
    step = int(reading.steps[place])
    before = int(reading.steps[places[start - 1]]) if start else None
    chance = chance_loss(loss_nodes(reading))
    at_chance = ""
    if chance is not None and _is_at(reading, chance):
        at_chance = f" The loss is that of a constant guess, {number(chance)}."
    whose = output_text(name)
    why, cures = ("", (CURES["lower_lr"],)) if start else reason_of(reading, name, place)
    yield Finding(
        "constant_output",
        f"{whose[0].upper()}{whose[1:]} is the same for every input since step {step}{why}.{at_chance}",
        (name,) if name else (),
        since=(before, step),
        evidence=(
            Evidence(
                "input_correlation",
                name,
                int(reading.steps[places[-1]]),
                float(values[places[-1]]),
                f"{_spread(reading, name, place)}",
                "threshold",
                None,
                1.0 - ROUNDING,
            ),
            Evidence(
                "loss",
                "",
                None,
                float("nan") if reading.loss is None else float(reading.loss[-1]),
                "an output that ignores the input has at best the loss of the best constant"
                + ("" if chance is None else f", for classes of equal size {number(chance)}"),
                "theory",
                chance,
            ),
            Evidence(
                "input_correlation",
                name,
                step,
                float(is_constant.sum()),
                f"not a head that starts at zero: the output is constant at {int(is_constant.sum())} of {len(places)} "
                "measured steps, the last included",
                "ruled out",
            ),
        ),
        cures=cures,
        confidence=0.85,
    )


def _spread(reading: Reading, name: str, place: int) -> str:
    std = reading.values("std", "output")
    row = None if std is None else std.of(name)
    if row is not None and row[place] == 0:
        return f"all values of {output_text(name)} are equal"
    return f"the share of the power of {output_text(name)} that is the same for every input is 1 up to rounding"


def _share_of_constant(reading: Reading) -> tuple[str, NDArray[np.float64]] | None:
    """Return the name of the last output and the share of its power that is the same for every input, (steps,).

    If the share was not measured, it is known only where all values of the output are equal: there it is 1.
    """
    outputs = [s for s in reading.outputs if s.operation not in ("softmax", "log_softmax") and len(s.shape) > 1]
    outputs = [s for s in outputs if s.shape[0] > 1]  # a single example has no other to differ from
    correlation, std = reading.values("input_correlation", "output"), reading.values("std", "output")
    for site in reversed(outputs):
        spread = None if std is None else std.of(site.name)
        if spread is None:
            continue
        share = None if correlation is None else correlation.of(site.name)
        equal = np.where(spread == 0, 1.0, np.where(np.isfinite(spread), 0.0, np.nan))
        return site.name, equal if share is None else np.where(spread == 0, 1.0, share)
    return None


def _starts_at_zero(reading: Reading, name: str) -> bool:
    """Return True if the weight of the output's layer is zero at the first step, or unknown."""
    layers = [layer for layer in reading.layers if layer.weight is not None]
    if not layers:
        return True
    last = next((p for p in reading.parameters if p.name == layers[-1].weight), None)
    return last is None or _first(last.norm) == 0 or not np.isfinite(last.norm).any()


def _is_at(reading: Reading, chance: float) -> bool:
    return reading.loss is not None and bool(abs(reading.loss[-1] / chance - 1.0) < 0.1)


CONSTANT_OUTPUT = Rule(
    "constant_output",
    find_constant_output,
    needs=(("std", "output"),),
    explains=frozenset(
        ("symmetric_init", "vanishing_gradient", "rank_collapse", "poor_init", "lr_too_low", "dead_units")
    ),
)
