"""Every statement of `proofs` holds where it is true and fails where it is not: on records with known numbers, and on
runs of the corpus whose fault has been removed."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.corpus import CASES
from tests.corpus import proofs as p
from tests.corpus.case import Proof, WrongLabelError
from tests.corpus.evidence import prove
from tests.corpus.measuring import ROOT, Record, always_zero, cosine, dependence, measure


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def of(**fields) -> SimpleNamespace:
    """Evidence with a record of one step, and the same record as its cure unless there is another."""
    cured = fields.pop("cured", None)
    record = Record(**{"losses": [1.0], "after": [0.5]} | fields)
    return SimpleNamespace(record=record, cured=record if cured is None else Record(losses=cured))


def losses(*values: float, after: list[float] | None = None, cured: list[float] | None = None) -> SimpleNamespace:
    return of(losses=list(values), after=after or [0.0] * len(values), cured=cured)


def outputs(*steps: dict[str, Tensor]) -> SimpleNamespace:
    return of(outputs=list(steps), gradients=list(steps), losses=[2.0] * len(steps))


def weights(first: dict[str, Tensor], last: dict[str, Tensor]) -> SimpleNamespace:
    return of(weights=[first, last])


def gradients(first: float, second: float) -> SimpleNamespace:
    """Two steps with a batch's gradient of 1 at the head, and what the optimizer got."""
    steps = [{"head": t(0.25, 0.75)[:, None]}] * 2
    return of(losses=[1.0, 1.0], gradients=steps, weight_gradients=[{"head.bias": t(first)}, {"head.bias": t(second)}])


ONE = torch.ones(600, 2, dtype=torch.float64)
VARIED = torch.arange(1200, dtype=torch.float64).view(600, 2)
HALF_DEAD = torch.stack([ONE[:, 0], 0 * ONE[:, 0]], 1)
PROBABILITIES = torch.full((4, 10), 0.1, dtype=torch.float64)

# A statement, evidence for which it is true, and evidence for which it is not.
STATEMENTS: list[tuple[str, Proof, SimpleNamespace, SimpleNamespace]] = [
    ("learns", p.learns(0.2), losses(1.0, 0.7), losses(1.0, 0.9)),
    ("learns, not finite", p.learns(0.2), losses(1.0, 0.7), losses(1.0, math.nan)),
    ("learns, not finite on the way", p.learns(0.2), losses(1.0, 0.7), losses(1.0, math.inf, 0.1)),
    ("stuck", p.stuck(0.1), losses(1.0, 0.95), losses(1.0, 0.8)),
    ("stuck at chance", p.stuck(0.1, chance=0.5), losses(9.0, 0.5), losses(9.0, 0.3)),
    ("the fault costs", p.fault_costs(0.12), losses(1.0, 0.9, cured=[1.0, 0.5]), losses(1.0, 0.5, cured=[1.0, 0.5])),
    (
        "the cure fails too",
        p.fault_costs(0.12),
        losses(1.0, math.nan, cured=[1.0, 0.5]),
        losses(1.0, 1.0, cured=[1.0, 1.0]),
    ),
    ("floor", p.reaches_floor(0.1), losses(1.0, 0.05), losses(1.0, 0.2)),
    ("rises", p.rises(1.5), losses(1.0, 1.6), losses(1.0, 1.4)),
    ("rises to infinity", p.rises(1.5), losses(1.0, math.nan), losses(1.0, 1.4)),
    (
        "steps raise",
        p.steps_raise_the_loss(0.5),
        losses(1.0, 1.0, after=[2.0, 0.5]),
        losses(1.0, 1.0, after=[0.9, 0.5]),
    ),
    (
        "steps lower",
        p.steps_lower_the_loss(0.9),
        losses(1.0, 1.0, after=[0.9, 0.5]),
        losses(1.0, 1.0, after=[2.0, 0.5]),
    ),
    (
        "gradients vanish",
        p.gradient_ratio(below=0.1),
        outputs({"a": t(0.01), "b": t(1.0)}),
        outputs({"a": t(1.0), "b": t(1.0)}),
    ),
    (
        "gradients explode",
        p.gradient_ratio(above=9),
        outputs({"a": t(10.0), "b": t(1.0)}),
        outputs({"a": t(1.0), "b": t(1.0)}),
    ),
    (
        "outputs grow",
        p.output_ratio(above=9),
        outputs({"a": t(1.0), "b": t(-10.0)}),
        outputs({"a": t(1.0), "b": t(1.0)}),
    ),
    (
        "values",
        p.share_of_values("a", lambda x: x > 0, above=0.6),
        outputs({"a": t(1, 1, -1)}),
        outputs({"a": t(1, -1)}),
    ),
    ("independent", p.independent_of_input("a"), outputs({"a": ONE}), outputs({"a": VARIED})),
    ("dependent", p.depends_on_input("a"), outputs({"a": VARIED}), outputs({"a": ONE})),
    ("aligned", p.aligned("a"), outputs({"a": ONE}), outputs({"a": t(1, 0, 0, 1).view(2, 2)})),
    ("dead", p.dead("a", share=0.5), outputs({"a": HALF_DEAD}), outputs({"a": ONE})),
    ("dead, later alive", p.dead("a", share=0.5), outputs({"a": HALF_DEAD}), outputs({"a": HALF_DEAD}, {"a": ONE})),
    ("alive", p.alive("a"), outputs({"a": HALF_DEAD}, {"a": ONE}), outputs({"a": HALF_DEAD})),
    ("identical", p.identical_units("w"), weights({"w": ONE}, {"w": 2 * ONE}), weights({"w": ONE}, {"w": VARIED})),
    (
        "unchanged",
        p.unchanged("w"),
        weights({"w": ONE, "v": ONE}, {"w": ONE, "v": VARIED}),
        weights({"w": ONE}, {"w": 2 * ONE}),
    ),
    (
        "all unchanged",
        p.unchanged("w"),
        weights({"w": ONE}, {"w": ONE}),
        weights({"w": ONE, "v": ONE}, {"w": ONE, "v": ONE}),
    ),
    ("changes", p.changes("w"), weights({"w": ONE}, {"w": 2 * ONE}), weights({"w": ONE}, {"w": ONE})),
    (
        "first update",
        p.first_update(above=0.5, weights="w"),
        weights({"w": ONE}, {"w": 2 * ONE}),
        weights({"w": ONE}, {"w": 1.1 * ONE}),
    ),
    ("accumulates", p.accumulates("head"), gradients(1.0, 2.0), gradients(1.0, 1.0)),
    ("fresh", p.fresh_gradients("head"), gradients(1.0, 1.0), gradients(1.0, 2.0)),
    (
        "probabilities",
        p.probabilities_before_softmax(10),
        outputs({ROOT: PROBABILITIES}),
        outputs({ROOT: 2 * PROBABILITIES}),
    ),
    ("a number", p.sizes("the loss", lambda r: r.losses[0], above=0.5), losses(1.0), losses(0.4)),
]


