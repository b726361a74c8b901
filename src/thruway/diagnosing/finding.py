"""Findings of a diagnosis: symptom, sites, onset, evidence, cause and cures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["SYMPTOMS", "Cure", "Evidence", "Finding", "finite_or_none"]

Role = Literal["threshold", "theory", "ruled out", "context"]

# Stable identifiers of the symptoms. They are never renamed or reused; new ones are added at the end.
SYMPTOMS: Mapping[str, str] = {
    "vanishing_gradient": "the gradient vanishes on its way to the first layers",
    "exploding_gradient": "the gradient explodes on its way to the first layers",
    "exploding_activation": "the activations grow from layer to layer",
    "poor_init": "the initial weights have the wrong scale for this depth and activation",
    "saturated": "activations lie on the flat part of their function",
    "dead_units": "units are zero for every input",
    "dying_relu": "more and more units become zero for every input",
    "symmetric_init": "the units of a layer are copies of each other",
    "frozen_parameters": "parameters do not change",
    "nan_or_inf": "values are NaN or infinite",
    "lr_too_high": "the learning rate is too high",
    "lr_too_low": "the learning rate is too low",
    "rank_collapse": "a layer gives nearly the same output for every input",
    "gates_shut": "transform gates are shut",
    "gates_open": "transform gates are wide open",
    "gradients_accumulate": "gradients of earlier steps are added to those of the current step",
    "double_softmax": "softmax is applied twice, or over a single unit",
    "constant_output": "the output does not depend on the input",
    "unscaled_input": "the inputs are not scaled",
    "gate_bias_not_negative": "transform gates of a deep network start open",
    "diverging": "the loss grows",
}


@dataclass(frozen=True)
class Evidence:
    """One number that supports a finding.

    Attributes:
        quantity: name of the quantity, as in `Trace.series`, or of a number derived from several.
        site: name of the site; "" for the whole network.
        step: step at which the number was read; None if it belongs to no single step.
        value: the measured number.
        text: the statement in one sentence.
        role: "threshold" (the number that is over its limit), "theory" (the number expected at this depth and
            activation), "ruled out" (a harmless explanation that was tested and does not hold) or "context".
        expected: value expected in a healthy network, if there is one.
        threshold: limit that the value exceeds, if there is one.
    """

    quantity: str
    site: str
    step: int | None
    value: float
    text: str
    role: Role = "context"
    expected: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Cure:
    """A suggested change.

    Attributes:
        name: key of `CURES` if `prescribe` can try it; otherwise a short name.
        text: the change in one sentence.
        source: publication or documentation that recommends it.
    """

    name: str
    text: str
    source: str = ""


@dataclass(frozen=True)
class Finding:
    """One symptom, with its evidence, cause and possible cures.

    Attributes:
        rule: key of SYMPTOMS, or the name of a rule of your own.
        cause: the cause in one or two sentences.
        sites: names of the affected modules or parameters, worst first; empty if the whole network is affected.
        since: (last recorded step without the symptom or None, first step with it).
        evidence: numbers, the decisive one first.
        cures: suggested changes, the most promising first.
        span: first and last affected site in the order of the forward pass.
        until: last step with the symptom, or None if it lasts to the end of the trace.
        end: "low" or "high": the end of the activation function at which units saturate.
        margin: factor by which the decisive number exceeds its threshold, at least 1.
        confidence: from 0 to 1.
        effects: findings that follow from this one.
    """

    rule: str
    cause: str
    sites: tuple[str, ...] = ()
    since: tuple[int | None, int] = field(kw_only=True)
    evidence: tuple[Evidence, ...] = ()
    cures: tuple[Cure, ...] = ()
    span: tuple[str, str] | None = None
    until: int | None = None
    end: Literal["low", "high"] | None = None
    margin: float = 1.0
    confidence: float = 0.9
    effects: tuple["Finding", ...] = ()

    @property
    def symptom(self) -> str:
        """The symptom in words.

        >>> Finding("diverging", "The loss rises.", since=(10, 11)).symptom
        'the loss grows'
        """
        return SYMPTOMS.get(self.rule, self.rule.replace("_", " "))

    @property
    def onset(self) -> int:
        """The first recorded step with the symptom."""
        return self.since[1]

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as a dictionary of JSON values; numbers that are not finite become None."""
        return {
            "rule": self.rule,
            "symptom": self.symptom,
            "cause": self.cause,
            "sites": list(self.sites),
            "span": None if self.span is None else list(self.span),
            "since": list(self.since),
            "until": self.until,
            "end": self.end,
            "margin": finite_or_none(self.margin),
            "confidence": finite_or_none(self.confidence),
            "evidence": [
                {
                    "role": e.role,
                    "quantity": e.quantity,
                    "site": e.site,
                    "step": e.step,
                    "value": finite_or_none(e.value),
                    "expected": finite_or_none(e.expected),
                    "threshold": finite_or_none(e.threshold),
                    "text": e.text,
                }
                for e in self.evidence
            ],
            "cures": [{"name": c.name, "text": c.text, "source": c.source} for c in self.cures],
            "effects": [effect.to_dict() for effect in self.effects],
        }


def finite_or_none(value: float | None) -> float | None:
    """Return a number for JSON, which has no NaN and no infinity: None for these."""
    return None if value is None or not abs(value) < float("inf") else float(value)
