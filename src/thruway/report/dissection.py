"""The report of a dissection: an HTML page and a JSON file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thruway.report.content import Page, plain_data
from thruway.report.dissection_captions import headline
from thruway.report.dissection_findings import DissectionFindings
from thruway.report.dissection_sections import sections
from thruway.report.page import write_page
from thruway.runs import Table
from thruway.runs.files import write_atomically

__all__ = ["KEYS", "dissection_json", "dissection_page", "write_dissection"]

PAGE, DATA = "dissection.html", "dissection.json"

KEYS = {
    "measured": "true if lesions were measured on data; false if only the structure is known",
    "branches": "the branches found, in the order in which they join the stream",
    "refused": "adds, blends and layers that are not branches, each with the reason",
    "notes": "measurements that were not made, with the reason",
    "paths": "exact number of paths through 0, 1, 2 ... branches, as text since it may exceed a double, and the shares",
    "lesions": "one object per metric: the intact value, and for each branch the value without it, the change, and the "
    "ends low and high of the interval of the change at `level`",
    "deleted": "random branches left out together: k, draw, value, and their indices",
    "reordered": "random orders: k swaps, draw, tau (Kendall's, with the original order), value, and the branch at "
    "each place",
    "rankings": "score of each branch in each ranking; a higher score means a more important branch",
    "agreement": "Spearman's rank correlation of each ranking with the measured deletions; chance is the p-value of a "
    "permutation test",
    "path_gradients": "exact, by path length: gradient is the norm of the sum over all paths of a length, contribution "
    "its share, share the signed part of the whole gradient",
    "sampled_paths": "along random single paths, by path length: gradient is the mean norm, spread its standard "
    "deviation",
    "effective_depth": "mean path length in branches, weighted by the exact contribution, with a bootstrap interval",
}


def write_dissection(found: DissectionFindings, folder: Path) -> tuple[Path, Path]:
    """Write dissection.html and dissection.json into a folder, each atomically.

    Returns:
        The paths of both files.
    Raises:
        RunError: if they cannot be written.
    """
    data = write_atomically(folder / DATA, dissection_json(found).encode())
    return write_page(dissection_page(found), folder / PAGE), data


def dissection_page(found: DissectionFindings) -> Page:
    """Return the page of the report."""
    return Page(
        title="Which layers do the work?" if found.is_measured else "Where are the branches?",
        subtitle=f"{found.name}: {found.about}",
        lead=headline(found),
        sections=tuple(sections(found)),
        provenance={"example input": found.example, "data": found.data or "none", **found.provenance},
    )


def dissection_json(found: DissectionFindings) -> str:
    """Return all results as strict JSON, whose entry `keys` explains the others. NaN and unknown values are null.

    >>> from torch import nn, ones
    >>> from thruway.dissecting import dissect
    >>> d = dissect(nn.Sequential(nn.Linear(2, 2)), ones(1, 2))
    >>> [b["kind"] for b in json.loads(dissection_json(DissectionFindings(d, "net", "a net", "ones")))["branches"]]
    ['module']
    """
    dissection = found.dissection
    content: dict[str, Any] = {
        "schema": 1,
        "name": found.name,
        "about": found.about,
        "example": found.example,
        "data": found.data or None,
        "measured": found.is_measured,
        "summary": headline(found),
        "branches": [
            {
                "index": branch.index,
                "name": branch.name,
                "kind": branch.kind,
                "input_shape": branch.input_shape,
                "output_shape": branch.output_shape,
                "parameters": branch.parameters,
                "flops": branch.flops,
                "inside": branch.parent,
            }
            for branch in dissection.branches
        ],
        "refused": [{"name": refusal.name, "reason": refusal.reason} for refusal in dissection.refused],
        "notes": found.notes,
        "provenance": dict(found.provenance),
        **_measured(found),
    }
    content["keys"] = {key: text for key, text in KEYS.items() if key in content}
    return json.dumps(plain_data(content, "dissection"), indent=1, allow_nan=False) + "\n"


def _measured(found: DissectionFindings) -> dict[str, Any]:
    results: dict[str, Any] = {}
    if found.paths is not None:
        results["paths"] = {"counts": [str(count) for count in found.paths.counts], "shares": found.paths.shares}
    if found.deletions:
        results["lesions"] = [
            {
                "metric": each.metric,
                "unit": found.units.get(each.metric, ""),
                "intact": each.intact,
                "examples": each.examples,
                "level": each.level,
                "gate": each.gate,
                "without": _rows(each.table()),
            }
            for each in found.deletions
        ]
    for key, drawn in (("deleted", found.drawn), ("reordered", found.reordered)):
        if drawn is not None:
            results[key] = {
                "metric": drawn.metric,
                "intact": drawn.intact,
                "rows": [
                    {"k": row.k, "draw": row.draw, "tau": row.tau, "value": row.value, "branches": row.branches}
                    for row in drawn
                ],
            }
    if found.rankings is not None:
        results["rankings"] = _rows(found.rankings.table())
        if "measured" in found.rankings.scores:
            results["agreement"] = {"with": found.rankings_agree_with, "rows": _rows(found.rankings.agreement())}
    if found.gradients is not None:
        results["path_loss"] = found.path_loss
        results["path_gradients"] = _rows(found.gradients.table())
        if found.gradients.weights.sum() > 0:
            results["effective_depth"] = found.gradients.effective_depth()._asdict()
    if found.sampled is not None:
        results["sampled_paths"] = _rows(found.sampled.table())
    return results


def _rows(table: Table) -> list[Mapping[str, Any]]:
    return list(table.rows())
