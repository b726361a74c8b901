"""Report of the lesion study: the error without each layer, with mean gates, and the paper's numbers."""

import math
from statistics import fmean, median

from thruway.experiments.highway2015.lesion import IDLE, SCALES, Config, claims, measurements, rises
from thruway.experiments.machinery import Rows, StudyPage, measured_study
from thruway.figures import deletion_bars, deletion_comparison
from thruway.report import Section, TableData, paper_comparison
from thruway.runs import RunReader

__all__ = ["STUDY", "page"]

_DIFFERS = (
    "learning rate, momentum and activation are ours, since the paper does not state the result of its search",
    "they come from pilot runs on Fashion-MNIST: at the published gate bias of -2 relu networks diverged at rates of "
    "0.01 and 0.02, and a tanh network learned at 0.05; on only 10,000 examples a tanh network learned little with -2, "
    "and as much as any with -3 and -4, but then any single layer could be removed without effect",
    "at demo scale, on digits: relu and a bias of -3",
    "fixing the gate at its mean over the data is ours: the layer then no longer distinguishes examples by its gate",
    f"idle means that the error increases by less than {IDLE:.1%} of the examples; the paper judges by the figure",
    "the thresholds are ours, set before any run",
)

_SEED_BY_SEED = (
    "A layer is idle if the error increases by less than half a percentage point without it. The layers of a network "
    "that has hardly learned are not judged."
)

_X_NAME = "layer; the first is plain"
_LABELS = {"closed": "closed (T = 0)", "mean": "at its mean"}


def page(_reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the page of the report."""
    table = _table(rows)
    sections = [
        *_one_by_one(rows, config),
        *_both_gates(rows),
        Section("Seed by seed", None, _SEED_BY_SEED, table),
        Section(
            "Comparison with the paper",
            None,
            "The paper's numbers are read off its figure, which is for MNIST.",
            _beside_the_paper(rows, config),
        ),
    ]
    return StudyPage(
        title="Which layers of a deep highway network matter?",
        subtitle="Fig. 4 of Training Very Deep Networks, Srivastava, Greff & Schmidhuber 2015",
        lead=_lead(rows, config),
        sections=sections if rows else (),
        table=table,
        facts={
            "nets": f"a highway network of {config.depth} layers with {config.width} {config.activation} units, the "
            f"first of which is plain; initial gate bias {config.gate_bias:g}"
        },
        differs=_DIFFERS,
    )


def _table(rows: Rows) -> TableData:
    """Return a table with one line per seed and lesion; for a network that has hardly learned, with errors only."""
    lines = []
    for seed in sorted({row["seed"] for row in rows}):
        for gate, label in _LABELS.items():
            mine = [row for row in rows if (row["seed"], row["gate"]) == (seed, gate)]
            if not mine:
                continue
            found = rises(mine, gate)
            idle, usual = (sum(rise < IDLE for rise in found) / len(found), median(found)) if found else (None, None)
            worst = max(mine, key=lambda row: float(row["error"]))
            lines.append((seed, label, mine[0]["intact"], idle, usual, worst["error"], worst["layer"]))
    columns = ("seed", "gate", "error, intact", "idle layers", "median rise", "worst error", "at layer")
    return TableData(columns, tuple(lines), "Errors on the training part and their increases, as shares.")


def _errors_by_layer(rows: Rows, gate: str) -> dict[int, list[float]]:
    """Return the errors of all seeds without each layer, by layer."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["gate"] == gate:
            found.setdefault(row["layer"], []).append(row["error"])
    return dict(sorted(found.items()))


def _one_by_one(rows: Rows, config: Config) -> list[Section]:
    errors = _errors_by_layer(rows, "closed")
    if not errors:
        return []
    closed = [row for row in rows if row["gate"] == "closed"]
    low, high = [min(each) for each in errors.values()], [max(each) for each in errors.values()]
    if len({row["seed"] for row in closed}) == 1:
        ordered = sorted(closed, key=lambda row: int(row["layer"]))
        low, high = [row["low"] for row in ordered], [row["high"] for row in ordered]
    gap = math.nan  # for the first, plain layer; with it layers are counted on the axis as in the paper
    figure = deletion_bars(
        [gap, *(fmean(each) for each in errors.values())],
        ["layer 1, plain", *(f"layer {layer}" for layer in errors)],
        intact=fmean(row["intact"] for row in closed),
        low=[gap, *low],
        high=[gap, *high],
        kinds=["gated"] * (1 + len(errors)),
        quantity="training error",
        unit="share",
        x_name=_X_NAME,
    )
    bars = "95 % bootstrap intervals over the examples" if config.seeds == 1 else "the range over seeds"
    reading = (
        f"The error on the training part with the gate of one layer closed, averaged over seeds. Thin lines: {bars}."
    )
    return [Section("One gate closed (fig. 4)", figure, reading)]


def _both_gates(rows: Rows) -> list[Section]:
    both = {gate: _errors_by_layer(rows, gate) for gate in _LABELS}
    if not all(both.values()):
        return []
    figure = deletion_comparison(
        {_LABELS[gate]: [math.nan, *map(fmean, errors.values())] for gate, errors in both.items()},
        quantity="training error",
        unit="share",
        x_name=_X_NAME,
    )
    reading = (
        "A layer with a closed gate returns its input. With its gate fixed at its mean over the data, unit by unit, it "
        "still adds its transform, but no longer distinguishes examples by its gate."
    )
    return [Section("Closed gates and mean gates", figure, reading)]


def _beside_the_paper(rows: Rows, config: Config) -> TableData:
    seeds = sorted({row["seed"] for row in rows})
    ours = {
        claim.id: fmean(claim.measure([row for row in rows if row["seed"] == seed]) for seed in seeds)
        if seeds
        else None
        for claim in claims(config)
    }
    entries = [
        (
            "increase of the error without one of layers 15 to 45, median",
            "almost 0",
            ours["later-layers-idle"],
            "fig. 4",
        ),
        ("share of idle layers", "about 0.6", ours["most-layers-idle"], "sec. 4"),
        (
            "share of the increases up to layer 45 that is due to the first 15",
            "nearly all",
            ours["early-layers-matter"],
            "fig. 4",
        ),
    ]
    return paper_comparison(entries, caption="Means over seeds.")


def _lead(rows: Rows, config: Config) -> str:
    found = [rises([row for row in rows if row["seed"] == seed]) for seed in sorted({row["seed"] for row in rows})]
    every = [rise for each in found for rise in each]
    if not every:
        return ""
    intact = fmean(row["intact"] for row in rows)
    errors = _errors_by_layer(rows, "closed")
    worst = max(errors, key=lambda layer: fmean(errors[layer]))
    idle = sum(rise < IDLE for rise in every) / len(every)
    return (
        f"The intact network has a training error of {intact:.1%}. {idle:.0%} of its {config.depth - 1} highway "
        f"layers can be removed, one at a time, with an increase of less than half a point. Layer {worst} matters "
        f"most: without it the error is {fmean(errors[worst]):.1%}."
    )


STUDY = measured_study(
    name="highway2015.lesion",
    title="in a trained highway network of 50 layers the early layers matter; most later ones can be removed",
    source="Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), fig. 4",
    config=Config,
    scales=SCALES,
    measurements=measurements,
    claims=claims,
    page=page,
)
