"""Statements that prove labels, in float64. Each is a function of the evidence and raises WrongLabelError if untrue.

Thresholds are far from what a healthy run of the corpus has, and none is a rule's: the statements say what the words of
the label mean. `fault_costs` is the strongest: the same run without its fault learns clearly more.
"""

import math
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from tests.corpus.case import Proof
from tests.corpus.evidence import Evidence, matching, true
from tests.corpus.measuring import ROOT, Record, always_zero, cosine, dependence, rms

# Of the loss


def learns(share: float = 0.2) -> Proof:
    """The loss stays finite and falls by at least `share` of its first value."""

    def proof(evidence: Evidence) -> None:
        true(evidence.record.fall >= share, f"the loss falls by {evidence.record.fall:.1%}, not by {share:.0%}")

    return proof


def stuck(share: float = 0.1, *, chance: float = math.inf) -> Proof:
    """The loss ends less than `share` below its first value, or below that of guessing if this is lower."""

    def proof(evidence: Evidence) -> None:
        record = evidence.record
        reference = min(record.losses[0], chance)
        true(record.end > (1 - share) * reference, f"the loss goes from {record.losses[0]:.3g} to {record.end:.3g}")

    return proof


def fault_costs(least: float = 0.12) -> Proof:
    """Without the fault the same run learns, and ends lower: both by `least` of the first loss."""

    def proof(evidence: Evidence) -> None:
        sick, cured = evidence.record, evidence.cured
        gained = (sick.end - cured.end) / min(abs(sick.losses[0]), abs(cured.losses[0]))
        found = f"the loss goes to {sick.end:.3g} with the fault, from {cured.losses[0]:.3g} to {cured.end:.3g} without"
        true(cured.fall >= least and gained >= least, found)

    return proof


def reaches_floor(below: float) -> Proof:
    """The loss ends below a value."""

    def proof(evidence: Evidence) -> None:
        last = evidence.record.losses[-1]
        true(last < below, f"the loss ends at {last:.3g}, not below {below}")

    return proof


def rises(factor: float = 1.5) -> Proof:
    """The loss ends above `factor` times its first value, or is not finite."""

    def proof(evidence: Evidence) -> None:
        losses = evidence.record.losses
        last = losses[-1]
        true(
            not math.isfinite(last) or last > factor * abs(losses[0]),
            f"the loss goes from {losses[0]:.3g} to {last:.3g}",
        )

    return proof


def steps_raise_the_loss(share: float = 0.5, first: int = 10) -> Proof:
    """At least `share` of the first steps raise the loss of their own batch (or make it infinite)."""

    def proof(evidence: Evidence) -> None:
        pairs = list(zip(evidence.record.losses, evidence.record.after, strict=True))[:first]
        raised = sum(not after < before for before, after in pairs) / len(pairs)
        true(raised >= share, f"{raised:.0%} of the steps raise the loss of their batch")

    return proof


def steps_lower_the_loss(share: float = 0.9) -> Proof:
    """At least `share` of the steps lower the loss of their own batch."""

    def proof(evidence: Evidence) -> None:
        pairs = list(zip(evidence.record.losses, evidence.record.after, strict=True))
        lowered = sum(after < before for before, after in pairs) / len(pairs)
        true(lowered >= share, f"{lowered:.0%} of the steps lower the loss of their batch")

    return proof


# Of signals over depth


def gradient_ratio(*, below: float = math.inf, above: float = 0.0, sites: str = "*", step: int = 0) -> Proof:
    """|dL/d(output)| of the first site over that of the last is in (above, below)."""

    def proof(evidence: Evidence) -> None:
        found = evidence.record.gradients[step]
        # Gradients are captured from the last layer to the first; outputs have the order of the forward pass.
        order = [name for name in evidence.record.outputs[step] if name in found and name != ROOT]
        names = [name for name in order if fnmatchcase(name, sites)]
        true(len(names) > 1, f"no gradients at {sites}; there are {order}")
        first, last = rms(found[names[0]]), rms(found[names[-1]])
        ratio = first / last if last else math.nan
        true(above < ratio < below, f"the gradient at {names[0]} is {ratio:.3g} times that at {names[-1]}")

    return proof


