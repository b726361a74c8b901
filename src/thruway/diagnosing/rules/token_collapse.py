"""Tokens of a sequence that become alike from layer to layer, however different the sequences are.

`position_correlation` is c = E_s ||E_t h||^2 / E ||h||^2 over sequences s and positions t; 1 - c is the share of the
signal in which the positions of a sequence differ. Attention averages positions. Without what keeps them apart, such as
skip connections, 1 - c falls by a factor in each layer, and more than exponentially near 0.
"""

from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Matrix, Reading
from thruway.diagnosing.rules.flow import modules_of
from thruway.diagnosing.rules.loss_history import loss_history
from thruway.diagnosing.rules.time_gradients import late_fall
from thruway.diagnosing.rules.wording import layer_text, number, part
from thruway.watching.sites import Site

__all__ = ["token_collapse"]

_LEAST = 1e-4  # a hundredth of the size of the signal
_LEAST_SITES = 3


def token_collapse(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if the last layer with positions has lost what tells them apart, and the loss does not fall."""
    likeness = reading.values("position_correlation")
    history = loss_history(reading)
    if likeness is None or history is None or late_fall(reading) is None:
        return
    sites = _sequences(reading, likeness.row_of)
    if len(sites) < _LEAST_SITES:
        return
    varying = 1 - likeness.values[[likeness.row_of[site.name] for site in sites]]
    start, end = varying[0], varying[-1]
    known = np.isfinite(start) & np.isfinite(end)
    # The positions must differ at first: a sequence of equal tokens is no collapse.
    spell = reading.spell(known & (end < _LEAST) & (start > 100 * np.maximum(end, 1e-12)), known)
    if spell is not None and spell[1] is None:
        yield _finding(reading, sites, varying, spell[0])


def _sequences(reading: Reading, known: dict[str, int]) -> list[Site]:
    """Return the outputs with as many positions as the first one, in forward order. Later ones may have been pooled."""
    sites = [site for site in reading.outputs if site.name in known and len(site.shape) == 3 and not site.is_gate]
    return [
        site
        for site in sites
        if site.unit_dim == -1 and site.shape[:2] == sites[0].shape[:2] and site.activation != "softmax"
    ]


def _finding(reading: Reading, sites: list[Site], varying: Matrix, since: tuple[int | None, int]) -> Finding:
    at = int(np.searchsorted(reading.steps, since[1]))
    low = varying[:, at] < _LEAST
    # The first layer from which on all are low.
    first = len(sites) - int(np.argmin(low[::-1])) if not low.all() else 0
    place, names = max(first, 1), [site.name for site in sites]
    start, value = float(varying[0, at]), max(float(varying[-1, at]), 0.0)
    factor = (max(float(varying[place, at]), 1e-12) / start) ** (1 / place)
    fall = late_fall(reading) or 0.0
    return Finding(
        "rank_collapse",
        f"The tokens of each sequence become alike: {part(value)} of the signal of {layer_text(names[-1])} differs "
        f"between the positions of a sequence, and {number(start)} at {layer_text(names[0])}. It shrinks by a factor "
        f"of {number(factor)} a layer. Attention averages the tokens, and nothing keeps them apart.",
        modules_of(reading, names[place:]),
        since=since,
        evidence=(
            Evidence(
                "position_correlation",
                names[-1],
                since[1],
                value,
                f"At step {since[1]} {part(value)} of the signal differs between the positions of a sequence; all the "
                "rest is the same for them.",
                "threshold",
                start,
                _LEAST,
            ),
            Evidence(
                "position_correlation",
                names[place],
                since[1],
                factor,
                "A skip connection adds the tokens to their average, and keeps a share of what tells them apart: a "
                f"factor near 1 a layer. It is {number(factor)}.",
                "theory",
                1.0,
            ),
            Evidence(
                "position_correlation",
                names[0],
                since[1],
                start,
                f"The tokens are not alike from the start: after {layer_text(names[0])} {number(start)} of the signal "
                f"differs between positions. The network does not do without them: the loss falls by {number(fall)}.",
                "ruled out",
            ),
        ),
        cures=tuple(CURES[name] for name in ("skip", "normalise", "critical_init")),
        span=(names[place], names[-1]),
        margin=max(1.0, _LEAST / max(value, 1e-12)),
        confidence=0.85,
    )
