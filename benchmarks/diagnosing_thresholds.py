"""Diagnosis by fixed thresholds, as other tools do it, over the same traces as Thruway's.

Each rule is one row: a tool's rule, our ids that it may stand for, and a function of the trace that returns the sites
with their first step over the threshold. In case of doubt a choice favours the tool: a rule counts as right if any of
its ids is acceptable, and conditions that need numbers a trace does not have are left out.

Sources: the default arguments of Amazon SageMaker's built-in rules (developer guide); settings.yaml of TheDeepChecker
(Ben Braiek & Khomh 2023); AutoTrainer (Zhang et al. 2021), default parameters; the usual rules of thumb.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.diagnosing_scores import Found
from benchmarks.diagnosing_view import Array, Sites, Test, View
from thruway.watching import Trace

__all__ = ["TOOLS", "by_thresholds"]


@dataclass(frozen=True)
class Rule:
    """A rule of another tool."""

    name: str
    ids: tuple[str, ...]
    find: Callable[[View], Sites]


def _mean_size(view: View, kind: str) -> tuple[list[str], Array, Array]:
    """The mean absolute value, from mean and standard deviation as of a normal distribution."""
    names, steps, std = view.of("std", kind)
    _, _, mean = view.of("mean", kind)
    return names, steps, np.sqrt(2 / np.pi) * np.hypot(std, mean)


def mean_gradient(test: Callable[[Array], Array]) -> Callable[[View], Sites]:
    def find(view: View) -> Sites:
        names, steps, size = _mean_size(view, "parameter_gradient")
        with np.errstate(all="ignore"):
            hit = test(size) if names else np.empty((0, 0), bool)
        return [(n, int(steps[row.argmax()])) for n, row in zip(names, hit, strict=True) if row.any()]

    return find


def gradients_over_depth(test: Callable[[Array, Array], Array]) -> Callable[[View], Sites]:
    def find(view: View) -> Sites:
        names, steps, first, last = view.first_and_last_gradient()
        with np.errstate(all="ignore"):
            hit = test(first, last) if names else np.empty(0, bool)
        return [(names[0], int(steps[hit.argmax()]))] if hit.any() else []

    return find


def not_finite(view: View) -> Sites:
    found: Sites = []
    for kind in ("output", "gradient", "parameter", "parameter_gradient"):
        for quantity in ("nan", "inf"):
            found += view.over(lambda v: v > 0, quantity, kind)
    return sorted(found, key=lambda site: site[1])


def loss_rule(test: Callable[[Array], int | None]) -> Callable[[View], Sites]:
    """A rule of the losses: `test` returns the step, or None."""

    def find(view: View) -> Sites:
        losses = np.asarray(view.losses)
        step = test(losses)
        return [] if step is None else [("", step)]

    return find


def no_fall_over(window: int, share: float) -> Callable[[Array], int | None]:
    """The best loss falls by less than `share` in a window of steps."""

    def test(losses: Array) -> int | None:
        for end in range(2 * window, len(losses) + 1):
            before, now = losses[: end - window].min(), losses[end - window : end].min()
            if not now < before - share * abs(before):
                return end - 1
        return None

    return test


def rises_to(factor: float) -> Callable[[Array], int | None]:
    def test(losses: Array) -> int | None:
        best = np.minimum.accumulate(losses)
        hit = losses >= factor * np.abs(best)
        hit[0] = False
        return int(hit.argmax()) if hit.any() else None

    return test


def oscillates(losses: Array) -> int | None:
    """The loss rises by 3 % of its range in more than a fifth of the steps."""
    rises = np.diff(losses) > 0.03 * np.ptp(losses)
    return int(rises.argmax()) + 1 if rises.mean() > 0.2 else None


def slow(losses: Array) -> int | None:
    """The loss has fallen by less than 1 % after 30 % of the steps."""
    at = int(0.3 * len(losses))
    return at if at and not losses[: at + 1].min() < 0.99 * losses[0] else None


def unchanged(view: View) -> Sites:
    """A weight's update is below a relative 1e-5 for three steps (rtol of SageMaker's UnchangedTensor)."""
    names, steps, ratio = view.of("update_ratio", "update")
    found: Sites = []
    for name, row in zip(names, ratio, strict=True):
        still = row < 1e-5
        three = still[:-2] & still[1:-1] & still[2:]
        if three.any():
            found.append((name, int(steps[three.argmax()])))
    return found


def weight_variances(view: View) -> Sites:
    """The variances of the layers' first weights differ by more than a factor of 10."""
    names, _, std = view.of("std", "parameter")
    weights = [(n, row[0]) for n, row in zip(names, std, strict=True) if "bias" not in n and row[0] > 0]
    variances = [s**2 for _, s in weights]
    if len(weights) < 2 or max(variances) / min(variances) <= 10:
        return []
    return [(max(weights, key=lambda w: w[1])[0], 0)]


