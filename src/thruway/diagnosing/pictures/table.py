"""The pictures of each symptom, in the order in which the card shows them."""

from collections.abc import Callable
from dataclasses import replace

from thruway.diagnosing.finding import Finding
from thruway.diagnosing.pictures import sources as of
from thruway.diagnosing.pictures.case import Case, Draw, Picture, Source
from thruway.diagnosing.pictures.depth import Reference, depth_of
from thruway.diagnosing.pictures.inputs import input_ranges
from thruway.diagnosing.pictures.maps import map_of
from thruway.diagnosing.pictures.numbers import evidence_figure
from thruway.diagnosing.pictures.over_time import lines_of, loss_curve, two_softmaxes
from thruway.diagnosing.pictures.states import parameter_states
from thruway.diagnosing.pictures.theory import expected_gradients, expected_signals
from thruway.diagnosing.reading import Reading

__all__ = ["PICTURES", "pictures_of"]

Choose = Callable[[Case], tuple[Source, ...]]

_LOSS = loss_curve()

_GRADIENT_MAP = map_of(of.GRADIENT, title="Gradient, layer by layer", only=of.layer_names)
_GRADIENT_DEPTH = depth_of(
    of.GRADIENT,
    title="Gradient over depth",
    theory=expected_gradients,
    reference=Reference("last", "healthy: equal in every layer"),
    only=of.layer_names,
)
_SIGNAL_MAP = map_of(of.SIGNAL, title="Outputs, layer by layer", only=of.layer_names)
_SIGNAL_FROM_ONE = depth_of(
    of.SIGNAL,
    title="Outputs over depth",
    theory=expected_signals,
    reference=Reference(1.0, "healthy: about 1"),
    only=of.layer_names,
)
_SIGNAL_DEPTH = depth_of(
    of.SIGNAL,
    title="Outputs over depth",
    theory=expected_signals,
    reference=Reference("first", "healthy: equal in every layer"),
    only=of.layer_names,
)
_GRADIENT_BESIDE = depth_of(
    of.GRADIENT,
    title="Gradient over depth",
    theory=expected_gradients,
    reference=Reference("last", "healthy: equal in every layer"),
    only=of.layer_names,
    name="gradient",
)
_GATE_MAP = map_of(of.GATES, title="Transform gates, layer by layer")
_GATE_DEPTH = depth_of(of.GATES, title="Transform gates over depth", reference=Reference(0.5, "half open"))
_UPDATE_MAP = map_of(of.UPDATE_RATIO, title="Relative size of the updates")
_UPDATE_DEPTH = depth_of(
    of.UPDATE_RATIO, title="Relative size of the update", reference=Reference(1e-3, "usual: about 0.001")
)
_LIKENESS_MAP = map_of(of.INPUT_CORRELATION, of.RANK, of.SPREAD, title="Likeness of the outputs of all inputs")
_LIKENESS_DEPTH = depth_of(of.INPUT_CORRELATION, of.RANK, of.SPREAD, title="Likeness over depth")


def _chosen(
    choose: Choose, draw: Callable[..., Draw], title: str, only: Callable[[Reading], set[str]] | None = None
) -> Draw:
    """Return a function that draws sources that depend on the finding."""
    return lambda case: draw(*choose(case), title=title, only=only)(case)


def _expected_by_evidence(case: Case) -> Picture | None:
    """Draw update ratios with the value that the finding's own evidence expects, if there is one."""
    found = (each.expected for each in case.finding.evidence if each.quantity == "update_ratio")
    expected = next((each for each in found if each is not None), None)
    if expected is None:
        return _UPDATE_DEPTH(case)
    draw = depth_of(
        of.UPDATE_RATIO, title="Relative size of the update", reference=Reference(float(expected), "expected")
    )
    return draw(case)


