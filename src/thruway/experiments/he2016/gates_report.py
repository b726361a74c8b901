"""The report of the study: answer, verdicts, error against gate bias, errors, table 1 beside them, provenance."""

from pathlib import Path

from thruway.experiments.compared_nets import Rows, error_of, errors_of
from thruway.experiments.compared_report import Account, Published, write_compared_report
from thruway.experiments.he2016.gates import SCALES, Config, gated
from thruway.experiments.he2016.gates_claims import claims_for
from thruway.experiments.he2016.gates_run import LABELS, contenders
from thruway.figures import run_curves
from thruway.report import ClaimVerdict, Section, TableData
from thruway.runs import RunReader

__all__ = ["write_report"]

_TABLE = "table 1"
_PUBLISHED = (
    Published("identity", "93.39", _TABLE, "identity"),
    Published("exclusive gate, b = 0 to -5", "below 80", _TABLE, "exclusive0"),
    Published("exclusive gate, b = -6", "91.30", _TABLE, "exclusive-6"),
    Published("exclusive gate, b = -7", "90.19", _TABLE, "exclusive-7"),
    Published("shortcut-only gate, b = 0", "87.14", _TABLE, "shortcut0"),
    Published("shortcut-only gate, b = -6", "93.09", _TABLE, "shortcut-6"),
    Published("halved sum", "87.65", _TABLE, "scaled"),
    Published("1x1 convolution", "87.78", _TABLE, "project"),
    Published("dropout on the shortcut", "below 80", _TABLE, "dropout"),
    Published("the reply's gate, b = -6", "93.96", "Srivastava 2025", "highway-6"),
)
_DIFFERENT = (
    "the reply's gate with a bias of 0 is ours",
    "the net with the reply's gates has seven eighths of the width, and more parameters",
    "where sizes change, shortcuts take every second point and pad new channels with zeros, but for those of the 1x1 "
    "convolutions and of the reply's net, which are normed 1x1 layers",
    "images are standardised by one mean and one deviation; the authors subtract each pixel's mean",
    "the first epoch has a tenth of the rate, which at paper scale is the authors' 400 updates but for nine",
    "where the paper prints two errors, a claim holds with half their distance: its nets learn another data set, and "
    "for longer",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    account = Account(
        title="Do gated shortcuts fail because of their bias?",
        subtitle="Table 1 of Identity Mappings in Deep Residual Networks, He, Zhang, Ren & Sun 2016, and the reply of "
        "Srivastava 2025",
        lead=lambda rows: _lead(rows, config),
        published=_PUBLISHED,
        paper_saw="The paper's nets had 110 layers and learnt CIFAR-10, and each of its numbers is the median of five "
        f"trainings; these have {config.layers} layers and learnt {config.data}.",
        nets=f"residual nets of {config.layers} layers of {', '.join(map(str, config.widths))} channels, rectifiers "
        "after the sum, which is joined in another way in each",
        differs=_DIFFERENT,
        sections=lambda rows: _by_bias(rows, config),
    )
    return write_compared_report(
        reader, folder, config, SCALES["paper"], contenders(config), claims_for(config), account
    )


def _by_bias(rows: Rows, config: Config) -> list[Section]:
    """Error against gate bias, a curve per kind of gate, the identity beside them."""
    curves, bands = {}, {}
    biases = {"exclusive": config.exclusive, "shortcut": config.shortcut, "highway": config.highway}
    for joining, each in biases.items():
        found = {bias: errors_of(rows, gated(joining, bias)) for bias in sorted(each)}
        found = {bias: errors for bias, errors in found.items() if errors}
        if found:
            name, x = LABELS[joining], list(found)
            curves[name] = (x, [sum(errors) / len(errors) for errors in found.values()])
            if config.seeds > 1:
                bands[name] = (x, [min(each) for each in found.values()], [max(each) for each in found.values()])
    if not curves:
        return []
    places = sorted({bias for x, _ in curves.values() for bias in x})
    references = []
    if errors_of(rows, "identity") and len(places) > 1:
        references = [LABELS["identity"]]
        curves[LABELS["identity"]] = (places, [error_of(rows, "identity")] * len(places))
    figure = run_curves(
        curves, bands=bands, references=references, x_name="gate bias at the start", y_name="test error (share)"
    )
    reading = (
        "Mean over seeds, and their range. To the left gates begin shut, and modules near the identity; at 0 they "
        "begin half open, and an exclusive gate halves what passes from module to module."
    )
    return [Section("Error against gate bias", figure, reading)]


def _lead(rows: Rows, config: Config) -> str:
    """The answer in plain words, from the numbers."""
    identity = error_of(rows, "identity")
    sentences = [f"With identity shortcuts {config.layers} layers get {identity:.1%} of the test examples wrong."]
    for joining, biases in (("exclusive", config.exclusive), ("highway", config.highway)):
        if len(biases) > 1:
            sentences.append(_of_gate(rows, joining, max(biases), min(biases)))
    return " ".join(sentences)


def _of_gate(rows: Rows, joining: str, high: float, low: float) -> str:
    identity = error_of(rows, "identity")
    at_high, at_low = (error_of(rows, gated(joining, bias)) for bias in (high, low))
    name = LABELS[joining] if joining == "highway" else f"the {LABELS[joining]}"
    told = f"{name.capitalize()} comes to {at_high:.1%} from a bias of {high:g}, and to {at_low:.1%} from {low:g}"
    gained, lost = at_high - at_low, at_high - identity
    if gained <= 0:
        return f"{told}: the lower bias is no help."
    # Of less than two points no share can be told.
    return f"{told}: the bias makes up {gained / lost:.0%} of what it loses." if lost > 0.02 else f"{told}."
