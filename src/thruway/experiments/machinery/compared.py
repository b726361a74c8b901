"""Studies that train several networks in the same way and compare their errors."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from torch import nn

from thruway.dissecting import Dissection
from thruway.errors import ConfigError, RunError
from thruway.experiments.machinery.contenders import Contender, error_of, errors_of, measurements_of, parameters_of
from thruway.experiments.machinery.curves import loss_curves
from thruway.experiments.machinery.image_config import ImageConfig
from thruway.experiments.machinery.images import ImageParts, load_images
from thruway.experiments.machinery.measuring import Measurement, check_functions, measured_study
from thruway.experiments.machinery.stored_nets import dissected
from thruway.experiments.machinery.study import Claim, Rows, Study, StudyPage
from thruway.report import Cell, Section, TableData, paper_comparison
from thruway.runs import RunReader
from thruway.runs.files import safe_name

__all__ = ["ComparedPage", "Published", "accuracy_in_words", "beside_the_paper", "compared_study", "error_table"]

_NET_BY_NET = (
    "Errors are shares of the examples; the lowest mean is marked. The networks of a seed see the same examples in the "
    "same order."
)
_CAPTION = (
    "Test errors: mean over seeds, then each seed. Training errors are measured on up to 2,000 training examples."
)

_THRESHOLDS = (
    "the thresholds are ours, set before any run; two networks are not compared if both errors are above half the "
    "guessing error"
)


@dataclass(frozen=True)
class Published:
    """A network in the paper's table.

    Attributes:
        label: the paper's name for it.
        accuracy: accuracy in percent, as printed in the paper.
        where: table or section.
        net: name of the corresponding network of the study; "" if there is none.
    """

    label: str
    accuracy: str
    where: str
    net: str = ""


@dataclass(frozen=True)
class ComparedPage:
    """Texts and additional sections of the report of a comparison. Only the title is required.

    Attributes:
        title: question that the study answers.
        subtitle: paper and tables.
        lead: function of the rows that returns the main result in words. It is called once every network has been
            tested with at least one seed. If None, the errors of all networks are listed.
        sections: function that returns additional figures and tables for the rows.
        published: the paper's numbers. If empty, the section that compares with them is omitted.
        paper_data: sentence about the data on which the paper's networks were trained.
        nets: description of the networks.
        differs: differences from the paper at every scale, one sentence each.
        chosen: function that selects the rows for `lead` and `published`, if a network was trained in several ways.
    """

    title: str
    subtitle: str = ""
    lead: Callable[[Rows], str] | None = None
    sections: Callable[[Rows], Sequence[Section]] = lambda rows: ()
    published: Sequence[Published] = ()
    paper_data: str = ""
    nets: str = ""
    differs: Sequence[str] = ()
    chosen: Callable[[Rows], Rows] = lambda rows: rows


def compared_study(
    *,
    name: str,
    title: str,
    source: str,
    config: type[ImageConfig],
    scales: Mapping[str, ImageConfig],
    contenders: Callable[[Any], Sequence[Contender]],
    claims: Sequence[Claim] | Callable[[Any], Sequence[Claim]] = (),
    page: Callable[[Any], ComparedPage] | None = None,
    prepare: Callable[[Any], ImageParts] = load_images,
    open_net: Callable[[nn.Module, ImageParts], Dissection] = dissected,
    example: str = "--scale demo",
) -> Study:
    """Return a study that trains several networks in the same way, tests them, and compares their errors.

    Its rows have the keys net, seed, parameters, error, train_error and guessing (the error of guessing).

    Args:
        name, title, source, config, scales, claims, example: see `Study`.
        contenders: function of the config that returns the networks to compare.
        page: function of the config that returns the texts of the report. If None, the title and the source of the
            study are used.
        prepare: function of the config that returns the images, and raises an error if the config does not fit them.
        open_net: function (network, data) that returns the dissection of the network, for `thruway dissect RUN`.
    """
    check_functions(name, claims, contenders=contenders, prepare=prepare)
    page_of = page or (lambda config: ComparedPage(title, source))

    def prepare_named(config: ImageConfig) -> ImageParts:
        _check_names(contenders(config))
        return prepare(config)

    def measurements(config: ImageConfig) -> list[Measurement]:
        return measurements_of(contenders(config), config.all_seeds)

    def whole_page(reader: RunReader, config: ImageConfig, rows: Rows) -> StudyPage:
        return _comparison(reader, contenders(config), page_of(config), rows)

    return measured_study(
        name=name,
        title=title,
        source=source,
        config=config,
        scales=scales,
        measurements=measurements,
        claims=claims,
        page=whole_page,
        prepare=prepare_named,
        open_net=open_net,
        example=example,
    )


def _check_names(contenders: Sequence[Contender]) -> None:
    """Raise ConfigError unless every contender has a name of its own that can name a checkpoint."""
    names = [each.name for each in contenders]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"two contenders have the name {', '.join(sorted(repeated))}. Give each its own name.")
    if not names:
        raise ConfigError("there are no contenders. Return at least one Contender.")
    for name in names:
        try:
            safe_name(name, "contender")
        except RunError as error:
            raise ConfigError(str(error)) from None


def _comparison(reader: RunReader, contenders: Sequence[Contender], page: ComparedPage, rows: Rows) -> StudyPage:
    labels = {each.name: each.label for each in contenders}
    table = error_table(rows, contenders)
    sections = [
        *page.sections(rows),
        *loss_curves(reader, labels),
        Section("All networks", None, _NET_BY_NET, table),
    ]
    if page.published:
        beside = beside_the_paper(page.chosen(rows), page.published)
        sections.append(Section("Comparison with the paper", None, page.paper_data, beside))
    is_complete = all(errors_of(rows, name) for name in labels)
    return StudyPage(
        title=page.title,
        subtitle=page.subtitle,
        lead=page.lead(page.chosen(rows)) if is_complete and page.lead else _errors_so_far(rows, labels, is_complete),
        sections=sections if rows else (),
        table=table,
        facts={"nets": page.nets or ", ".join(labels.values())},
        differs=(*page.differs, _THRESHOLDS),
    )


def error_table(rows: Rows, contenders: Sequence[Contender]) -> TableData:
    """Return a table with one line per tested network: size, test error of every seed, and training error."""
    seeds = sorted({row["seed"] for row in rows})
    means = {each.name: error_of(rows, each.name) for each in contenders if errors_of(rows, each.name)}
    lines = []
    for each in contenders:
        if each.name not in means:
            continue
        errors = errors_of(rows, each.name)
        by_seed = (error_of([row for row in rows if row["seed"] == seed], each.name) for seed in seeds)
        is_best = len(means) > 1 and means[each.name] == min(means.values())
        lines.append(
            (
                each.label,
                each.layers,
                parameters_of(rows, each.name),
                Cell(means[each.name], "best") if is_best else means[each.name],
                stdev(errors) if len(errors) > 1 else None,
                *(None if math.isnan(error) else error for error in by_seed),
                error_of(rows, each.name, "train_error"),
            )
        )
    columns = ("network", "layers", "parameters", "test error", "± over seeds", *(f"seed {seed}" for seed in seeds))
    return TableData((*columns, "training error"), tuple(lines), _CAPTION)


def beside_the_paper(rows: Rows, published: Sequence[Published]) -> TableData:
    """Return a table of the paper's accuracies and ours."""
    entries = [
        (f"{each.label} (%)", each.accuracy, accuracy_in_words(errors_of(rows, each.net)), each.where)
        for each in published
    ]
    return paper_comparison(
        entries, caption="Test accuracy after the last epoch: best seed (mean ± standard deviation over the seeds)."
    )


def accuracy_in_words(errors: Sequence[float]) -> str | None:
    """Format errors as accuracies are printed in the papers: the best seed, and mean and deviation if there are
    several.

    >>> accuracy_in_words([0.10, 0.12]), accuracy_in_words([0.10]), accuracy_in_words([])
    ('90.00 (89.00 ± 1.41)', '90.00', None)
    """
    if not errors:
        return None
    accuracies = [100 * (1 - error) for error in errors]
    best = f"{max(accuracies):.2f}"
    return f"{best} ({fmean(accuracies):.2f} ± {stdev(accuracies):.2f})" if len(errors) > 1 else best


def _errors_so_far(rows: Rows, labels: Mapping[str, str], is_complete: bool) -> str:
    found = [f"{label} {error_of(rows, name):.1%}" for name, label in labels.items() if errors_of(rows, name)]
    return f"Test errors{'' if is_complete else ' so far'}: {', '.join(found)}." if found else ""
