"""An input that is the same number for every example at every step, so that no output can depend on it."""

from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.loss_graph import chance_loss, loss_nodes
from thruway.diagnosing.rules.loss_history import loss_history
from thruway.diagnosing.rules.lost_input import is_constant
from thruway.diagnosing.rules.wording import layer_text, number, output_text

__all__ = ["constant_input"]

_FITTED = 0.5  # of the first loss, and of that of a constant guess: a network may be made to fit one constant


def constant_input(reading: Reading, output: str) -> Iterator[Finding]:
    """Yield a finding if all inputs are one number, the output does not vary either, and the loss stays high.

    Args:
        reading: the trace.
        output: name of the last output.
    """
    stds, means = reading.values("std", "input"), reading.values("mean", "input")
    if stds is None or means is None or not len(stds.sites):
        return
    known = np.isfinite(means.values)
    # An input of a single number has no other to differ from.
    has_many = all(len(site.shape) > 1 and site.shape[0] > 1 for site in stds.sites)
    same = [len(set(row[row_known].tolist())) == 1 for row, row_known in zip(means.values, known, strict=True)]
    if not has_many or np.nansum(stds.values) > 0 or not all(same) or known.sum(1).min() < 2:
        return
    if not is_constant(reading, output, 0) or _has_fitted(reading):
        return
    step, value = int(reading.steps[0]), float(means.values[0, np.argmax(known[0])])
    name = stds.sites[0].name
    who = "The input" if name == "input" else f"The input {name}"
    first = next((layer for layer in reading.layers), None)
    theory = "of equal inputs, the outputs are equal, and no gradient can change that"
    if value == 0 and first is not None:
        theory = f"the gradient of the weight of {layer_text(first.name)} is its input times that of its output, 0: "
        theory += "only biases and later layers can learn"
    yield Finding(
        "constant_output",
        f"{who} is constant: all its values are {number(value)}, at every one of {int(known[0].sum())} recorded steps. "
        f"So {output_text(output)} is the same for every example.",
        (output,),
        since=(None, step),
        evidence=(
            Evidence("std", name, step, 0.0, f"the standard deviation of {name} is 0", "threshold", 1.0, 0.0),
            Evidence("mean", name, step, value, theory, "theory"),
            Evidence(
                "std",
                name,
                int(reading.steps[-1]),
                0.0,
                "no layer of the model loses the input, and no single batch is empty: the data are the same at every "
                "step",
                "ruled out",
            ),
        ),
        cures=(ADVICE["check_input"],),
        span=(output, output),
        confidence=0.95,
    )


def _has_fitted(reading: Reading) -> bool:
    history, chance = reading.derived(loss_history), chance_loss(loss_nodes(reading))
    if history is None or not len(history.finite):
        return False
    last = history.last_level
    return last < _FITTED * history.first_level and (chance is None or last < _FITTED * chance)
