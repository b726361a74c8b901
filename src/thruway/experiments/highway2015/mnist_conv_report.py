"""The report of the study: answer, verdicts, training curves, errors, table 1 beside them, provenance."""

from pathlib import Path

from thruway.experiments.compared_nets import Rows, error_of, parameters_of
from thruway.experiments.compared_report import Account, Published, write_compared_report
from thruway.experiments.highway2015.mnist_conv import SCALES, Config
from thruway.experiments.highway2015.mnist_conv_claims import claims_for
from thruway.experiments.highway2015.mnist_conv_run import contenders
from thruway.report import ClaimVerdict, TableData
from thruway.runs import RunReader

__all__ = ["write_report"]

_PUBLISHED = (
    Published("Highway, width 16, 39K parameters", "99.43 (99.40 ± 0.03)", "table 1", "highway-16"),
    Published("Highway, width 32, 151K parameters", "99.55 (99.54 ± 0.02)", "table 1", "highway-32"),
    Published("Maxout, 420K parameters", "99.55", "table 1"),
    Published("DSN, 350K parameters", "99.61", "table 1"),
)
_DIFFERENT = (
    "the plain nets, with as many parameters, are ours: table 1 has none",
    "images are standardised; the authors divide by 256",
    "at demo and laptop scale nothing is dropped, and the rate is 0.02: in pilot runs of five epochs on 10,000 images "
    "of Fashion-MNIST at 14 x 14 both nets stopped at 44 % wrong or more with dropout, and of 0.02, 0.05 and 0.1 the "
    "plain net always learnt from the first only",
    "one weight decay and one learning rate for all parameters; the authors spare the biases, double their rate, and "
    "decay the last layer's weights ten times as much",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    account = Account(
        title="How good can a small convolutional highway net be?",
        subtitle="Table 1 of Training Very Deep Networks, Srivastava, Greff & Schmidhuber 2015",
        lead=lambda rows: _lead(rows, config),
        published=_PUBLISHED,
        paper_saw=f"The paper's nets learnt MNIST, each five times; these learnt {config.data}.",
        nets=f"convolutional highway nets of 10 layers, {', '.join(map(str, config.widths))} channels wide, gate bias "
        f"{config.gate_bias:g} at the start" + (", and plain ones as large" if config.plain else ""),
        differs=_DIFFERENT,
    )
    return write_compared_report(
        reader, folder, config, SCALES["paper"], contenders(config), claims_for(config), account
    )


def _lead(rows: Rows, config: Config) -> str:
    """The answer in plain words, from the numbers."""
    sentences = []
    for width in config.widths:
        highway, plain = f"highway-{width}", f"plain-{width}"
        told = (
            f"With {parameters_of(rows, highway):,} parameters the highway net of width {width} gets "
            f"{error_of(rows, highway):.2%} of the test examples of {config.data} wrong"
        )
        if config.plain:
            told += f"; a plain net of {parameters_of(rows, plain):,}, {error_of(rows, plain):.2%}"
        sentences.append(f"{told}.")
    return " ".join(sentences)