PICTURES: dict[str, tuple[Draw, ...]] = {
    "vanishing_gradient": (_GRADIENT_MAP, _GRADIENT_DEPTH),
    "exploding_gradient": (_GRADIENT_MAP, _GRADIENT_DEPTH),
    "exploding_activation": (_SIGNAL_MAP, _SIGNAL_DEPTH),
    "poor_init": (_SIGNAL_FROM_ONE, _GRADIENT_BESIDE, _SIGNAL_MAP),
    "saturated": (
        _chosen(of.saturation, map_of, "Saturation, layer by layer", of.activation_names),
        _chosen(of.saturation, depth_of, "Saturation over depth", of.activation_names),
    ),
    "dead_units": (
        map_of(of.DEAD, of.ZEROS, title="Inactive units, layer by layer", only=of.activation_names),
        depth_of(of.DEAD, of.ZEROS, title="Inactive units over depth", only=of.activation_names),
    ),
    "dying_relu": (
        map_of(of.DEAD, of.ZEROS, title="Inactive units, layer by layer", only=of.activation_names),
        depth_of(of.DEAD, of.ZEROS, title="Inactive units over depth", only=of.activation_names),
    ),
    "symmetric_init": (
        depth_of(of.PARAMETER, title="Spread of the weights", only=of.weight_names),
        map_of(of.PARAMETER, title="Spread of the weights, step by step", only=of.weight_names),
    ),
    "frozen_parameters": (parameter_states, _UPDATE_MAP, _UPDATE_DEPTH),
    "nan_or_inf": (
        map_of(of.NOT_FINITE, title="NaN and infinite values"),
        depth_of(of.SIGNAL, title="Outputs before and at the onset", only=of.layer_names),
    ),
    "lr_too_high": (_UPDATE_MAP, _expected_by_evidence, _LOSS),
    "lr_too_low": (_UPDATE_MAP, _expected_by_evidence, _LOSS),
    "rank_collapse": (_LIKENESS_MAP, _LIKENESS_DEPTH),
    "gates_shut": (_GATE_MAP, _GATE_DEPTH),
    "gates_open": (_GATE_MAP, _GATE_DEPTH),
    "gradients_accumulate": (
        lines_of(
            of.gradient_growth,
            title="Gradients, relative to the first step",
            y_name="relative to the first step",
            caption="Parameter gradients that grow while the gradient at the last layer stays are sums over steps.",
        ),
        map_of(of.PARAMETER_GRADIENT, title="Gradient of every parameter"),
    ),
    "double_softmax": (
        loss_curve(two_softmaxes),
        map_of(of.SPREAD, title="Outputs, layer by layer", only=of.layer_and_softmax_names),
    ),
    "constant_output": (_LIKENESS_MAP, _LIKENESS_DEPTH),
    "unscaled_input": (input_ranges, _SIGNAL_DEPTH),
    "gate_bias_not_negative": (_GATE_DEPTH, _GATE_MAP),
    "diverging": (_LOSS, _SIGNAL_MAP, _UPDATE_MAP),
}

# For symptoms of a rule of the user's own.
_OTHER: tuple[Draw, ...] = (
    _chosen(of.named_by_evidence, map_of, "The quantity of the evidence"),
    _chosen(of.named_by_evidence, depth_of, "The quantity of the evidence over depth"),
)


def pictures_of(reading: Reading, finding: Finding, *, with_loss: bool = True) -> list[Picture]:
    """Return the pictures of a finding: those of its symptom, and if the trace has none of them, others.

    Args:
        reading: reading of the trace.
        finding: finding to draw.
        with_loss: if True, add the loss curve, if it is known and not among the symptom's own pictures.
    """
    case = Case(reading, finding)
    drawn = [picture for draw in PICTURES.get(finding.rule, _OTHER) if (picture := draw(case)) is not None]
    if not drawn:
        drawn = [picture for draw in _OTHER if (picture := draw(case)) is not None]
    if not drawn:
        numbers = evidence_figure(case)
        drawn = [] if numbers is None else [numbers]
    if with_loss and all(picture.name != "loss" for picture in drawn):
        loss = _LOSS(case)
        drawn += [] if loss is None else [loss]
    drawn = _paired(drawn)
    _level(drawn)
    return drawn


def _paired(pictures: list[Picture]) -> list[Picture]:
    """Widen a picture that would stand alone in the left half."""
    found: list[Picture] = []
    is_left = True
    for place, picture in enumerate(pictures):
        is_last = place + 1 == len(pictures) or pictures[place + 1].is_wide
        is_lonely = not picture.is_wide and is_left and is_last
        found.append(replace(picture, is_wide=True) if is_lonely else picture)
        is_left = picture.is_wide or is_lonely or not is_left
    return found


def _level(pictures: list[Picture]) -> None:
    """Give the pictures that stand side by side the same height."""
    half = [picture.figure for picture in pictures if not picture.is_wide]
    height = max((figure.layout.height for figure in half), default=0)
    for figure in half:
        figure.layout.height = height
        meta = dict(figure.layout.meta)
        meta["wide"] = {**meta["wide"], "height": height}
        figure.layout.meta = meta
