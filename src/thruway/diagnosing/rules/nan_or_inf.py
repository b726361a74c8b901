"""NaN and infinite values: the first operation that produced one, and the step before it."""

import math
from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.bad_values import Origin, origin_of, place_in_words
from thruway.diagnosing.rules.loss_graph import other_layers
from thruway.diagnosing.rules.loss_history import loss_history
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.wording import join_names, number, output_text
from thruway.watching.sites import Kind, Site
from thruway.watching.trace.steps import BadValue

__all__ = ["NAN_OR_INF"]

_COUNTED: tuple[Kind, ...] = ("input", "parameter", "output", "gradient", "parameter_gradient", "update")


def find_nan_or_inf(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if values are NaN or infinite, and training suffers from it.

    Infinities that a later operation removes, such as those of an attention mask, and gradients of a step that a loss
    scaler skipped are no findings.
    """
    bad = reading.trace.first_bad
    failed = _failed_loss(reading)
    if bad is None and failed is None:
        return
    if failed is not None and (
        bad is None or failed < _place(reading, bad.step) or _is_after_loss(reading, bad, failed)
    ):
        yield _in_the_loss(reading, failed)
    elif bad is not None and _matters(reading, bad):
        yield _at_a_site(reading, bad)


def _place(reading: Reading, step: int) -> int:
    return int(np.searchsorted(reading.steps, step))


def _failed_loss(reading: Reading) -> int | None:
    """Return the position in the steps of the first loss that is not finite, or None."""
    history = reading.derived(loss_history)
    if history is None or history.failed_at is None:
        return None
    return int(history.places[history.failed_at])


def _is_after_loss(reading: Reading, bad: BadValue, failed: int) -> bool:
    """Return True if the first bad value was caused by the loss: a gradient or an update of the same step."""
    return bad.site.kind not in ("input", "parameter", "output") and _place(reading, bad.step) == failed


def _matters(reading: Reading, bad: BadValue) -> bool:
    """Return True if values are bad up to the end, or a NaN or a bad loss or parameter was seen."""
    place = _place(reading, bad.step)
    if place >= len(reading.steps):  # the step was dropped to save memory
        return True
    after = slice(place, None)
    for kind in _COUNTED:
        for quantity in ("nan", "inf"):
            counted = reading.values(quantity, kind)
            if counted is None:
                continue
            values = counted.values[:, after]
            if kind in ("input", "parameter", "update") and np.nansum(values) > 0:
                return True
            if kind == "output" and quantity == "nan" and np.nansum(values) > 0:
                return True
            if kind in ("gradient", "parameter_gradient") and np.nansum(values[:, -1:]) > 0:
                return place == len(reading.steps) - 1 or bool(np.nansum(values[:, -2:-1]) > 0)
    return False


def _before(reading: Reading, site: Site, step: int) -> tuple[int | None, float]:
    """Return the last step before, and the largest magnitude known of the site at that step: |mean| + 2 std."""
    place = min(_place(reading, step), len(reading.steps)) - 1
    if place < 0:
        return None, float("nan")
    mean, std = (
        None if v is None else v.of(site.name)
        for v in (reading.values("mean", site.kind), reading.values("std", site.kind))
    )
    size = float("nan") if mean is None or std is None else float(abs(mean[place]) + 2.0 * std[place])
    return int(reading.steps[place]), size


def _at_a_site(reading: Reading, bad: BadValue) -> Finding:
    site = bad.site
    what = " and ".join(f"{n:,} {word}" for word, n in (("NaN", bad.nan), ("infinite values", bad.inf)) if n)
    before, size = _before(reading, site, bad.step)
    origin = origin_of(reading, bad, size)
    history = "" if before is None else f" At step {before} it was finite{_of_size(size)}."
    return Finding(
        "nan_or_inf",
        f"The first bad values ({what}) are at step {bad.step} in {origin.place}.{history}",
        (site.name,) if site.name else (),
        since=(before, bad.step),
        evidence=(
            Evidence(
                "nan" if bad.nan else "inf",
                site.name,
                bad.step,
                float(bad.nan or bad.inf),
                f"{what} in {place_in_words(site)} at step {bad.step}",
                "threshold",
                0.0,
                0.0,
            ),
            Evidence(
                "rms", site.name, before, size if number(size) in origin.theory else math.nan, origin.theory, "theory"
            ),
            Evidence("nan", site.name, bad.step, float(bad.nan), origin.ruled_out, "ruled out"),
        ),
        cures=origin.cures,
        span=None if not site.name else (site.name, site.name),
        confidence=0.95,
    )


def _of_size(size: float) -> str:
    return f", of size {number(size)}" if np.isfinite(size) else ""


def _in_the_loss(reading: Reading, place: int) -> Finding:
    step = int(reading.steps[place])
    before = int(reading.steps[place - 1]) if place else None
    assert reading.loss is not None
    value = float(reading.loss[place])
    origin = _origin_of_loss(reading)
    return Finding(
        "nan_or_inf",
        f"The loss is {number(value)} at step {step}, although all outputs of the model are finite: the first bad "
        f"value comes from {origin.place}.",
        (),
        since=(before, step),
        evidence=(
            Evidence("loss", "", step, value, f"the loss is {number(value)} at step {step}", "threshold"),
            Evidence("nan", "", step, math.nan, origin.theory, "theory"),
            Evidence("nan", "", step, 0.0, origin.ruled_out, "ruled out"),
        ),
        cures=origin.cures,
        confidence=0.9,
    )


def _origin_of_loss(reading: Reading) -> Origin:
    """Return the origin of a loss that is bad although the outputs are finite."""
    nodes = reading.trace.loss_graph
    takes_log = any(node.operation.startswith("LogBackward") for node in nodes)
    ruled_out = "not an operation of the model: its outputs are finite at this step"
    layers = other_layers(nodes)
    if layers:
        kinds = join_names([f"{n.operation.partition('Backward')[0]} {n.shape}" for n in (layers[0], layers[-1])])
        outputs = join_names(
            list(dict.fromkeys(output_text(n.site) for n in nodes if n.site and math.prod(n.shape) > 1))
        )
        own_log = ", or from the logarithm in the loss after it" if takes_log else ""
        return Origin(
            f"the other network that computes the loss from {outputs or 'them'} ({len(layers)} "
            f"layer{'' if len(layers) == 1 else 's'}, results {kinds}){own_log}. Its parameters are not watched",
            "layers of finite inputs give NaN if their parameters are NaN, as after a bad step of their own optimizer",
            ruled_out,
            (ADVICE["watch_other"], *((ADVICE["epsilon"],) if takes_log else ())),
        )
    source = "its logarithm of a probability that is 0" if takes_log else "such as the logarithm of a probability of 0"
    return Origin(
        f"the loss function, {source}",
        "of finite outputs, a loss is infinite or NaN only by its own operations: log(0), 0/0, or an overflow. "
        "Sigmoid and softmax return exactly 0 or 1 for large inputs",
        ruled_out,
        (ADVICE["loss_on_logits"], ADVICE["epsilon"], CURES["logits"]),
    )


NAN_OR_INF = Rule(
    "nan_or_inf",
    find_nan_or_inf,
    needs=(("nan", "output"),),
    explains=frozenset(
        [
            "diverging",
            "lr_too_high",
            "dead_units",
            "dying_relu",
            "saturated",
            "constant_output",
            "rank_collapse",
            "exploding_gradient",
            "exploding_activation",
            "vanishing_gradient",
            "gates_shut",
            "gates_open",
            "frozen_parameters",
        ]
    ),
    advice='Include "nan" and "inf" in quantities.',
)
