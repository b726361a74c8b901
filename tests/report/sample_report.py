"""A page with hostile names in every place, for the tests of the page."""

import math

from thruway.report import (
    Cell,
    ClaimVerdict,
    Page,
    Section,
    TableData,
    final_loss_by_depth,
    final_loss_table,
    loss_curves,
    search_scatter,
)

HOSTILE = "</script><img src=x onerror=alert(1)><!--\u2028javascript:alert(2)&amp;\"'"


def rows(name=HOSTILE):
    return [
        {
            "block": block,
            "depth": depth,
            "trial": i,
            "final_loss": math.nan if i == 3 else 0.1 / (i + 1),
            "learning_rate": 10.0**-i,
            "activation": name,
        }
        for block in ("plain", "highway", name)
        for depth in (10, 20)
        for i in range(4)
    ]


def page(name=HOSTILE):
    curves = {(row["block"], row["depth"]): ([1, 2, 3], [2.0, 1.0, 0.5]) for row in rows(name)}
    claims = tuple(
        ClaimVerdict(name, name, name, value, name, verdict, name, name)
        for verdict, value in (("holds", 1.0), ("fails", [0.5, math.nan]), ("unclear", math.nan))
    )
    sections = (
        Section(name, final_loss_by_depth(rows(name)), name, final_loss_table(rows(name))),
        Section("curves", loss_curves(curves, means=curves), "reading"),
        Section("by block", loss_curves(curves, panel="block"), "reading"),
        Section(
            "search",
            search_scatter(rows(name)),
            "reading",
            TableData((name, "n"), ((name, 1), (Cell(name, "best"), None)), name),
        ),
    )
    return Page(name, name, name, claims, sections, {name: name, "differs": [name, name], "none": []})