def saturated(share: float, low: str = "saturation_low", high: str = "saturation_high") -> Callable[[View], Sites]:
    """The share of saturated values exceeds a limit. Thruway's definition of saturation stands for the tool's."""

    def find(view: View) -> Sites:
        names, steps, lower = view.of(low, operations=("tanh", "sigmoid"))
        _, _, upper = view.of(high, operations=("tanh", "sigmoid"))
        hit = np.nan_to_num(lower) + np.nan_to_num(upper) > share if names else np.empty((0, 0), bool)
        return [(n, int(steps[row.argmax()])) for n, row in zip(names, hit, strict=True) if row.any()]

    return find


def spread_of_outputs(view: View) -> Sites:
    """Activations with a standard deviation outside 0.5 to 2."""
    names, steps, std = view.of("std", operations=("relu", "tanh", "sigmoid", "gelu", "leaky_relu"))
    hit = (std[:, :1] < 0.5) | (std[:, :1] > 2.0) if names else np.empty((0, 0), bool)
    return [(n, int(steps[0])) for n, row in zip(names, hit, strict=True) if row.any()]


def input_range(low: float, high: float) -> Callable[[View], Sites]:
    """Inputs whose mean plus or minus two deviations leaves a range."""

    def find(view: View) -> Sites:
        names, steps, mean = view.of("mean", "input")
        _, _, std = view.of("std", "input")
        hit = (mean - 2 * std < low) | (mean + 2 * std > high) if names else np.empty((0, 0), bool)
        return [(n, int(steps[row.argmax()])) for n, row in zip(names, hit, strict=True) if row.any()]

    return find


def updates(test: Test) -> Callable[[View], Sites]:
    """Updates of weights relative to their norm. Biases start at 0, where a ratio says nothing."""
    return lambda view: [site for site in view.over(test, "update_ratio", "update") if "bias" not in site[0]]


def weights_near_zero(view: View) -> Sites:
    return [site for site in view.over(lambda s: s < 1e-5, "std", "parameter") if "bias" not in site[0]]


def gates(test: Test) -> Callable[[View], Sites]:
    """Mean values of sigmoids anywhere in the network."""
    return lambda view: view.over(test, "mean", operations=("sigmoid",))


RELUS = ("relu", "relu6")
DEAD = ("dead_units", "dying_relu")
FLAT = ("lr_too_low", "lr_too_high", "diverging", "constant_output")
EXPLODED = ("exploding_gradient", "exploding_activation", "poor_init", "lr_too_high")

