"""Captions of the figures of a dissection, composed from their numbers."""

import math

import numpy as np

from thruway.dissecting import Deletion, Deletions, DrawnLesions
from thruway.dissecting.paths.lengths import LengthRange, PathLengths
from thruway.dissecting.paths.results import ByLength, PathGradients, SampledPaths
from thruway.report.dissection_findings import RANKINGS, DissectionFindings
from thruway.report.html import format_value

__all__ = [
    "agreement_caption",
    "captions",
    "decay_per_branch",
    "deletions_caption",
    "drawn_caption",
    "exact_caption",
    "headline",
    "lengths_caption",
    "paths_caption",
    "reordered_caption",
    "snapped_to_zero",
]

FEWEST_RANKED = 5  # with fewer branches, almost any two rankings agree


def headline(found: DissectionFindings) -> str:
    """Return the main result in one paragraph; without data, a note that nothing was measured."""
    branches = found.dissection.branches
    if not branches:
        return (
            f"No branches were found by running an example through the model ({found.example}), so there is nothing to "
            "leave out."
        )
    if not found.is_measured:
        return (
            f"{_counted(len(branches))} found by running an example through the model ({found.example}). No data was "
            "given, so this report shows the structure only, not which branches matter."
        )
    sentences = [
        f"{_counted(len(branches))} found, and lesions were measured on {found.data}.",
        _most_important(found.deletions[0]),
    ]
    if found.gradients is not None and _carries_gradient(found.gradients):
        depth = found.gradients.effective_depth()
        sentences.append(
            f"Effective depth: {depth.value:.1f} of {len(branches)} branches ({depth.level:.0%} interval "
            f"{depth.low:.1f} to {depth.high:.1f})."
        )
    return " ".join(filter(None, sentences))


def captions(found: DissectionFindings) -> list[str]:
    """Return the captions of all figures, in the order of the report."""
    lines = [deletions_caption(each) for each in found.deletions]
    lines += [drawn_caption(found.drawn)] if found.drawn is not None else []
    lines += [reordered_caption(found.reordered)] if found.reordered is not None else []
    lines += [lengths_caption(found.paths)] if found.paths is not None else []
    lines += [paths_caption(found.sampled)] if found.sampled is not None else []
    lines += [exact_caption(found.gradients)] if found.gradients is not None else []
    lines += [agreement_caption(found)] if found.rankings is not None else []
    return lines


def deletions_caption(found: Deletions) -> str:
    """Summary of single deletions: range, most important branch, number with no measurable effect."""
    if not found.rows:
        return "There are no branches to leave out."
    if not math.isfinite(found.intact):
        return f"The {found.metric} of the intact model is not finite, so lesions cannot be compared with it."
    values = [row.value for row in found if math.isfinite(row.value)]
    if not values:
        return f"The {found.metric} is not finite with any branch left out."
    low, high = format_value(min(values)), format_value(max(values))
    spread = low if low == high else f"{low} to {high}"
    unneeded = sum(_is_unneeded(row, found) for row in found)
    why = (
        "the interval of the change includes 0 or an improvement"
        if _has_intervals(found)
        else "the change is less than a tenth of the largest"
    )
    can_go = (
        f"{unneeded} of {len(found)} branches can be left out alone without measurable damage ({why}), but may be "
        "needed once others are gone."
        if unneeded
        else "No branch can be left out alone without measurable damage."
    )
    first = (
        f"With one branch left out the {found.metric} is {spread}; the intact model has {format_value(found.intact)}."
    )
    return " ".join(filter(None, (first, _most_important(found), can_go)))


def drawn_caption(found: DrawnLesions) -> str:
    """Describe the median of the metric by number of branches left out."""
    quartiles = found.quartiles()
    ks, medians = quartiles["k"].tolist(), quartiles["median"].tolist()
    intact = format_value(found.intact)
    if len(ks) == 1:
        return (
            f"Without {_random_branches(ks[0])} the median {found.metric} is {format_value(medians[0])}; the intact "
            f"model has {intact}."
        )
    return (
        f"The median {found.metric} goes from {intact} with all branches to {format_value(medians[0])} without "
        f"{_random_branches(ks[0])} and {format_value(medians[-1])} without {ks[-1]}."
    )


def reordered_caption(found: DrawnLesions) -> str:
    """Describe the median of the metric by number of swaps."""
    quartiles = found.quartiles()
    first, last = (
        f"{format_value(median)} after {k} swap{'s' if k != 1 else ''} (mean tau {tau:.2f})"
        for k, tau, median in ((quartiles["k"][at], quartiles["tau"][at], quartiles["median"][at]) for at in (0, -1))
    )
    more = "" if len(quartiles) == 1 else f" and {last}"
    return f"In the original order the {found.metric} is {format_value(found.intact)}. Its median is {first}{more}."


def lengths_caption(paths: PathLengths) -> str:
    """Describe the range of lengths of most paths."""
    if not paths.total:
        return "No path leads from the start to the output."
    most = paths.range()
    return (
        f"{most.share:.1%} of the {_many(paths.total)} paths go through {_range(most)}, of {len(paths.counts) - 1} at "
        f"most; the mean is {paths.mean:.1f}."
    )


