"""What each figure of a dissection shows, as a sentence made from its numbers."""

import math

import numpy as np

from thruway.dissecting import Deletion, Deletions, DrawnLesions
from thruway.dissecting.paths.lengths import LengthRange, PathLengths
from thruway.dissecting.paths.results import ByLength, PathGradients, SampledPaths
from thruway.report.dissection_findings import RANKINGS, DissectionFindings
from thruway.report.numbers import shown

__all__ = [
    "agreement_reading",
    "decay_per_branch",
    "deletions_reading",
    "drawn_reading",
    "exact_reading",
    "headline",
    "lengths_reading",
    "paths_reading",
    "reading_lines",
    "reordered_reading",
    "without_dust",
]

FEWEST_RANKED = 5  # branches, below which any order agrees with any other


def headline(found: DissectionFindings) -> str:
    """The answer in a paragraph; without data, that there is none."""
    branches = found.dissection.branches
    if not branches:
        return (
            f"No branches were found by following an example through the model: {found.example}. There is nothing to "
            "leave out."
        )
    if not found.is_measured:
        return (
            f"{_counted(len(branches))} found, by following an example through the model: {found.example}. No data was "
            "given, so nothing here says which of them matter: this is the structure only."
        )
    sentences = [f"{_counted(len(branches))} found, and lesions measured on {found.data}.", _worst(found.deletions[0])]
    if found.gradients is not None and _carries(found.gradients):
        depth = found.gradients.effective_depth()
        sentences.append(
            f"Effective depth: {depth.value:.1f} of {len(branches)} branches ({depth.level:.0%} interval "
            f"{depth.low:.1f} to {depth.high:.1f})."
        )
    return " ".join(filter(None, sentences))


def reading_lines(found: DissectionFindings) -> list[str]:
    """Every figure's sentence, in the order of the report."""
    lines = [deletions_reading(each) for each in found.deletions]
    lines += [drawn_reading(found.drawn)] if found.drawn is not None else []
    lines += [reordered_reading(found.reordered)] if found.reordered is not None else []
    lines += [lengths_reading(found.paths)] if found.paths is not None else []
    lines += [paths_reading(found.sampled)] if found.sampled is not None else []
    lines += [exact_reading(found.gradients)] if found.gradients is not None else []
    lines += [agreement_reading(found)] if found.rankings is not None else []
    return lines


def deletions_reading(found: Deletions) -> str:
    """How much single deletions cost, whose most, and how many cost nothing that can be told."""
    if not found.rows:
        return "There is nothing to leave out."
    if not math.isfinite(found.intact):
        return f"The intact net's {found.metric} is no number, so that lesions have nothing to be held against."
    values = [row.value for row in found if math.isfinite(row.value)]
    if not values:
        return f"No {found.metric} is a number once a branch is missing."
    low, high = shown(min(values)), shown(max(values))
    spread = low if low == high else f"{low} to {high}"
    harmless = sum(_is_harmless(row, found) for row in found)
    why = (
        "the interval of the change reaches 0 or the better side"
        if _has_ends(found)
        else "the change is below a tenth of the largest"
    )
    can_go = (
        f"{harmless} of {len(found)} can go alone ({why}), but may be needed once others are gone."
        if harmless
        else "None can go alone without a change that shows."
    )
    first = f"With one branch left out the {found.metric} is {spread}, with all of them {shown(found.intact)}."
    return " ".join(filter(None, (first, _worst(found), can_go)))


def drawn_reading(found: DrawnLesions) -> str:
    """How the metric grows with the number of branches left out."""
    quartiles = found.quartiles()
    ks, medians = quartiles["k"].tolist(), quartiles["median"].tolist()
    if len(ks) == 1:
        branches = "1 random branch" if ks[0] == 1 else f"{ks[0]} random branches"
        without = f"Without {branches} the median {found.metric} is {shown(medians[0])}"
        return f"{without}, with all {shown(found.intact)}."
    return (
        f"The median {found.metric} goes from {shown(found.intact)} with all branches to {shown(medians[0])} without "
        f"{ks[0]} and {shown(medians[-1])} without {ks[-1]} drawn at random."
    )


def reordered_reading(found: DrawnLesions) -> str:
    """How the metric grows as the order is lost."""
    quartiles = found.quartiles()
    first, last = (
        f"after {k} swap{'s' if k != 1 else ''} (tau {tau:.2f} on average) {shown(median)}"
        for k, tau, median in ((quartiles["k"][at], quartiles["tau"][at], quartiles["median"][at]) for at in (0, -1))
    )
    more = "" if len(quartiles) == 1 else f", and {last}"
    return f"In the original order the {found.metric} is {shown(found.intact)}; {first} in the median{more}."


def lengths_reading(paths: PathLengths) -> str:
    """Where most paths lie."""
    if not paths.total:
        return "No path leads from the start to the output."
    most = paths.range()
    return (
        f"{most.share:.1%} of the {_many(paths.total)} paths go through {_between(most)} of at most "
        f"{len(paths.counts) - 1}, {paths.mean:.1f} on average."
    )


