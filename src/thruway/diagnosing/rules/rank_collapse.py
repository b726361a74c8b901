"""Rule for layers that return nearly the same for every input: the information about the input is lost on the way.

`input_correlation` is c = |mean over inputs|^2 / mean square; 1 - c is the share of the signal that depends on the
input. Below 1e-4 of the square, it is less than a hundredth of the value.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading, Values
from thruway.diagnosing.rules.flow import modules_of
from thruway.diagnosing.rules.loss_history import loss_history
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.token_collapse import token_collapse
from thruway.diagnosing.rules.wording import layer_text, number, part
from thruway.diagnosing.trunk import trunk_of

__all__ = ["RANK_COLLAPSE"]

_LITTLE, _LEAST_LOSSES = 0.15, 20  # relative fall of the loss, and number of losses
_LEAST = 1e-4  # a hundredth of the size of the signal


def _find(reading: Reading) -> Iterator[Finding]:
    likeness = reading.values("input_correlation")
    if likeness is None:
        return
    for names in _chains(reading):
        found = _collapse(reading, likeness, [name for name in names if name in likeness.row_of])
        if found is not None:
            yield found
            return
    yield from token_collapse(reading)


def _chains(reading: Reading) -> Iterator[list[str]]:
    """Yield the names of outputs one after another: the layers, or activations without them, and attention weights.

    Without skip connections, attention makes the tokens of a sequence alike. The weights of the next attention are then
    the same for every input, however different the sequences are (Dong, Cordonnier & Loukas 2021).
    """
    trunk = reading.derived(trunk_of)
    layers = list(trunk.names) or [layer.name for layer in reading.layers]
    yield layers
    if len(layers) < 3:
        kinds = ("softmax", "log_softmax", None)
        yield [site.name for site in reading.outputs if site.activation not in kinds and not site.is_gate]
    if not trunk.is_branched:
        # The last softmax may be that of the output.
        yield [site.name for site in reading.outputs[:-1] if site.activation == "softmax" and len(site.shape) > 2]


def _collapse(reading: Reading, likeness: Values, names: list[str]) -> Finding | None:
    if len(names) < 3:
        return None
    varying = 1 - likeness.values[[likeness.row_of[name] for name in names]]
    start, rest = varying[0], varying[1:]
    known = np.isfinite(start) & np.isfinite(rest).any(0)
    low = np.where(np.isfinite(rest), rest, np.inf)
    worst = low.min(0)
    # The input itself must vary: a batch of one example, or of equal ones, is no collapse.
    sick = known & (worst < _LEAST) & (start > 100 * np.maximum(worst, 1e-12))
    spell = reading.spell(sick, known)
    if spell is None or spell[1] is not None:
        spell = _at_start(reading, sick, known)
    if spell is None:
        return None
    since, until = spell
    at = int(np.searchsorted(reading.steps, since[1]))
    is_low = low[:, at] < _LEAST
    first, value = int(np.argmax(is_low)), float(max(worst[at], 0.0))
    collapsed = [name for name, is_sick in zip(names[1:], is_low, strict=True) if is_sick]
    steps = max(1, first + 1)
    factor = (max(float(low[first, at]), 1e-12) / float(start[at])) ** (1 / steps)
    # A collapse over depth takes several layers. What one layer loses, an operation removes: see constant_output.
    before = float(low[first - 1, at] if first else start[at])
    is_at_once = max(float(low[first, at]), 0.0) < _LEAST * before and 0.1 * float(start[at]) < before <= 1.0
    text, cures = "", ("critical_init", "skip", "normalise")
    if "softmax" in {site.activation for site in reading.outputs if site.name == collapsed[0]}:
        text = " The tokens of a sequence have become alike: attention averages them, and nothing keeps them apart."
        cures = ("skip", "normalise", "critical_init")
    return Finding(
        "rank_collapse",
        f"{_sentence(collapsed[0])} returns nearly the same for every input: {_only(value)} of its signal depends on "
        f"the input, and {number(float(start[at]))} at {layer_text(names[0])}. The dependence shrinks by a factor "
        f"of {number(factor)} a layer.{text}",
        modules_of(reading, collapsed),
        since=since,
        evidence=(
            Evidence(
                "input_correlation",
                collapsed[0],
                since[1],
                value,
                f"At step {since[1]} {part(value)} of the signal depends on the input, and all the rest is the "
                "same for "
                "every input.",
                "threshold",
                float(start[at]),
                _LEAST,
            ),
            Evidence(
                "input_correlation",
                collapsed[0],
                since[1],
                factor,
                "At the critical point theory expects inputs to become alike like 1 / layers^2, not by a factor a "
                "layer: "
                f"after {steps} layers about {number(1 / steps**2)}.",
                "theory",
                1 / steps**2,
            ),
            Evidence(
                "input_correlation",
                names[0],
                since[1],
                float(start[at]),
                f"The inputs of the batch are not alike: after {layer_text(names[0])} {number(float(start[at]))} of "
                "the signal depends on them.",
                "ruled out",
            ),
        ),
        cures=tuple(CURES[name] for name in cures),
        span=(collapsed[0], collapsed[-1]),
        until=until,
        margin=max(1.0, _LEAST / max(value, 1e-12)),
        confidence=0.8 if is_at_once else 0.85,
    )


def _only(share: float) -> str:
    """Return a small share in words.

    >>> _only(3e-5), _only(0.0)
    ('only 3e-05', 'nothing')
    """
    return part(share) if share < 1e-12 else f"only {part(share)}"


def _sentence(name: str) -> str:
    """Return the name of a site at the beginning of a sentence."""
    text = layer_text(name)
    return text[0].upper() + text[1:] if text != name else text


def _at_start(
    reading: Reading, sick: NDArray[np.bool_], known: NDArray[np.bool_]
) -> tuple[tuple[int | None, int], int | None] | None:
    """Return the onset and the end of a collapse that was there at the start of a run that has learnt little since."""
    history = loss_history(reading)
    places = np.flatnonzero(known)
    if history is None or not len(places) or not sick[places[0]] or len(history.finite) < _LEAST_LOSSES:
        return None
    if not history.relative_fall < _LITTLE:
        return None
    healthy = places[~sick[places]]
    last = places[np.searchsorted(places, healthy[0]) - 1] if len(healthy) else places[-1]
    return (None, int(reading.steps[places[0]])), int(reading.steps[last])


RANK_COLLAPSE = Rule(
    "rank_collapse",
    _find,
    needs=(("input_correlation", "output"),),
    explains=frozenset(("constant_output", "lr_too_low")),
    advice='Record "input_correlation", as by default.',
)
