"""Report of the study of gated shortcuts: error against gate bias, all errors, and the paper's accuracies."""

from thruway.experiments.he2016.gates import LABELS, SCALES, Config, claims, contenders, gated
from thruway.experiments.machinery import ComparedPage, Published, Rows, compared_study, error_of, errors_of
from thruway.figures import run_curves
from thruway.report import Section

__all__ = ["STUDY", "page"]

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
    "the network with the reply's gates has seven eighths of the width, and more parameters",
    "where the size changes, shortcuts take every second pixel and pad new channels with zeros, except those of the "
    "1x1 convolutions and of the reply's network, which are 1x1 layers with norms",
    "images are standardised with a single mean and standard deviation; the authors subtract the mean of each pixel",
    "the first epoch uses a tenth of the learning rate: 391 updates at paper scale, 400 in the paper",
    "if the paper states two errors, the threshold is half their difference, since its networks were trained on "
    "another data set, and for longer",
)


def page(config: Config) -> ComparedPage:
    """Return the texts of the report."""
    return ComparedPage(
        title="Do gated shortcuts fail because of their bias?",
        subtitle="Table 1 of Identity Mappings in Deep Residual Networks, He, Zhang, Ren & Sun 2016, and the reply of "
        "Srivastava 2025",
        lead=lambda rows: _lead(rows, config),
        published=_PUBLISHED,
        paper_data="The paper's networks had 110 layers and were trained on CIFAR-10; its numbers are medians of five "
        f"runs. Ours have {config.layers} layers and were trained on {config.data}.",
        nets=f"residual networks of {config.layers} layers with {', '.join(map(str, config.widths))} channels and "
        "a ReLU after each sum, which differ in how branch and shortcut are joined",
        differs=_DIFFERENT,
        sections=lambda rows: _by_bias(rows, config),
    )


def _by_bias(rows: Rows, config: Config) -> list[Section]:
    """Plot the error against the gate bias, with one curve per kind of gate, and the error of the identity."""
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
        curves, bands=bands, references=references, x_name="initial gate bias", y_name="test error (share)"
    )
    reading = (
        "Mean and range over seeds. On the left, gates start nearly closed, and modules near the identity. At 0, "
        "gates start half open, and an exclusive gate halves the signal in every module."
    )
    return [Section("Error against gate bias", figure, reading)]


def _lead(rows: Rows, config: Config) -> str:
    """Return the lead of the report: the main result in words."""
    identity = error_of(rows, "identity")
    sentences = [f"With identity shortcuts, {config.layers} layers have a test error of {identity:.1%}."]
    for joining, biases in (("exclusive", config.exclusive), ("highway", config.highway)):
        if len(biases) > 1:
            sentences.append(_of_gate(rows, joining, max(biases), min(biases)))
    return " ".join(sentences)


def _of_gate(rows: Rows, joining: str, high: float, low: float) -> str:
    identity = error_of(rows, "identity")
    at_high, at_low = (error_of(rows, gated(joining, bias)) for bias in (high, low))
    name = LABELS[joining] if joining == "highway" else f"the {LABELS[joining]}"
    errors = f"{name.capitalize()} has {at_high:.1%} with a bias of {high:g}, and {at_low:.1%} with {low:g}"
    gained, lost = at_high - at_low, at_high - identity
    if gained <= 0:
        return f"{errors}: the lower bias does not help."
    # A share of less than two points would be noise.
    return (
        f"{errors}: the bias explains {gained / lost:.0%} of the difference from the identity."
        if lost > 0.02
        else f"{errors}."
    )


STUDY = compared_study(
    name="he2016.gates",
    title="the initial gate bias decides whether gated shortcuts fail in a deep residual network",
    source="He, Zhang, Ren & Sun 2016 (Identity Mappings), table 1; Srivastava 2025 in reply",
    config=Config,
    scales=SCALES,
    contenders=contenders,
    claims=claims,
    page=page,
)
