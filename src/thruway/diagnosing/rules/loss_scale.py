"""The factor by which a cross-entropy was multiplied before backward(), from the gradient at its inputs.

The gradient of the mean cross-entropy of N rows at the logits is (p - y) / N. While p is nearly uniform over C classes,
each row of p - y has the norm sqrt(1 - 1 / C), and the gradient has the norm sqrt((1 - 1 / C) / N) times this factor.
"""

import math

import numpy as np

from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.loss_graph import loss_nodes

__all__ = ["loss_scale"]


def loss_scale(reading: Reading) -> float | None:
    """Return the factor by which a cross-entropy is multiplied in the loss graph, or None if it is not known.

    The factor of a network that is sure of its answers is underestimated by the norm of its p - y, and the loss divided
    by it is still not that of a constant guess.
    """
    nodes, gradient = loss_nodes(reading), reading.rms("gradient")
    if gradient is None or not nodes or not nodes[0].operation.startswith(("DivBackward", "MulBackward")):
        return None
    node = next((n for n in nodes if n.operation == "LogSoftmaxBackward0" and len(n.shape) == 2), None)
    source = None if node is None else next((nodes[p].site for p in node.inputs if nodes[p].site), None)
    values = None if source is None else gradient.of(source)
    if node is None or values is None or not np.isfinite(values).any():
        return None
    rows, classes = node.shape
    first = float(values[np.isfinite(values)][0])
    expected = math.sqrt((1.0 - 1.0 / classes) / rows / (rows * classes)) if classes > 1 else 0.0  # root mean square
    return first / expected if expected else None