TOOLS: dict[str, tuple[Rule, ...]] = {
    "SageMaker rules": (
        Rule("DeadRelu", DEAD, lambda v: v.over(lambda x: x > 0.5, "dead_units", operations=RELUS)),
        Rule("ExplodingTensor", ("nan_or_inf",), not_finite),
        Rule("PoorWeightInitialization", ("poor_init",), weight_variances),
        Rule("SaturatedActivation", ("saturated",), saturated(0.5)),
        Rule("VanishingGradient", ("vanishing_gradient",), mean_gradient(lambda g: g < 1e-7)),
        Rule("WeightUpdateRatio, large", ("lr_too_high",), updates(lambda r: r > 10)),
        Rule(
            "WeightUpdateRatio, small",
            ("lr_too_low", "frozen_parameters"),
            updates(lambda r: r < 1e-8),
        ),
        Rule("AllZero", ("symmetric_init", "constant_output", *DEAD), lambda v: v.over(lambda z: z >= 1, "zeros")),
        Rule("LossNotDecreasing", FLAT, loss_rule(no_fall_over(10, 0.0))),
        Rule("UnchangedTensor", ("frozen_parameters", "lr_too_low"), unchanged),
    ),
    "TheDeepChecker rules": (
        Rule("dead activation", DEAD, lambda v: v.over(lambda x: x > 0.5, "dead_units", operations=RELUS)),
        Rule("saturation", ("saturated",), saturated(0.5)),
        Rule("spread of activations", ("poor_init", "exploding_activation", "rank_collapse"), spread_of_outputs),
        Rule("vanishing gradient", ("vanishing_gradient",), mean_gradient(lambda g: g < 1e-6)),
        Rule("exploding gradient", ("exploding_gradient", "exploding_activation"), mean_gradient(lambda g: g > 1e6)),
        Rule(
            "update too small",
            ("lr_too_low", "frozen_parameters"),
            updates(lambda r: r < 1e-4),
        ),
        Rule("update too large", ("lr_too_high",), updates(lambda r: r > 1e-1)),
        Rule("weights near 0", ("symmetric_init", "poor_init"), weights_near_zero),
        Rule("loss does not fall", FLAT, loss_rule(no_fall_over(5, 0.05))),
        Rule("loss rises", ("diverging", "lr_too_high"), loss_rule(rises_to(2.0))),
        Rule("not finite", ("nan_or_inf",), not_finite),
        Rule("input range", ("unscaled_input",), input_range(-5.0, 5.0)),
    ),
    "AutoTrainer rules": (
        Rule("vanishing", ("vanishing_gradient",), gradients_over_depth(lambda a, b: (a / b < 1e-3) & (a < 1e-4))),
        Rule("exploding", EXPLODED, gradients_over_depth(lambda a, b: (a / b > 70) | ~np.isfinite(a))),
        Rule("dying ReLU", DEAD, lambda v: v.over(lambda z: z > 0.7, "zeros", operations=RELUS)),
        Rule("oscillating", ("lr_too_high", "diverging"), loss_rule(oscillates)),
        Rule("slow", ("lr_too_low",), loss_rule(slow)),
        Rule("not finite", ("nan_or_inf",), not_finite),
    ),
    "rules of thumb": (
        Rule("gradient x 1e-3 over depth", ("vanishing_gradient",), gradients_over_depth(lambda a, b: a / b < 1e-3)),
        Rule(
            "gradient x 1e3 over depth",
            ("exploding_gradient", "exploding_activation", "poor_init"),
            gradients_over_depth(lambda a, b: a / b > 1e3),
        ),
        Rule("90 % zeros", DEAD, lambda v: v.over(lambda z: z > 0.9, "zeros", operations=RELUS)),
        Rule("half saturated", ("saturated", "poor_init"), saturated(0.5)),
        Rule("update over 10 %", ("lr_too_high",), updates(lambda r: r > 1e-1)),
        Rule(
            "update below 1e-6",
            ("lr_too_low", "frozen_parameters"),
            updates(lambda r: r < 1e-6),
        ),
        Rule("gates below 0.05", ("gates_shut",), gates(lambda m: m < 0.05)),
        Rule(
            "gates above 0.95",
            ("gates_open", "gate_bias_not_negative"),
            gates(lambda m: m > 0.95),
        ),
        Rule("loss doubles", ("diverging", "lr_too_high"), loss_rule(rises_to(2.0))),
        Rule("not finite", ("nan_or_inf",), not_finite),
        Rule("inputs beyond 10", ("unscaled_input",), input_range(-10.0, 10.0)),
        Rule("constant output", ("constant_output", "rank_collapse"), lambda v: v.over(lambda s: s < 1e-6, "std")),
    ),
}


def by_thresholds(tool: str, trace: Trace, losses: list[float]) -> list[Found]:
    """Return the findings of a tool's rules."""
    view = View(trace, losses)
    found = []
    for rule in TOOLS[tool]:
        sites = rule.find(view)
        if sites:
            first = min(step for _, step in sites)
            earlier = [s for s in trace.steps if s < first]
            names = tuple(name for name, _ in sorted(sites, key=lambda site: site[1]) if name)
            found.append(Found(rule.ids, names, (earlier[-1] if earlier else None, first)))
    return found
