"""The tables of the report."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thruway.experiments.glorot2010.saturation import NETS
from thruway.report import TableData, paper_comparison

__all__ = ["beside_the_paper", "layer_table", "mean_of"]

Rows = Sequence[Mapping[str, Any]]


def mean_of(values: Iterable[float | None]) -> float:
    """The mean of what is known; NaN if nothing is.

    >>> mean_of([1.0, None, 3.0])
    2.0
    """
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else math.nan


def layer_table(rows: Rows) -> TableData:
    """Every layer of the tanh and softsign nets: when it saturated, and how its values are spread at the end."""
    lines: list[tuple[Any, ...]] = []
    for name, net in NETS.items():
        mine = [row for row in rows if row["net"] == name and "saturated" in row]
        for layer in range(net.depth if mine else 0):
            at = [row["saturates_at"][layer] for row in mine]
            means = [mean_of(row[column][layer] for row in mine) for column in ("saturated", "std", "knees", "middle")]
            reached = None if None in at else round(mean_of(at))
            lines.append((net.title, layer + 1, reached, 100 * means[0], *means[1:]))
    columns = ("net", "layer", "saturates at update", "saturated at the end, %", "std", "at the knees", "at 0")
    caption = (
        "Saturated: a tenth of the values have |z| from 0.9 on; a dash if not in every net. The last two columns: "
        "values with |z| from 0.6 to 0.8, and up to 0.1, at the end; 1 would be an even spread over [-1, 1]."
    )
    return TableData(columns, tuple(lines), caption)


def beside_the_paper(rows: Rows) -> TableData:
    """What the paper says of each figure, and what this run has seen."""
    of = {name: [row for row in rows if row["net"] == name and not row["diverged"]] for name in NETS}
    entries: list[tuple[str, Any, Any, str]] = []
    if four := of["sigmoid-4"]:
        top, others = ([row[name] for row in four] for name in ("early_top_mean", "lowest_below"))
        escapes = [row["escapes_at"] for row in four]
        entries += [
            ("sigmoid, 4 layers: top layer's mean output, early", "falls to 0 at once", mean_of(top), "fig. 2"),
            ("sigmoid, 4 layers: lowest other mean meanwhile", "above 0.5", _or_none(mean_of(others)), "fig. 2"),
            ("sigmoid, 4 layers: leaves at", "about epoch 100", _updates(escapes, four), "fig. 2"),
        ]
    if five := of["sigmoid-5"]:
        escapes = [row["escapes_at"] for row in five]
        entries.append(("sigmoid, 5 layers: leaves at", "never", _updates(escapes, five), "sec. 3.1"))
    if tanh := of["tanh"]:
        orders = {_order(row["saturates_at"]) for row in tanh}
        ends, zero = mean_of(row["ends"][0] for row in tanh), mean_of(row["middle"][-1] for row in tanh)
        entries += [
            ("tanh: order in which layers saturate", "1, 2, 3, ...", " | ".join(sorted(orders)), "fig. 3"),
            ("tanh: crowding at -1 and 1 in layer 1, at 0 in layer 5", "peaks", f"{ends:.1f}x, {zero:.1f}x", "fig. 4"),
        ]
    if softsign := of["softsign"]:
        knees = mean_of(max(row["knees"]) for row in softsign)
        entries.append(("softsign: crowding at |z| from 0.6 to 0.8", "peaks", f"{knees:.1f}x", "fig. 4"))
    for name, figure in (("tanh", "fig. 3"), ("softsign", "fig. 3"), ("tanh-n", "fig. 10")):
        if of[name]:
            said = "layers part" if name == "tanh" else "layers together"
            unevenness = mean_of(row["unevenness"] for row in of[name])
            entries.append((f"{NETS[name].title.lower()}: unevenness of the layers' std", said, unevenness, figure))
    return paper_comparison(entries, caption="Means over the seeds. 2x: twice as many values as in an even spread.")


def _updates(escapes: Sequence[int | None], rows: Rows) -> str:
    known = [at for at in escapes if at is not None]
    if not known:
        return f"not in {rows[0]['updates']:,} updates"
    share = "" if len(known) == len(escapes) else f" ({len(known)} of {len(escapes)} nets)"
    return f"update {mean_of(known):,.0f}{share}"


def _order(saturates_at: Sequence[int | None]) -> str:
    """Layers by the update at which they saturate; those that never do are left out.

    >>> _order([300, 100, None])
    '2, 1'
    """
    known = sorted((at, layer) for layer, at in enumerate(saturates_at, start=1) if at is not None)
    return ", ".join(str(layer) for _, layer in known) or "none"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
