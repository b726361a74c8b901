"""Saturated activations whose layer is not recorded, such as those of `torch.sigmoid(x @ weight)`.

Without the pre-activations only the exact case is certain: every value is saturated, and nothing after it depends on
the input.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.flow import modules_of
from thruway.diagnosing.rules.lost_input import is_constant
from thruway.diagnosing.rules.wording import layer_text, percent

__all__ = ["find_lost_in_saturation"]

_ALL = 0.99


def find_lost_in_saturation(reading: Reading) -> Iterator[Finding]:
    """Yield a finding for the first activation that is saturated as a whole up to the end and loses the input."""
    known_sites = {layer.activation_site for layer in reading.layers}
    ends: tuple[Literal["low", "high"], ...] = ("low", "high")
    for site in reading.outputs[:-1]:
        if site.activation not in ("tanh", "sigmoid", "softsign", "hardtanh", "hardsigmoid") or site.is_gate:
            continue
        if site.name in known_sites:
            continue
        for end in ends:
            values = reading.values(f"saturation_{end}")
            row = None if values is None else values.of(site.name)
            if row is None:
                continue
            spell = reading.spell(row > _ALL, np.isfinite(row))
            if spell is None or spell[1] is not None:
                continue
            since, _ = spell
            at = int(np.searchsorted(reading.steps, since[1]))
            if is_constant(reading, site.name, at) and is_constant(reading, reading.outputs[-1].name, at):
                yield _finding(reading, site.name, str(site.activation), end, float(row[at]), since)
                return


def _finding(
    reading: Reading,
    name: str,
    activation: str,
    end: Literal["low", "high"],
    value: float,
    since: tuple[int | None, int],
) -> Finding:
    is_initial = since[0] is None
    after = "" if is_initial else ", and were not before"
    return Finding(
        "saturated",
        f"{percent(value)} of the values of {layer_text(name)} lie at the {end} end of {activation}{after}: they are "
        "the same for every input, so that nothing after them depends on it. Its inputs are far from 0: weights that "
        "are all of one sign, or too large.",
        modules_of(reading, [name]),
        since=since,
        evidence=(
            Evidence(
                f"saturation_{end}",
                name,
                since[1],
                value,
                f"At step {since[1]} {percent(value)} of the values of {layer_text(name)} are saturated",
                "threshold",
                None,
                _ALL,
            ),
            Evidence(
                "saturation",
                name,
                since[1],
                value,
                f"{activation} has a slope of nearly 0 there: neither differences of inputs nor gradients pass",
                "theory",
            ),
            Evidence(
                "input_correlation",
                name,
                since[1],
                1.0,
                "It is no gate and no nearly binary feature: its values are the same for every input.",
                "ruled out",
            ),
        ),
        cures=tuple(CURES[cure] for cure in (("critical_init", "normalise") if is_initial else ("lower_lr", "clip"))),
        span=(name, name),
        until=None,
        end=end,
        margin=1.0,
        confidence=0.9,
    )