def output_ratio(*, below: float = math.inf, above: float = 0.0, sites: str = "*", step: int = 0) -> Proof:
    """The size of the last output over that of the first is in (above, below)."""

    def proof(evidence: Evidence) -> None:
        found = [(n, x) for n, x in matching(evidence.record.outputs[step], sites) if n != ROOT]
        ratio = rms(found[-1][1]) / rms(found[0][1])
        true(above < ratio < below, f"the output at {found[-1][0]} is {ratio:.3g} times that at {found[0][0]}")

    return proof


def share_of_values(sites: str, test: Callable[[Tensor], Tensor], *, above: float, step: int = 0) -> Proof:
    """At every matching site, more than `above` of the values pass a test (saturation, zeros, gates)."""

    def proof(evidence: Evidence) -> None:
        for name, x in matching(evidence.record.outputs[step], sites):
            share = test(x).double().mean().item()
            true(share > above, f"{share:.0%} of the values at {name}, step {step}")

    return proof


def independent_of_input(sites: str, *, below: float = 1e-3, step: int = 0) -> Proof:
    """The output depends on the input by less than `below` of its second moment."""

    def proof(evidence: Evidence) -> None:
        for name, x in matching(evidence.record.outputs[step], sites):
            share = dependence(x)
            true(share < below, f"{share:.2g} of the second moment at {name} depends on the input")

    return proof


def depends_on_input(sites: str, *, above: float = 1e-2, step: int = 0) -> Proof:
    def proof(evidence: Evidence) -> None:
        for name, x in matching(evidence.record.outputs[step], sites):
            share = dependence(x)
            true(share > above, f"only {share:.2g} of the second moment at {name} depends on the input")

    return proof


def aligned(sites: str, *, above: float = 0.99, step: int = 0) -> Proof:
    """The representations of different inputs have a mean cosine above a value."""

    def proof(evidence: Evidence) -> None:
        for name, x in matching(evidence.record.outputs[step], sites):
            found = cosine(x)
            true(found > above, f"the mean cosine at {name} is {found:.3f}")

    return proof


# Of units and parameters


def dead(sites: str, *, share: float, steps: slice = slice(None), most: float = 1.0) -> Proof:
    """Between `share` and `most` of the units are zero for all samples of the steps."""

    def proof(evidence: Evidence) -> None:
        for name, _ in matching(evidence.record.outputs[0], sites):
            found = always_zero([outputs[name] for outputs in evidence.record.outputs[steps]]).double().mean().item()
            true(share <= found <= most, f"{found:.0%} of the units of {name} are dead")

    return proof


def alive(sites: str, *, most: float = 0.1, steps: slice = slice(None)) -> Proof:
    return dead(sites, share=0.0, steps=steps, most=most)


def identical_units(weights: str) -> Proof:
    """All units of a layer have the same weights, before and after training."""

    def proof(evidence: Evidence) -> None:
        for weight in (evidence.record.weights[0], evidence.record.weights[-1]):
            for name, w in matching(weight, weights):
                spread = (w - w[:1]).abs().max().item()
                true(spread <= 1e-12 * max(1.0, w.abs().max().item()), f"the units of {name} differ by {spread:.2g}")

    return proof


def unchanged(*parameters: str) -> Proof:
    """These parameters are bit for bit what they were, and at least one other has changed."""

    def proof(evidence: Evidence) -> None:
        first, last = evidence.record.weights[0], evidence.record.weights[-1]
        same = {name for name in first if torch.equal(first[name], last[name])}
        for pattern in parameters:
            for name, _ in matching(first, pattern):
                true(name in same, f"{name} has changed")
        others = [n for n in first if not any(fnmatchcase(n, p) for p in parameters)]
        true(not others or any(n not in same for n in others), "no parameter has changed")

    return proof


def changes(*parameters: str) -> Proof:
    def proof(evidence: Evidence) -> None:
        first, last = evidence.record.weights[0], evidence.record.weights[-1]
        for pattern in parameters:
            for name, w in matching(first, pattern):
                true(not torch.equal(w, last[name]), f"{name} has not changed")

    return proof


