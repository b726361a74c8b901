"""The report of the study: answer, verdicts, training curves, errors, tables 2 and 3 beside them, provenance."""

from pathlib import Path

from thruway.experiments.compared_nets import Rows, error_of, errors_of
from thruway.experiments.compared_report import Account, Published, write_compared_report
from thruway.experiments.highway2015.cifar import SCALES, Config, Name, best_of
from thruway.experiments.highway2015.cifar_claims import claims_for
from thruway.experiments.highway2015.cifar_run import contenders
from thruway.report import ClaimVerdict, TableData
from thruway.runs import RunReader

__all__ = ["write_report"]

_TABLE_2 = (
    Published("Teacher, 5 layers, ~9M parameters", "90.18", "table 2"),
    Published("Fitnet A, 11 layers, ~250K", "89.01", "table 2", "fitnet-a"),
    Published("Highway A, 11 layers, ~236K", "89.18", "table 2", "highway-a"),
    Published("Fitnet B, 19 layers, ~2.5M", "91.61", "table 2", "fitnet-b"),
    Published("Highway B, 19 layers, ~2.3M", "92.46 (92.28 ± 0.16)", "table 2", "highway-b"),
    Published("Highway C, 32 layers, ~1.25M", "91.20", "table 2", "highway-c"),
)
_TABLE_3 = {
    "cifar10": (
        Published("Highway", "92.40 (92.31 ± 0.12)", "table 3", "highway-b"),
        Published("Maxout", "90.62", "table 3"),
        Published("dasNet", "90.78", "table 3"),
        Published("NiN", "91.19", "table 3"),
        Published("DSN", "92.03", "table 3"),
        Published("All-CNN", "92.75", "table 3"),
    ),
    "cifar100": (
        Published("Highway", "67.76 (67.61 ± 0.15)", "table 3", "highway-b"),
        Published("Maxout", "61.42", "table 3"),
        Published("dasNet", "66.22", "table 3"),
        Published("NiN", "64.32", "table 3"),
        Published("DSN", "65.43", "table 3"),
        Published("All-CNN", "66.29", "table 3"),
    ),
}
_DIFFERENT = (
    "the published fitnets learnt in two stages, with hints from a teacher; here they start from random weights, "
    "without dropout, as all others",
    "the layers of Highway A and C are not published; these have their depth, and at paper scale their size",
    "plain nets of 19 and 32 layers are ours: the tables have none",
    "Highway B is the authors' published net of 19 layers, its head that of table 3",
    "at demo and laptop scale nothing is dropped: in pilot runs of twelve epochs on digits the highway nets did not "
    "even fit the training examples with dropout",
    "one weight decay and one learning rate for all parameters; the authors spare the biases, double their rate, and "
    "decay the last layer's weights ten times as much",
    "the learning rate is Highway B's published one for all nets; at laptop scale each is trained with 0.003 as well, "
    "and of the two the one that fits the training examples better counts, seed by seed",
    "they pad by 8 of 32 pixels before the crop, as the paper scale does; here the edges of the images are repeated",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    narrower = "" if config.narrower == 1 else f", {config.narrower} times as narrow as published"
    account = Account(
        title="Do highway nets of 19 and 32 layers learn in one go?",
        subtitle="Tables 2 and 3 of Training Very Deep Networks, Srivastava, Greff & Schmidhuber 2015",
        lead=lambda rows: _lead(rows, config),
        published=_TABLE_3["cifar100"] if config.data == "cifar100" else (*_TABLE_2, *_TABLE_3["cifar10"]),
        paper_saw=f"The paper's nets learnt {'CIFAR-100' if config.data == 'cifar100' else 'CIFAR-10'}; these learnt "
        f"{config.data}.",
        nets=f"{', '.join(each.label for each in contenders(config))}{narrower}",
        differs=_DIFFERENT,
        chosen=best_of,
    )
    return write_compared_report(
        reader, folder, config, SCALES["paper"], contenders(config), claims_for(config), account
    )


# What stands beside what in the answer.
_PAIRS: tuple[tuple[Name, str, Name, str], ...] = (
    ("highway-b", "Highway B of 19 layers", "fitnet-b", "the fitnet as deep,"),
    ("highway-c", "Highway C of 32 layers", "highway-a", "Highway A of 11 layers,"),
    ("plain-b", "The plain net of 19 layers", "plain-c", "the one of 32 layers,"),
)


def _lead(rows: Rows, config: Config) -> str:
    """The answer in plain words, from the numbers."""
    sentences = [
        f"{first} gets {error_of(rows, one):.1%} of the test examples wrong, {second} {error_of(rows, other):.1%}."
        for one, first, other, second in _PAIRS
        if errors_of(rows, one) and errors_of(rows, other)
    ]
    return " ".join(sentences)