def paths_reading(found: SampledPaths) -> str:
    """How fast single paths lose the gradient, and which lengths are left with it."""
    if not _carries(found):
        return "No gradient arrives along any path."
    factor = decay_per_branch(found)
    per = (
        f"is {factor:.2f} times as large with each further branch" if math.isfinite(factor) else "follows no one factor"
    )
    effective, depth = found.effective_paths(), found.effective_depth()
    return (
        f"Along a single path the gradient {per}. As published, its mean times the number of paths: "
        f"{effective.share:.0%} is then on {_between(effective, 'length')}, "
        f"{_share(effective.paths)} of all paths, and the mean length is {depth.value:.1f}. "
        "That counts paths as if none cancelled."
    )


def exact_reading(found: PathGradients) -> str:
    """Which lengths carry the gradient, with whatever cancels."""
    if not _carries(found):
        return "No gradient arrives."
    effective, depth = found.effective_paths(), found.effective_depth()
    count = sum(found.paths)
    mean = sum(length * paths / count for length, paths in enumerate(found.paths))
    return (
        f"{effective.share:.0%} of the gradient is on paths of {_between(effective)}, "
        f"{_share(effective.paths)} of all paths. Weighted by what they carry, paths are {depth.value:.2f} branches "
        f"long ({depth.level:.0%} interval {depth.low:.2f} to {depth.high:.2f}); counted alike, {mean:.1f}."
    )


def agreement_reading(found: DissectionFindings) -> str:
    """Which ranking finds the order that deletion finds."""
    assert found.rankings is not None
    if "measured" not in found.rankings.scores:
        return "How far each branch moves the stream, without leaving it out."
    table = found.rankings.agreement()
    known = [
        (float(rho), RANKINGS.get(str(name), str(name)))
        for name, rho in zip(table["ranking"], table["rho"], strict=True)
        if math.isfinite(float(rho))
    ]
    if not known or len(found.dissection.branches) < FEWEST_RANKED:
        return "There are too few branches to compare orders."
    best_rho, best = max(known)
    if best_rho <= 0:
        return (
            f"No ranking finds the order of {found.rankings_agree_with}: the closest, by {best}, has a rank "
            f"correlation of {best_rho:.2f}."
        )
    told = {name: rho for rho, name in known}
    first_order = RANKINGS["predicted"]
    predicted = f" The {first_order} reaches {told[first_order]:.2f}." if first_order in told else ""
    return (
        f"Closest to the order of {found.rankings_agree_with} is the ranking by {best}, with a rank correlation of "
        f"{best_rho:.2f}.{predicted if best != first_order else ''}"
    )


def decay_per_branch(found: SampledPaths) -> float:
    """The factor on a single path's gradient for one more branch: a straight line through its logarithm.

    NaN for fewer than three lengths.
    """
    means = found.mean.double().tolist()
    lengths = [length for length, mean in enumerate(means) if mean > 0 and math.isfinite(mean)]
    if len(lengths) < 3:
        return math.nan
    slope, _ = np.polyfit(np.array(lengths, dtype=float), np.log([means[length] for length in lengths]), 1)
    return float(np.exp(slope))


def _worst(found: Deletions) -> str:
    worst: Deletion = found.ranked()[0]
    if not math.isfinite(worst.change):
        return ""
    if found.higher_is_better is not None and worst.change * (-1 if found.higher_is_better else 1) <= 0:
        return f"No branch is missed: the {found.metric} is no worse without any one of them."
    low, high = (without_dust(end, found) for end in (worst.low, worst.high))
    ends = f", {found.level:.0%} interval {low:+.3g} to {high:+.3g}" if math.isfinite(low) else ""
    return (
        f"Branch {worst.index} ({worst.name}) is missed most: without it the {found.metric} is {shown(worst.value)} "
        f"({worst.change:+.3g}{ends})."
    )


def _is_harmless(row: Deletion, found: Deletions) -> bool:
    # A change that is no number is smaller than nothing.
    if not _has_ends(found):
        largest = max((abs(each.change) for each in found if math.isfinite(each.change)), default=0.0)
        return abs(row.change) < largest / 10
    return without_dust(row.low, found) <= 0 if not found.higher_is_better else without_dust(row.high, found) >= 0


def without_dust(change: float, found: Deletions) -> float:
    """The end of an interval, 0 where only rounding keeps it from 0: a mean of zeros and ones has such ends often."""
    size = max((abs(each.value) for each in found if math.isfinite(each.value)), default=0.0)
    return 0.0 if abs(change) < 1e-12 * max(size, abs(found.intact)) else change


def _has_ends(found: Deletions) -> bool:
    return any(math.isfinite(row.low) for row in found)


def _carries(found: ByLength) -> bool:
    return bool(found.weights.sum() > 0)


def _between(lengths: LengthRange, of: str = "") -> str:
    """Such as "1 to 6 branches", or "lengths 1 to 6"."""
    is_one = lengths.shortest == lengths.longest
    told = str(lengths.shortest) if is_one else f"{lengths.shortest} to {lengths.longest}"
    if of:
        return f"{of}{'' if is_one else 's'} {told}"
    return f"{told} branch{'' if told == '1' else 'es'}"


def _counted(count: int) -> str:
    return f"{count} branch{'es' if count != 1 else ''} {'were' if count != 1 else 'was'}"


def _many(count: int) -> str:
    return f"{count:,}" if count < 10**9 else f"{count:.2e}" if count < 10**300 else f"10^{len(str(count)) - 1}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else f"{100 * share:.2g} %"
