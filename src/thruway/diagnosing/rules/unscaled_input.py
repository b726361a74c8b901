"""Inputs that are far from mean 0 and standard deviation 1, and reach a layer without a norm."""

from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import NORM_OPERATIONS, Layer, Reading
from thruway.diagnosing.rules.loss_graph import chance_loss, loss_nodes
from thruway.diagnosing.rules.loss_history import LossHistory, loss_history
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.unscaled_sequence import find_unscaled_sequence
from thruway.diagnosing.rules.wording import layer_text, number, percent

__all__ = ["UNSCALED_INPUT"]

LARGE = 10.0  # rms: with the usual initial weights pre-activations have a rms of 6 and more, on the flat part of tanh


def find_unscaled_input(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if an input of wrong scale reaches the first layer, and training suffers."""
    inputs = reading.rms("input")
    if inputs is None or not reading.layers:
        return
    found = find_unscaled_sequence(reading, inputs)
    if found is not None:
        yield found
        return
    first = reading.layers[0]
    if first.is_normalised or _norm_comes_first(reading, first):
        return
    gain = _first_layer_gain(reading, first)
    for site, values in zip(inputs.sites, inputs.values, strict=True):
        known = np.flatnonzero(np.isfinite(values))
        if not len(known):
            continue
        size = float(values[known[0]])
        if 1.0 / LARGE**2 < size < LARGE or gain is None or size == 0:
            continue
        # The input reaches this layer if the output has the size that the weights predict, within a factor of 4.
        if not 0.25 < gain[1] / (gain[0] * size) < 4.0 * max(1.0, np.sqrt(first.fan_in) / 4.0):
            continue
        harm = _harm(reading, first, size)
        if harm is not None:
            yield _finding(reading, first, site.name, int(known[0]), size, gain, harm)
            return


def _norm_comes_first(reading: Reading, first: Layer) -> bool:
    for site in reading.outputs:
        if site.name == first.name:
            return False
        if site.operation in NORM_OPERATIONS:
            return True
    return False


def _first_layer_gain(reading: Reading, first: Layer) -> tuple[float, float] | None:
    """Return the rms of the first layer's output per rms of its input, as its weights predict, and its measured rms."""
    outputs = reading.rms("output")
    parameter = next((p for p in reading.parameters if p.name == first.weight), None)
    if outputs is None or parameter is None or not first.fan_in:
        return None
    values = outputs.of(first.name)
    stds = parameter.std[np.isfinite(parameter.std)]
    if values is None or not len(stds) or not np.isfinite(values).any() or stds[0] == 0:
        return None
    return float(stds[0] * np.sqrt(first.fan_in)), float(values[np.isfinite(values)][0])


def _harm(reading: Reading, first: Layer, size: float) -> str | None:
    """Return the damage in words, or None if training goes well in spite of the scale."""
    for end in ("low", "high"):
        shares = reading.values(f"saturation_{end}", "output")
        if (
            first.activation_site is not None
            and shares is not None
            and first.activation not in ("relu", "gelu", "silu")
        ):
            row = shares.of(first.activation_site)
            known = np.empty(0) if row is None else row[np.isfinite(row)]
            if len(known) and known[0] > 0.25:
                return f"{percent(float(known[0]))} of {layer_text(first.activation_site)} lies at its {end} end"
    history = reading.derived(loss_history)
    if history is None:
        return None
    if history.failed_at is not None:
        return "the loss is not finite"
    if not len(history.finite):
        return None
    chance = chance_loss(loss_nodes(reading))
    if size > 1 and chance is not None and history.finite[0] > 3.0 * chance:
        return f"the first loss is {number(float(history.finite[0]))}, that of a constant guess {number(chance)}"
    if size > LARGE and _is_square_of_outputs(reading, history):
        return (
            f"the first loss is {number(float(history.finite[0]))}, the square of the first outputs, which grow with "
            f"the inputs, and it was {number(float(history.finite.min()))} later"
        )
    if len(history.finite) < 4:
        return None
    if float(history.finite[1:].max()) > 10.0 * history.finite[0]:
        return f"the loss rose from {number(float(history.finite[0]))} to {number(float(history.finite[1:].max()))}"
    if size >= 5.0 * LARGE and len(history.finite) >= 20 and history.relative_fall < 0.75:
        return f"the loss only went from {number(history.first_level)} to {number(history.last_level)}"
    if len(history.finite) >= 20 and history.relative_fall < 0.05:
        return f"the loss did not fall: {number(history.first_level)} at first, {number(history.last_level)} at last"
    return None


def _is_square_of_outputs(reading: Reading, history: LossHistory) -> bool:
    """Return True if the first loss is the mean square of the first outputs, and far above later losses.

    The targets are then negligible beside the outputs, so that a constant prediction of 0 would be far better.
    """
    outputs = reading.rms("output")
    is_square = any(node.operation.startswith("MseLossBackward") for node in loss_nodes(reading))
    if outputs is None or not is_square or not len(reading.layers):
        return False
    row = outputs.of(reading.layers[-1].name)
    first = float(history.finite[0])
    if row is None or not np.isfinite(row[history.places[0]]):
        return False
    square = float(row[history.places[0]]) ** 2
    return 0.9 < first / square < 1.1 and float(history.finite.min()) < first / LARGE**2


def _name(name: str) -> str:
    """Return the name of an input in a sentence.

    >>> _name("input"), _name("x")
    ('the input', 'the input x')
    """
    return "the input" if name == "input" else f"the input {name}"


def _finding(
    reading: Reading, first: Layer, name: str, place: int, size: float, gain: tuple[float, float], harm: str
) -> Finding:
    step = int(reading.steps[place])
    mean, std = reading.values("mean", "input"), reading.values("std", "input")
    m, s = (float("nan") if v is None or (row := v.of(name)) is None else float(row[place]) for v in (mean, std))
    threshold = LARGE if size > 1 else 1.0 / LARGE**2
    return Finding(
        "unscaled_input",
        f"T{_name(name)[1:]} has mean {number(m)} and standard deviation {number(s)} and reaches "
        f"{layer_text(first.name)} without a norm; "
        f"{harm}. Standardise the inputs.",
        (first.name,),
        since=(None, step),
        evidence=(
            Evidence(
                "rms",
                name,
                step,
                size,
                f"the root mean square of {_name(name)} is {number(size)}; 1 is what the initial weights are made for",
                "threshold",
                1.0,
                threshold,
            ),
            Evidence(
                "rms",
                first.name,
                step,
                gain[1],
                f"for inputs of size 1 the output of {layer_text(first.name)} would be near {number(gain[0])}, and "
                f"it is {number(gain[1])}",
                "theory",
                gain[0],
            ),
            Evidence(
                "norm",
                first.name,
                step,
                0.0,
                f"no norm lies between {_name(name)} and {layer_text(first.name)}",
                "ruled out",
            ),
        ),
        cures=(CURES["scale_input"], CURES["normalise"]),
        span=(first.name, first.name),
        margin=size / LARGE if size > 1 else 1.0 / LARGE**2 / size,
        confidence=0.9,
    )


def _takes_numbers(reading: Reading) -> bool:
    """Return False if the first operation is an embedding: its inputs are tokens, which have no scale."""
    return not (reading.outputs and reading.outputs[0].operation in ("Embedding", "embedding", "EmbeddingBag"))


UNSCALED_INPUT = Rule(
    "unscaled_input",
    find_unscaled_input,
    needs=(("std", "input"), ("norm", "parameter")),
    explains=frozenset(
        (
            "lr_too_high",
            "lr_too_low",
            "nan_or_inf",
            "diverging",
            "saturated",
            "exploding_activation",
            "exploding_gradient",
            "vanishing_gradient",
            "dead_units",
            "dying_relu",
            "poor_init",
            "constant_output",
            "rank_collapse",
        )
    ),
    advice="Pass optimizer= to watch.",
    concerns=_takes_numbers,
)
