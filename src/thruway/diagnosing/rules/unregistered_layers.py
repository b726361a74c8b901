"""Layers that a model computes with but does not register: in a Python list, or with tensors as weights.

The output of the first map of a network has a gradient only if the input or the weight requires one. A call of a
function whose weight is no parameter of the model, directly on the data, is such a map.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import MAP_OPERATIONS, Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.loss_history import loss_history
from thruway.diagnosing.rules.states import ParameterHistory
from thruway.diagnosing.rules.wording import join_names, number

__all__ = ["unregistered_layers"]

_HAS_FALLEN = 0.7  # a run that learns this much trains the weights, in another optimizer


def unregistered_layers(reading: Reading, known: Sequence[ParameterHistory]) -> Iterator[Finding]:
    """Yield a finding if the first map of the network has a trainable weight that is no parameter of the model."""
    maps = [site for site in reading.outputs if site.operation in MAP_OPERATIONS]
    functions = [site for site in maps if site.operation[0].islower()]
    called = {site.name.split("#")[0].split("[")[0] for site in reading.outputs}
    gradient, history = reading.rms("gradient"), loss_history(reading)
    owned = {layer.name for layer in reading.layers if layer.weight is not None}
    functions = [site for site in functions if site.name not in owned]
    # Functions may use parameters that belong to no called module.
    if not functions or gradient is None or any(h.name.rpartition(".")[0] not in called for h in known):
        return
    first = functions[0]
    of_first = gradient.of(first.name)
    if first is not reading.outputs[0] or of_first is None or not (np.nan_to_num(of_first) > 0).any():
        return
    if history is None or len(history.finite) < 10 or history.relative_fall > _HAS_FALLEN:
        return
    names, step = [site.name for site in functions], int(reading.steps[0])
    yield Finding(
        "frozen_parameters",
        f"{join_names(names)} compute with weights that are no parameters of the model, so model.parameters() does not "
        "hold them and the optimizer does not change them: layers in a Python list or a dict, or plain tensors.",
        tuple(names),
        since=(None, step),
        evidence=(
            Evidence(
                "parameters", "", None, float(len(known)),
                f"the {len(known)} parameters of the model belong to other layers than {join_names(names)}",
                "threshold", None, float(len(known)),
            ),
            Evidence(
                "gradient", first.name, step, float(of_first[0]),
                f"the gradient at {first.name}, which takes the data, is {number(float(of_first[0]))}: it has one only "
                "because its weight requires gradients",
                "theory",
            ),
            Evidence(
                "relative_fall", "", None, history.relative_fall,
                f"no other optimizer seems to train them: the loss has fallen by {number(100 * history.relative_fall)} "
                "% of its first value",
                "ruled out",
            ),
        ),
        cures=(ADVICE["register_layers"],),
        span=(names[0], names[-1]),
        confidence=0.8,
    )  # fmt: skip