def first_update(*, above: float, weights: str = "*weight") -> Proof:
    """The first step changes at least one of the weights by more than `above` of its norm."""

    def proof(evidence: Evidence) -> None:
        old, new = evidence.record.weights[0], evidence.record.weights[1]
        ratio = max(((new[n] - w).norm() / w.norm()).item() for n, w in matching(old, weights) if w.norm() > 0)
        true(ratio > above, f"the largest first update is {ratio:.2g} of the norm")

    return proof


def accumulates(head: str) -> Proof:
    """The gradient of the bias of a linear head is that of the batch plus that of the step before."""

    def proof(evidence: Evidence) -> None:
        record = evidence.record
        for step in range(1, len(record.losses)):
            fresh = record.gradients[step][head].flatten(0, -2).sum(0)
            now, before = (record.weight_gradients[s][f"{head}.bias"] for s in (step, step - 1))
            true(now is not None and before is not None, f"{head} has no gradient")
            error = (now - before - fresh).norm() / now.norm()  # type: ignore[operator, union-attr]
            true(error.item() < 1e-9, f"at step {step} the gradient is not the sum ({error:.2g})")

    return proof


def fresh_gradients(head: str) -> Proof:
    def proof(evidence: Evidence) -> None:
        for gradients, weights in zip(evidence.record.gradients, evidence.record.weight_gradients, strict=True):
            fresh, now = gradients[head].flatten(0, -2).sum(0), weights[f"{head}.bias"]
            true(
                now is not None and torch.allclose(now, fresh, atol=1e-12), f"the gradient of {head} is not the batch's"
            )

    return proof


# Of the whole


def non_finite(step: int, *, sites: str | None = None) -> Proof:
    """The loss, an output, a gradient or a parameter is first not finite at a step; a matching site is, then."""

    def bad(evidence: Evidence, at: int) -> list[str]:
        record = evidence.record
        found = [n for n, x in record.outputs[at].items() if not x.isfinite().all()]
        found += [n for n, x in record.gradients[at].items() if not x.isfinite().all()]
        found += [n for n, x in record.weight_gradients[at].items() if x is not None and not x.isfinite().all()]
        return found + (["loss"] if not math.isfinite(record.losses[at]) else [])

    def proof(evidence: Evidence) -> None:
        for earlier in range(step):
            true(not bad(evidence, earlier), f"not finite at step {earlier}: {bad(evidence, earlier)}")
        found = bad(evidence, step)
        true(bool(found), f"all is finite at step {step}")
        true(sites is None or any(fnmatchcase(n, sites) for n in found), f"not finite: {found}")

    return proof


def probabilities_before_softmax(classes: int) -> Proof:
    """The model returns probabilities, and no loss is below the floor of cross-entropy with a second softmax."""

    def proof(evidence: Evidence) -> None:
        floor = math.log(math.e + classes - 1) - 1
        for outputs, loss in zip(evidence.record.outputs, evidence.record.losses, strict=True):
            x = outputs[ROOT]
            true(bool((x >= 0).all() and (x.sum(-1) - 1).abs().max() < 1e-9), "the outputs are not probabilities")
            true(loss > floor, f"the loss {loss:.4g} is below the floor {floor:.4g}")

    return proof


def sizes(name: str, of: Callable[[Record], float], *, above: float = -math.inf, below: float = math.inf) -> Proof:
    """A number of the record is in (above, below)."""

    def proof(evidence: Evidence) -> None:
        value = of(evidence.record)
        true(above < value < below, f"{name} is {value:.3g}, not in ({above:.3g}, {below:.3g})")

    return proof


def inputs(*, deviation_above: float) -> Proof:
    """The inputs are far from standardised: the root mean square is above a value."""

    def proof(evidence: Evidence) -> None:
        batches: Sequence[tuple[Tensor, Tensor]] = evidence.case.training(evidence.seed, torch.float64).batches
        found = rms(batches[0][0])
        true(found > deviation_above, f"the inputs have a root mean square of {found:.3g}")

    return proof