@pytest.mark.parametrize(("statement", "right", "wrong"), [s[1:] for s in STATEMENTS], ids=[s[0] for s in STATEMENTS])
def test_a_statement_holds_where_it_is_true_only(
    statement: Proof, right: SimpleNamespace, wrong: SimpleNamespace
) -> None:
    statement(right)
    with pytest.raises(WrongLabelError):
        statement(wrong)


def test_not_finite_is_exact_about_the_step() -> None:
    finite = {"a": t(1.0)}
    evidence = of(
        losses=[1.0, 1.0, math.nan],
        outputs=[finite, finite, {"a": t(math.inf)}],
        gradients=[finite] * 3,
        weight_gradients=[finite] * 3,
    )
    p.non_finite(2, sites="a")(evidence)
    for wrong in (p.non_finite(1), p.non_finite(2, sites="b")):
        with pytest.raises(WrongLabelError):
            wrong(evidence)
    evidence.record.gradients[1] = {"a": t(math.nan)}
    with pytest.raises(WrongLabelError, match="not finite at step 1"):
        p.non_finite(2)(evidence)


def test_pattern_without_a_site_is_an_error() -> None:
    with pytest.raises(WrongLabelError, match="no site matches z"):
        p.independent_of_input("z")(outputs({"a": ONE}))


def test_numbers_of_a_tensor() -> None:
    x = t(1, 2, 3, 2).view(2, 2)  # mean (2, 2), second moment (5 + 13) / 2
    assert dependence(x) == pytest.approx(1 - 8 / 9, rel=1e-12)
    assert cosine(x) == pytest.approx((3 + 4) / (5 * 13) ** 0.5, rel=1e-12)
    assert always_zero([HALF_DEAD]).tolist() == [False, True]
    images = torch.zeros(8, 2, 8, 8)
    images[3, 1, 2, 2] = 1
    assert always_zero([images]).tolist() == [True, False]
    with pytest.raises(AssertionError, match="too few"):
        always_zero([HALF_DEAD[:100]])


def test_gradients_are_those_of_autograd() -> None:
    """The first step of a case, compared with gradients that autograd returns for the outputs of the layers."""
    case = CASES["mlp_relu"]
    record = measure(case, 0, steps=1)
    training = case.training(0, torch.float64)
    x, states = training.batches[0][0], {}
    for name, module in training.model.named_children():
        x = states[name] = module(x)
    loss = torch.nn.functional.cross_entropy(x, training.batches[0][1])
    expected = torch.autograd.grad(loss, list(states.values()))
    assert record.losses == [loss.item()]
    for (name, state), gradient in zip(states.items(), expected, strict=True):
        assert torch.equal(record.outputs[0][name], state)
        torch.testing.assert_close(record.gradients[0][name], gradient, rtol=1e-12, atol=0)


CURABLE = [name for name, case in CASES.items() if case.cure]


@pytest.mark.parametrize("name", CURABLE[::6])
def test_no_label_is_true_without_its_fault(name: str) -> None:
    """The proof of the label fails on the cured run. By hand, all of CURABLE were tested."""
    with pytest.raises(WrongLabelError):
        prove(CASES[name].cured(), seed=0)
