"""torchmortem 0.1.1 on the runs of the corpus. It is attached as its README shows: a block around the loop, one call
of `step(loss=...)` after every optimizer step, with its preset for the most frequent recording.

Its findings of severity INFO are left out, as are its interpreter's combined insights, which repeat the findings.
"""

import importlib.util
import logging
import math
import warnings

from benchmarks.diagnosing_scores import Found
from tests.corpus import Case
from tests.corpus.running import seeded

__all__ = ["by_torchmortem", "is_installed"]

# Titles of its findings, and our ids that they may stand for.
MEANINGS: dict[str, tuple[str, ...]] = {
    "Vanishing gradients": ("vanishing_gradient", "poor_init", "gate_bias_not_negative", "gates_open"),
    "Exploding gradients": ("exploding_gradient", "exploding_activation", "poor_init", "lr_too_high"),
    "Gradient stalling": ("vanishing_gradient", "frozen_parameters", "dead_units", "dying_relu"),
    "Dead units": ("dead_units", "dying_relu", "constant_output"),
    "Activation saturation": ("saturated", "poor_init", "gates_shut", "gates_open"),
    "Update ratio too low": ("lr_too_low", "frozen_parameters"),
    "Update ratio too high": ("lr_too_high", "poor_init"),
    "High gradient noise": ("lr_too_high",),
    "Weight norm explosion": ("diverging", "lr_too_high", "gradients_accumulate"),
    "Stagnant weight norms": ("lr_too_low", "frozen_parameters"),
    "Inter-layer weight norm": ("poor_init",),
    "Training divergence": ("diverging", "lr_too_high", "nan_or_inf"),
    "Loss plateau": ("lr_too_low", "constant_output", "double_softmax"),
    "Catapult phase": ("lr_too_high",),
    "Edge of stability": ("lr_too_high",),
    "rank": ("rank_collapse", "constant_output"),
    "Rank": ("rank_collapse", "constant_output"),
    "urvature": ("lr_too_high",),
}


def is_installed() -> bool:
    return importlib.util.find_spec("torchmortem") is not None


def meaning(title: str) -> tuple[str, ...]:
    """Return our ids for the title of a finding.

    Raises:
        KeyError: for a title that is not in the table.
    """
    for start, ids in MEANINGS.items():
        if start in title:
            return ids
    raise KeyError(f"a finding of torchmortem without a meaning: {title}")


def by_torchmortem(case: Case, seed: int) -> list[Found]:
    """Train a case under torchmortem and return its findings."""
    from torchmortem import Autopsy
    from torchmortem.types import Severity

    logging.getLogger("torchmortem").setLevel(logging.CRITICAL)
    training = case.training(seed)
    with warnings.catch_warnings(), seeded(training):
        warnings.simplefilter("ignore")
        autopsy = Autopsy(case.watched(training.model), optimizer=training.optimizer, sampling="thorough")
        autopsy.attach()
        for loss in case.loop(training):
            autopsy.step(loss=loss)
        autopsy.detach()
    report = autopsy.get_report()
    found = []
    for finding in report.findings:
        if finding.severity is Severity.INFO:
            continue
        first, _ = finding.step_range or (math.nan, math.nan)
        since = None if first != first else (int(first) - 1 if first else None, int(first))
        found.append(Found(meaning(finding.title), tuple(finding.affected_layers), since))
    return found
