"""The report of the study: answer, verdicts, training curves, errors, the published numbers beside them, provenance."""

from pathlib import Path

from thruway.experiments.compared_nets import Rows, error_of, parameters_of
from thruway.experiments.compared_report import Account, Published, write_compared_report
from thruway.experiments.srivastava2025.reply import SCALES, Config
from thruway.experiments.srivastava2025.reply_claims import CLAIMS
from thruway.experiments.srivastava2025.reply_run import contenders
from thruway.report import ClaimVerdict, TableData
from thruway.runs import RunReader

__all__ = ["write_report"]

_PUBLISHED = (
    Published("ResNet-110, 1.73M parameters", "93.75", "the published log", "resnet"),
    Published("Highway-110, 2.65M parameters", "93.96", "the published log", "highway"),
    Published("ResNet-110 of He et al., 1.7M parameters", "93.57 (93.39 ± 0.16)", "He et al. 2015, table 6", "resnet"),
)
_DIFFERENT = (
    "the two nets have neither the same width nor the same number of parameters, here as there",
    "where sizes change, shortcuts are those of each published net: the residual net's take every second point and pad "
    "new channels with zeros, the highway net's are 1x1 convolutions",
    "no mixed precision",
    "short trainings count against the highway net: in the published logs its training loss is the higher one from the "
    "fourth to the twelfth epoch, up to some 4,700 updates",
    "the residual net's first epoch, at a tenth of the rate as in the author's trainer, is one of 200 at paper scale "
    "and a larger share of a shorter training, which counts against the residual net",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    account = Account(
        title=f"Can a gated net of {config.layers} layers keep up with a residual one?",
        subtitle="highway-resnet-comparison, Srivastava 2025: a reply to Identity Mappings in Deep Residual Networks, "
        "He, Zhang, Ren & Sun 2016",
        lead=lambda rows: _lead(rows, config),
        published=_PUBLISHED,
        paper_saw="The published nets had 110 layers and learnt CIFAR-10, each once; these have "
        f"{config.layers} and learnt {config.data}.",
        nets=f"ResNet-{config.layers} of {', '.join(map(str, config.widths))} channels, its first epoch at a tenth of "
        f"the rate as published; Highway-{config.layers} of "
        f"{', '.join(map(str, config.highway_widths))}, gate bias {config.gate_bias:g} at the start",
        differs=_DIFFERENT,
    )
    return write_compared_report(reader, folder, config, SCALES["paper"], contenders(config), CLAIMS, account)


def _lead(rows: Rows, config: Config) -> str:
    """The answer in plain words, from the numbers."""
    highway, resnet = (error_of(rows, net) for net in ("highway", "resnet"))
    return (
        f"The highway net of {config.layers} layers gets {highway:.1%} of the test examples wrong, the residual net "
        f"{resnet:.1%}, with {parameters_of(rows, 'highway'):,} and {parameters_of(rows, 'resnet'):,} parameters."
    )
