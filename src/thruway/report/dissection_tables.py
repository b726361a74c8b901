"""Tables of a dissection: branches, deletions, path lengths and rankings."""

import math

from thruway.dissecting import Dissection
from thruway.report.content import Cell, TableData
from thruway.report.dissection_captions import snapped_to_zero
from thruway.report.dissection_findings import RANKINGS, DissectionFindings

__all__ = ["agreement_table", "branches_table", "deletions_table", "paths_table", "refused_table"]

REASONS = 12  # maximum number of rows about rejected candidates


def branches_table(dissection: Dissection) -> TableData:
    r"""Return a table of the kind, shapes, parameters and FLOPs of every branch.

    >>> from torch import nn, ones
    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> branches_table(dissect(nn.Sequential(Residual(nn.Linear(2, 2))), ones(1, 2))).rows
    ((0, '0', 'identity', '1\xa0×\xa02', 6, '100.0%', 8, None),)
    """
    total = sum(dissection.tape.parameters) or 1
    rows = tuple(
        (
            branch.index,
            branch.name,
            branch.kind,
            _shape(branch.input_shape, branch.output_shape),
            branch.parameters,
            f"{branch.parameters / total:.1%}",
            branch.flops,
            branch.parent,
        )
        for branch in dissection.branches
    )
    columns = ("branch", "name", "kind", "shape", "parameters", "share of all", "FLOPs", "inside")
    return TableData(
        columns,
        rows,
        "Shapes include the batch of the example. FLOPs are those of one pass over it; a multiply-add counts as two. "
        "The share is that of the model's parameters. Inside: the branch that contains this one.",
    )


def deletions_table(found: DissectionFindings) -> TableData:
    """Return a table of the effect of leaving out each branch, and of its scores in the other rankings."""
    rankings = found.rankings
    names = [] if rankings is None else [name for name in rankings.scores if name != "measured"]
    columns = ["branch", "name", "kind"]
    for each in found.deletions:
        columns += [f"{each.metric} without it", f"change ({each.level:.0%} interval)"]
    worst = [each.ranked()[0].index if each.rows else None for each in found.deletions]
    rows = []
    for place, branch in enumerate(found.dissection.branches):
        row: list[object] = [branch.index, branch.name, branch.kind]
        for each, most_important in zip(found.deletions, worst, strict=True):
            one = each.rows[place]
            low, high = (snapped_to_zero(end, each) for end in (one.low, one.high))
            ends = "" if math.isnan(low) else f" ({low:+.3g} to {high:+.3g})"
            # Without line breaks, since the table scrolls horizontally.
            change = f"{one.change:+.3g}{ends}".replace(" ", "\N{NO-BREAK SPACE}")
            row += [Cell(one.value, "best" if one.index == most_important else ""), change]
        rows.append((*row, *(_known(rankings.scores[name][place]) for name in names if rankings is not None)))
    return TableData(
        (*columns, *(RANKINGS.get(name, name) for name in names)),
        tuple(rows),
        "★ marks the most important branch. Intervals of the change are bootstrapped over the examples.",
    )


def agreement_table(found: DissectionFindings) -> TableData | None:
    """Return a table of the rank correlations of all rankings with the measured deletions."""
    if found.rankings is None or "measured" not in found.rankings.scores:
        return None
    table = found.rankings.agreement()
    rows = tuple(
        (RANKINGS.get(str(name), str(name)), _known(rho), _known(low), _known(high), _known(chance))
        for name, rho, low, high, chance in zip(*(table[key] for key in _AGREEMENT), strict=True)
    )
    return TableData(
        ("ranking", "Spearman's rho", "95% low", "95% high", "p-value"),
        rows,
        f"Agreement with {found.rankings_agree_with}, with intervals bootstrapped over the branches. p-value of a "
        "permutation test: the share of shuffled orders that agree as well.",
    )


def paths_table(found: DissectionFindings) -> TableData | None:
    """Return a table of the number of paths of each length and of the gradient that they carry."""
    exact, sampled = found.gradients, found.sampled
    if exact is None:
        return None
    count = sum(exact.paths)
    rows = tuple(
        (
            length,
            paths / count,
            *(() if sampled is None else (_at(sampled.mean, length), _at(sampled.contribution, length))),
            _at(exact.mean, length),
            _at(exact.contribution, length),
            _at(exact.share, length),
        )
        for length, paths in enumerate(exact.paths)
    )
    columns = (
        "length",
        "share of the paths",
        *(() if sampled is None else ("gradient along one path", "contribution as published")),
        "gradient of all paths",
        "contribution",
        "signed share",
    )
    return TableData(
        columns,
        rows,
        "Signed share: part of the whole gradient, negative if a length points against the rest. Norms are averaged "
        "over the examples.",
    )


def refused_table(dissection: Dissection) -> TableData | None:
    """Return a table of the rejected candidates, by reason."""
    by_reason: dict[str, list[str]] = {}
    for refusal in dissection.refused:
        by_reason.setdefault(refusal.reason, []).append(refusal.name)
    if not by_reason:
        return None
    most = sorted(by_reason.items(), key=lambda item: -len(item[1]))[:REASONS]
    rows = tuple((reason, len(names), names[0]) for reason, names in most)
    more = len(by_reason) - len(rows)
    return TableData(("reason", "count", "first"), rows, f"And {more} other reasons." if more else "")


_AGREEMENT = ("ranking", "rho", "low", "high", "chance")


def _shape(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    # No-break spaces, so that a line break falls between two shapes.
    shapes = ["\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}".join(map(str, shape)) for shape in (before, after)]
    return shapes[1] if before == after else " → ".join(shapes)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _at(values: object, length: int) -> float | None:
    return _known(float(values[length]))  # type: ignore[index]  # a tensor, (lengths,)