def paths_caption(found: SampledPaths) -> str:
    """Describe the decay of the gradient along single paths, and the lengths that carry most of it."""
    if not _carries_gradient(found):
        return "No gradient arrives along any path."
    factor = decay_per_branch(found)
    decay = (
        f"the gradient changes by a factor of {factor:.2f} with each further branch"
        if math.isfinite(factor)
        else "the gradient does not change by a constant factor per branch"
    )
    effective, depth = found.effective_paths(), found.effective_depth()
    return (
        f"Along a single path, {decay}. Weighted as published, by mean norm times number of paths, "
        f"{effective.share:.0%} of the gradient is on {_range(effective, 'length')}, {_share(effective.paths)} of all "
        f"paths, and the mean length is {depth.value:.1f}. This assumes that no two paths cancel."
    )


def exact_caption(found: PathGradients) -> str:
    """Describe the lengths that carry most of the gradient, including all cancellation."""
    if not _carries_gradient(found):
        return "No gradient arrives."
    effective, depth = found.effective_paths(), found.effective_depth()
    count = sum(found.paths)
    mean = sum(length * paths / count for length, paths in enumerate(found.paths))
    return (
        f"{effective.share:.0%} of the gradient is on paths of {_range(effective)}, {_share(effective.paths)} of all "
        f"paths. The mean path length is {depth.value:.2f} branches weighted by the gradient ({depth.level:.0%} "
        f"interval {depth.low:.2f} to {depth.high:.2f}), and {mean:.1f} unweighted."
    )


def agreement_caption(found: DissectionFindings) -> str:
    """Describe the ranking that agrees best with the measured deletions."""
    assert found.rankings is not None
    if "measured" not in found.rankings.scores:
        return "Measures of how far each branch moves the stream."
    table = found.rankings.agreement()
    known = [
        (float(rho), RANKINGS.get(str(name), str(name)))
        for name, rho in zip(table["ranking"], table["rho"], strict=True)
        if math.isfinite(float(rho))
    ]
    if not known or len(found.dissection.branches) < FEWEST_RANKED:
        return "There are too few branches to compare rankings."
    best_rho, best = max(known)
    if best_rho <= 0:
        return (
            f"No ranking agrees with {found.rankings_agree_with}: the best, {best}, has a rank correlation of "
            f"{best_rho:.2f}."
        )
    rho_of = {name: rho for rho, name in known}
    first_order = RANKINGS["predicted"]
    predicted = f" The {first_order} has {rho_of[first_order]:.2f}." if first_order in rho_of else ""
    return (
        f"The ranking by {best} agrees best with {found.rankings_agree_with}, with a rank correlation of "
        f"{best_rho:.2f}.{predicted if best != first_order else ''}"
    )


def decay_per_branch(found: SampledPaths) -> float:
    """Return the ratio of the gradients of single paths with n + 1 and n branches, from a linear fit of the logarithm.

    NaN for fewer than three lengths.
    """
    means = found.mean.double().tolist()
    lengths = [length for length, mean in enumerate(means) if mean > 0 and math.isfinite(mean)]
    if len(lengths) < 3:
        return math.nan
    slope, _ = np.polyfit(np.array(lengths, dtype=float), np.log([means[length] for length in lengths]), 1)
    return float(np.exp(slope))


def snapped_to_zero(change: float, found: Deletions) -> float:
    """Return the end of an interval, or 0 if it differs from 0 only by rounding, as often for a mean of 0s and 1s."""
    size = max((abs(each.value) for each in found if math.isfinite(each.value)), default=0.0)
    return 0.0 if abs(change) < 1e-12 * max(size, abs(found.intact)) else change


def _most_important(found: Deletions) -> str:
    worst: Deletion = found.ranked()[0]
    if not math.isfinite(worst.change):
        return ""
    if found.higher_is_better is not None and worst.change * (-1 if found.higher_is_better else 1) <= 0:
        return f"No single branch is needed: the {found.metric} is no worse without any one of them."
    low, high = (snapped_to_zero(end, found) for end in (worst.low, worst.high))
    ends = f", {found.level:.0%} interval {low:+.3g} to {high:+.3g}" if math.isfinite(low) else ""
    return (
        f"Branch {worst.index} ({worst.name}) matters most: without it the {found.metric} is "
        f"{format_value(worst.value)} ({worst.change:+.3g}{ends})."
    )


def _is_unneeded(row: Deletion, found: Deletions) -> bool:
    # Comparisons with NaN are False, so a change that is not a number does not count as unneeded.
    if not _has_intervals(found):
        largest = max((abs(each.change) for each in found if math.isfinite(each.change)), default=0.0)
        return abs(row.change) < largest / 10
    return snapped_to_zero(row.low, found) <= 0 if not found.higher_is_better else snapped_to_zero(row.high, found) >= 0


def _has_intervals(found: Deletions) -> bool:
    return any(math.isfinite(row.low) for row in found)


def _carries_gradient(found: ByLength) -> bool:
    return bool(found.weights.sum() > 0)


def _random_branches(count: int) -> str:
    return "1 random branch" if count == 1 else f"{count} random branches"


def _range(lengths: LengthRange, of: str = "") -> str:
    """Format a range, such as "1 to 6 branches", or "lengths 1 to 6"."""
    is_one = lengths.shortest == lengths.longest
    numbers = str(lengths.shortest) if is_one else f"{lengths.shortest} to {lengths.longest}"
    if of:
        return f"{of}{'' if is_one else 's'} {numbers}"
    return f"{numbers} branch{'' if numbers == '1' else 'es'}"


def _counted(count: int) -> str:
    return f"{count} branch{'es' if count != 1 else ''} {'were' if count != 1 else 'was'}"


def _many(count: int) -> str:
    return f"{count:,}" if count < 10**9 else f"{count:.2e}" if count < 10**300 else f"10^{len(str(count)) - 1}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else f"{100 * share:.2g} %"
