"""Softmax that is applied twice, or over a single unit, and losses that take probabilities for something else.

The operations between the outputs of the model and the loss are read from autograd's graph (`Trace.loss_graph`).
"""

import math
from collections.abc import Iterator

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.loss_graph import Node, feeding, loss_nodes
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.wording import number

__all__ = ["DOUBLE_SOFTMAX", "least_double_softmax_loss"]

# (operation of the loss, operation of the model that should not feed it): the explanation
_MISUSES = {
    ("LogSoftmaxBackward0", "SoftmaxBackward0"): "the model ends in softmax, and the loss applies it again",
    ("LogSoftmaxBackward0", "LogSoftmaxBackward0"): "",  # log_softmax of log_softmax changes nothing
    ("LogSoftmaxBackward0", "SigmoidBackward0"): "the model ends in sigmoid, and the loss applies softmax to it",
    (
        "BinaryCrossEntropyWithLogitsBackward0",
        "SigmoidBackward0",
    ): "the model ends in sigmoid, and the loss applies it again",
    (
        "BinaryCrossEntropyWithLogitsBackward0",
        "SoftmaxBackward0",
    ): "the model ends in softmax, and the loss applies sigmoid to it",
    ("NllLossBackward0", "SoftmaxBackward0"): "nll_loss takes log-probabilities, but the model returns probabilities",
    ("NllLossNdBackward0", "SoftmaxBackward0"): "nll_loss takes log-probabilities, but the model returns probabilities",
    ("NllLoss2DBackward0", "SoftmaxBackward0"): "nll_loss takes log-probabilities, but the model returns probabilities",
    ("SoftmaxBackward0", "SoftmaxBackward0"): "the model applies softmax to the result of softmax",
    ("SigmoidBackward0", "SigmoidBackward0"): "the model applies sigmoid to the result of sigmoid",
}

_FUNCTIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}


def least_double_softmax_loss(classes: int) -> float:
    """Return the smallest cross-entropy of probabilities that are taken for logits: ln(1 + (C - 1)/e).

    The logits lie in [0, 1]: at best 1 for the right class and 0 for the other C - 1.

    >>> round(least_double_softmax_loss(10), 2)
    1.46
    """
    return math.log1p((classes - 1) / math.e)


def find_double_softmax(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if the model and the loss both apply softmax or sigmoid, or softmax is over one unit."""
    nodes = loss_nodes(reading)
    for node in nodes:
        for fed_by in feeding(nodes, node):
            what = _MISUSES.get((node.operation, fed_by.operation), "")
            if what and node.site is not None:
                first, second = (each.operation.removesuffix("Backward0") for each in (fed_by, node))
                what = f"the model applies {_FUNCTIONS[second]} to the result of {_FUNCTIONS[first]}"
            if what:
                yield _misuse(reading, node, fed_by, what)
                return
    for node in nodes:
        if node.operation in ("SoftmaxBackward0", "LogSoftmaxBackward0") and len(node.shape) == 2 == 1 + node.shape[1]:
            yield _single_unit(reading, node)
            return


def _misuse(reading: Reading, node: Node, fed_by: Node, what: str) -> Finding:
    first = int(reading.steps[0])
    site = fed_by.site or ""
    pair = f"{fed_by.operation.removesuffix('Backward0')} feeds {node.operation.removesuffix('Backward0')}"
    classes = fed_by.shape[-1] if fed_by.shape else 1
    rows = [Evidence("loss_graph", site, first, 2.0, f"{pair} in the graph of the loss", "threshold", 1.0, 1.0)]
    if node.operation == "LogSoftmaxBackward0" and classes > 1:
        least = least_double_softmax_loss(classes)
        text = f"of inputs in [0, 1], the cross-entropy over {classes} classes cannot fall below {number(least)}"
        rows.append(Evidence("loss", "", None, _last_loss(reading), text, "theory", expected=least))
    else:
        rows.append(
            Evidence(
                "loss", "", None, _last_loss(reading), "the loss expects values of any size", "theory", expected=0.0
            )
        )
    rows.append(
        Evidence(
            "loss_graph",
            site,
            first,
            float(len(fed_by.shape)),
            "not the softmax of an attention or a gate: its result goes into the loss directly",
            "ruled out",
        )
    )
    return Finding(
        "double_softmax",
        f"{what[0].upper()}{what[1:]}: its gradients are small, and the loss cannot get near 0.",
        (site,) if site else (),
        since=(None, first),
        evidence=tuple(rows),
        cures=(CURES["logits"],),
        span=None if not site else (site, site),
        confidence=0.97,
    )


def _last_loss(reading: Reading) -> float:
    return float("nan") if reading.loss is None else float(reading.loss[-1])


def _single_unit(reading: Reading, node: Node) -> Finding:
    first = int(reading.steps[0])
    site = node.site or ""
    return Finding(
        "double_softmax",
        "Softmax over a single unit is 1 for every input: the output and the loss cannot change. Use sigmoid, or one "
        "unit per class.",
        (site,) if site else (),
        since=(None, first),
        evidence=(
            Evidence("units", site, first, 1.0, "softmax is taken over 1 unit", "threshold", 2.0, 2.0),
            Evidence("gradient", site, first, 0.0, "the derivative of softmax over one unit is 0", "theory", 0.0),
            Evidence(
                "loss_graph", site, first, 1.0, "not inside the model: its result goes into the loss", "ruled out"
            ),
        ),
        cures=(CURES["logits"],),
        span=None if not site else (site, site),
        margin=2.0,
        confidence=0.97,
    )


DOUBLE_SOFTMAX = Rule(
    "double_softmax",
    find_double_softmax,
    needs=(("loss", "step"),),
    explains=frozenset(
        ("lr_too_low", "constant_output", "vanishing_gradient", "rank_collapse", "saturated", "diverging", "dying_relu")
    ),
    advice="The graph of the loss is recorded in new traces.",
)
