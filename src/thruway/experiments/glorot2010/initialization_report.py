"""The report of the study: answer, verdicts, figs. 6 to 9, equations beside measurements, provenance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from thruway.experiments.claims import judge
from thruway.experiments.glorot2010.initialization import SCALES, Config
from thruway.experiments.glorot2010.initialization_claims import (
    START_CLAIMS,
    TRAINING_CLAIMS,
    factor_per_layer,
    spreads,
)
from thruway.experiments.glorot2010.initialization_figures import (
    histogram_figure,
    training_figure,
    variance_figure,
)
from thruway.experiments.glorot2010.initialization_rows import read_start_rows, read_training_rows
from thruway.experiments.glorot2010.initialization_tables import (
    equation_table,
    paper_table,
    stretch_table,
    training_table,
)
from thruway.experiments.glorot2010.provenance import differences, image_data, origin
from thruway.report import ClaimVerdict, Page, Section, TableData, write_page, write_summary
from thruway.runs import RunReader

__all__ = ["write_report"]

Rows = Sequence[Mapping[str, Any]]

_ALWAYS_DIFFERENT = (
    "learning rate, number of updates and number of seeds are ours: the paper prints none of them",
    "both starts of a seed take the same random numbers, scaled, so that their differences are paired",
    "variances are mean squares about 0, since the equations assume means of 0; Var[x] is the inputs' mean square",
    "of eq. 6 the form that eq. 2 implies is tested: only weights above s count, one factor less than printed; the "
    "printed form stands beside it",
    "eq. 7 speaks of one example, and is tested with gradients of one example's cost; fig. 8 has those of all "
    "held-out examples",
    "of eq. 13 the form with the gradient's variance at the top is tested, where Var[x] is printed",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    start, training = read_start_rows(reader, config), read_training_rows(reader, config)
    verdicts = (
        *(judge(claim, start) for claim in START_CLAIMS if start),
        *(judge(claim, training) for claim in TRAINING_CLAIMS if training),
    )
    table = paper_table(start)
    provenance = _provenance(reader, config, training)
    page = Page(
        title="Does the signal reach the top, and the gradient the bottom?",
        subtitle="Figs. 6 to 9 and eqs. 4 to 17 of Understanding the difficulty of training deep feedforward neural "
        "networks, Glorot & Bengio 2010",
        lead=_lead(start, training, config, reader.status),
        claims=verdicts,
        sections=(
            Section("Beside the paper", None, "The means over all seeds.", table),
            *_start_sections(reader, config, start),
            *_training_section(reader, config, training),
            *_equation_sections(config, start),
        ),
        provenance=provenance,
    )
    write_page(page, folder / "report.html")
    write_summary(
        folder / "summary.json", experiment=reader.name, rows=[*start, *training], claims=verdicts, meta=provenance
    )
    return table, verdicts


def _start_sections(reader: RunReader, config: Config, start: Rows) -> tuple[Section, ...]:
    return (
        Section(
            "Activations at the start (fig. 6)",
            histogram_figure(reader, config, "activations"),
            "Standard: the higher the layer, the closer its units are to 0. Normalized: much less so. Each panel is in "
            "units of its most widely spread layer, and its density axis is logarithmic.",
        ),
        Section(
            "Back-propagated gradients at the start (fig. 7)",
            histogram_figure(reader, config, "gradients"),
            "Standard: the lower the layer, the smaller its gradients. Normalized: about the same in all.",
        ),
        Section(
            "The same, layer by layer",
            variance_figure(start, "gradient_variance", "gradient_predicted", "mean square of dC/ds"),
            "Dashed: what the equations predict from the top layer's gradient. Each layer down costs the standard "
            "start a factor of three. Bands: the range over seeds.",
        ),
        Section(
            "Gradients of the weights at the start (fig. 8)",
            histogram_figure(reader, config, "weight gradients"),
            "The same in every layer, under either start: what shrinks upwards and what shrinks downwards cancel.",
        ),
    )


def _training_section(reader: RunReader, config: Config, training: Rows) -> tuple[Section, ...]:
    if not config.trained_seeds:
        return ()
    reading = (
        "Where the lines of a panel part, the layers learn at different speeds: in the paper standard's do as it "
        "trains, and normalized's do not. Each is a multiple of the mean over layers, which "
        "takes out what moves them all."
    )
    return (
        Section(
            "Gradients of the weights while training (fig. 9)",
            training_figure(reader, config),
            reading,
            training_table(training),
        ),
    )


def _equation_sections(config: Config, start: Rows) -> tuple[Section, ...]:
    sections = [
        Section(
            "How much a layer stretches (eq. 17)",
            None,
            "The mean singular value of a layer's Jacobian: below 1, what passes through gets smaller.",
            stretch_table(start),
        ),
        Section(
            "The equations beside what was measured",
            variance_figure(start, "activation_variance", "activation_predicted", "mean square of z"),
            "The equations take the activation as linear. So they hold, but for chance, in the nets without one, and "
            "nearly so in the standard tanh net, whose units stay small; the normalized one's do not. Eq. 6 as it is "
            "printed has one factor too many, and misses the standard start's gradients by three.",
            equation_table(start, "equal"),
        ),
    ]
    for shape in config.shapes:
        if shape != "equal":
            widths = ", ".join(f"{width:,}" for width in config.widths(shape))
            reading = f"Hidden layers of {widths} units."
            title = f"Layers that get {'wider' if shape == 'growing' else 'narrower'}"
            sections.append(Section(title, None, reading, equation_table(start, shape)))
    return tuple(sections)


def _lead(start: Rows, training: Rows, config: Config, status: str) -> str:
    """The answer in plain words, from the numbers."""
    if not start:
        return f"No start has been measured yet (the run is {status})."
    factors = {
        scheme: fmean(
            factor_per_layer([r for r in start if r["seed"] == seed], scheme, "gradient_variance", upwards=False)
            for seed in sorted({row["seed"] for row in start})
        )
        for scheme in ("standard", "normalized")
    }
    told = (
        f"On its way down, each hidden layer leaves {factors['standard']:.2f} of the gradient's variance under the "
        f"standard start, and {factors['normalized']:.2f} under the normalized one."
    )
    seeds = sorted({row["seed"] for row in training})
    widest = {
        scheme: [
            max(found) for seed in seeds if (found := spreads([row for row in training if row["seed"] == seed], scheme))
        ]
        for scheme in ("standard", "normalized")
    }
    if all(widest.values()):
        told += (
            f" While the nets train, the weight gradients of their layers come to differ by up to "
            f"{fmean(widest['standard']):.1f} times (standard) and {fmean(widest['normalized']):.1f} (normalized)."
        )
    return told if status == "done" else f"The run is {status}. {told}"


def _provenance(reader: RunReader, config: Config, training: Rows) -> dict[str, str | Sequence[str]]:
    measured = sum(reader.table(site="start", quantity="seconds")["value"].tolist())
    trained = sum({(row["scheme"], row["seed"]): row["seconds"] for row in training}.values())
    return {
        "scale": config.scale,
        "data": image_data(config.data, config.size),
        "seeds": f"{config.seeds} starts, from {config.seed} on; {config.trained_seeds} of them trained",
        "start": f"{config.depth} hidden layers of {config.width:,} units, tanh, on {config.probe} held-out examples",
        "training": f"{config.trained_width:,} units per layer, {config.updates:,} updates of {config.batch} examples, "
        f"learning rate {config.learning_rate:g}",
    } | origin(
        reader,
        cost=f"{measured / 60:.1f} minutes of measuring, {trained / 60:.1f} of training",
        differs=[*differences(config, SCALES["paper"], {"trained_seeds"}), *_ALWAYS_DIFFERENT],
    )
