"""Saturated activations of a recurrence whose gradient vanishes through time: the cause, not a small weight."""

import re
from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import MAP_OPERATIONS, Matrix, Reading
from thruway.diagnosing.rules.time_gradients import vanishing_through_time
from thruway.diagnosing.rules.wording import layer_text, number, percent
from thruway.diagnosing.trunk import STEPS_OF_A_RECURRENCE, column, without_call
from thruway.watching.sites import Site

__all__ = ["find_saturated_steps"]

_BOUNDED = frozenset(("tanh", "sigmoid", "softsign", "hardtanh"))
_MOST = 0.5  # with more than half of the values saturated, a step passes less than it stops


def find_saturated_steps(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if most values at every time step are saturated from the first step of training on.

    A recurrence that learns to keep its state saturates its units later: only the first step of training tells.
    """
    for name, sites in _activations(reading).items():
        shares = np.array([_share(reading, site.name) for site in sites])
        known = np.isfinite(shares).all(0)
        if len(sites) < STEPS_OF_A_RECURRENCE or not known.any():
            continue
        smallest = np.where(known, shares.min(0), np.nan)
        spell = reading.spell(smallest > _MOST, known)
        if spell is None or spell[0][0] is not None or spell[1] is not None:
            continue
        if next(vanishing_through_time(reading), None) is not None:
            yield _finding(reading, name, sites, smallest, spell[0])
            return


def _activations(reading: Reading) -> dict[str, list[Site]]:
    """Return the sites of each bounded activation that is called in several time steps, without gates."""
    found: dict[str, list[Site]] = {}
    for site in reading.outputs:
        if site.activation in _BOUNDED and not site.is_gate:
            name = re.sub(r"_\d+$", "", without_call(site.name)[0])  # "tanh", "tanh_2", "tanh_3" of a loop
            found.setdefault(name, []).append(site)
    return found


def _share(reading: Reading, name: str) -> Matrix:
    """Return the share of saturated values of a site, (steps,)."""
    ends = [reading.values(f"saturation_{end}") for end in ("low", "high")]
    total = np.zeros(len(reading.steps))
    for values in ends:
        row = None if values is None else values.of(name)
        total = total + (np.nan if row is None else row)
    return total


def _finding(reading: Reading, name: str, sites: list[Site], shares: Matrix, since: tuple[int | None, int]) -> Finding:
    at = int(np.searchsorted(reading.steps, since[1]))
    share, activation = float(shares[at]), str(sites[0].activation)
    source, std = _largest_map(reading, at)
    what = f": {layer_text(source)} gives values with a standard deviation of {number(std)}" if source else ""
    layer = source or name
    return Finding(
        "saturated",
        f"At least {percent(share)} of the values of {activation} are saturated in all {len(sites)} time steps since "
        f"step {since[1]}{what}, and about 1 would keep {activation} in its steep part. So the gradient vanishes "
        "through time.",
        (layer,),
        since=since,
        evidence=(
            Evidence(
                "saturation", sites[0].name, since[1], share,
                f"At step {since[1]} at least {percent(share)} of the values are saturated in each of the "
                f"{len(sites)} time steps; up to {percent(_MOST)} is usual.",
                "threshold", None, _MOST,
            ),
            Evidence(
                "std", layer, since[1], std,
                f"the slope of {activation} is near 0 at such values, and the gradient is multiplied by it in every "
                "time step",
                "theory", 1.0,
            ),
            Evidence(
                "saturation", sites[-1].name, since[1], share,
                "It is no gate and no state that the network has learnt to keep: it is so before training.",
                "ruled out",
            ),
        ),
        cures=(CURES["scale_input"], CURES["critical_init"], CURES["normalise"]),
        span=(layer, layer),
        margin=share / _MOST,
        confidence=0.9,
    )  # fmt: skip


def _largest_map(reading: Reading, at: int) -> tuple[str, float]:
    """Return the layer with the largest outputs of those called in every time step, or ""."""
    names = [
        without_call(site.name)[0]
        for site in reading.outputs
        if site.operation in MAP_OPERATIONS and site.name.endswith(f"#{STEPS_OF_A_RECURRENCE}")
    ]
    if not names:
        return "", float("nan")
    stds = np.nan_to_num(column(reading, "std", names, at), nan=-1.0)
    return names[int(stds.argmax())], float(stds.max())
