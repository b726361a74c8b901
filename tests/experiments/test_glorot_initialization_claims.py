"""The claims on rows made up by hand, as in the paper and otherwise."""

import math

import pytest

from thruway.experiments.glorot2010.initialization import predict, sampling_error
from thruway.experiments.glorot2010.initialization_claims import (
    START_CLAIMS,
    TRAINING_CLAIMS,
    factor_per_layer,
    mean_stretch,
    spreads,
)
from thruway.experiments.machinery import judge

START = {claim.id: claim for claim in START_CLAIMS}
TRAINING = {claim.id: claim for claim in TRAINING_CLAIMS}
WIDTH = 100


def start_rows(change=lambda row: {}):
    """Nets of five layers that do exactly as the equations say."""
    rows = []
    for shape, widths in (("equal", [WIDTH] * 6), ("growing", [100, 100, 120, 150, 180, 220])):
        for scheme, stretch in (("standard", 0.5), ("normalized", 0.8)):
            for activation in ("tanh", "linear"):
                for layer, p in enumerate(predict(widths, scheme, 1.0, 1.0, 1.0), start=1):
                    row = {
                        "seed": 0,
                        "shape": shape,
                        "scheme": scheme,
                        "activation": activation,
                        "layer": layer,
                        "width": widths[layer],
                        "activation_variance": p.activation,
                        "activation_predicted": p.activation,
                        "gradient_variance": p.gradient,
                        "gradient_predicted": p.gradient,
                        "weight_gradient_variance": p.weight_gradient,
                        "single_weight_gradient_variance": p.weight_gradient,
                        "single_weight_gradient_predicted": p.weight_gradient,
                        "singular_value": stretch if layer > 1 else 9.0,
                    }
                    rows.append(row | change(row))
    return rows


def training_rows(standard, normalized):
    """Two layers: the upper's std is 1, the lower's as given for each tenth."""
    rows = []
    for scheme, lower in (("standard", standard), ("normalized", normalized)):
        rows += [
            {"seed": 0, "scheme": scheme, "layer": 1, "std_by_tenth": lower},
            {"seed": 0, "scheme": scheme, "layer": 2, "std_by_tenth": [1.0] * len(lower)},
        ]
    return rows


def test_networks_that_obey_the_equations_meet_every_claim_before_training():
    verdicts = {claim.id: judge(claim, start_rows()) for claim in START_CLAIMS}
    assert {name for name, verdict in verdicts.items() if verdict.verdict == "holds"} == set(START)
    assert verdicts["gradients-shrink-downwards"].value == pytest.approx([1 / 3], rel=1e-12)
    assert verdicts["activations-shrink-upwards"].value == pytest.approx([math.sqrt(1 / 3)], rel=1e-12)
    assert verdicts["weight-gradients-level"].value == pytest.approx([1.0], rel=1e-12)
    # Of the growing net: 5 layers, factors n_i / (3 n_{i-1}) against 2 n_i / (n_{i-1} + n_i)
    falls = [n / (3 * below) for below, n in ((100, 120), (120, 150), (150, 180), (180, 220))]
    rises = [2 * n / (below + n) for below, n in ((100, 120), (120, 150), (150, 180), (180, 220))]
    assert verdicts["tapered-nets-too"].value == pytest.approx([math.prod(rises) * math.prod(falls)], rel=1e-12)


def swapped(row):
    """Exchange the two initializations."""
    return {"scheme": {"standard": "normalized", "normalized": "standard"}[row["scheme"]]}


@pytest.mark.parametrize(
    "claim",
    [
        "activations-shrink-upwards",
        "activations-level",
        "gradients-shrink-downwards",
        "gradients-level",
        "stretch-standard",
        "stretch-normalized",
        "tapered-nets-too",
    ],
)
def test_exchanged_initializations_fail(claim):
    assert judge(START[claim], start_rows(swapped)).verdict == "fails"


def test_one_layer_apart_fails_where_it_is_claimed_to_be_level():
    def change(row):
        return {"weight_gradient_variance": 5 * row["weight_gradient_variance"]} if row["layer"] == 3 else {}

    verdict = judge(START["weight-gradients-level"], start_rows(change))
    assert (verdict.verdict, verdict.value) == ("fails", pytest.approx([math.sqrt(5)]))


@pytest.mark.parametrize(
    ("name", "layer", "maps"),
    [
        ("activation", 5, 5),
        ("gradient", 2, 3),
        ("gradient", 4, -1),
        ("single_weight_gradient", 1, 4),
        ("single_weight_gradient", 5, 4),
    ],
)
def test_a_linear_net_off_by_more_than_chance_fails(name, layer, maps):
    """Either way: a negative number of maps says that the variance is too small."""

    def off(errors):
        def change(row):
            hit = (row["layer"], row["activation"], row["scheme"], row["shape"]) == (
                layer,
                "linear",
                "standard",
                "equal",
            )
            factor = 1 + math.copysign(errors, maps) * sampling_error(abs(maps), WIDTH)
            return {f"{name}_variance": factor * row[f"{name}_variance"]} if hit else {}

        return judge(START["equations-exact-when-linear"], start_rows(change))

    assert off(4.9).verdict == "holds"
    assert off(4.9).value == pytest.approx([4.9])
    assert off(5.1).verdict == "fails"


@pytest.mark.parametrize("factor", [2.1, 1 / 2.1])
def test_tanh_nets_that_leave_the_equations_fail_either_way(factor):
    def change(row):
        return {"gradient_variance": factor * row["gradient_variance"]} if row["layer"] == 1 else {}

    assert judge(START["equations-describe-tanh"], start_rows(change)).value == pytest.approx([2.1])
    assert judge(START["equations-describe-tanh"], start_rows(change)).verdict == "fails"


def test_the_first_layer_does_not_count_as_it_is_not_square():
    assert mean_stretch(start_rows(), "standard") == 0.5
    assert math.isnan(mean_stretch([], "standard"))


def test_a_gradient_of_zero_gives_nan():
    rows = start_rows(lambda row: {"gradient_variance": 0.0})
    assert math.isnan(factor_per_layer(rows, "standard", "gradient_variance", upwards=False))
    assert judge(START["gradients-shrink-downwards"], rows).verdict == "unclear"


def test_training_as_in_the_paper_meets_its_claims():
    rows = training_rows([1.0, 1.2, 4.0, 3.0], [1.1, 1.2, 1.1, 1.0])
    assert spreads(rows, "standard") == [1.0, 1.2, 4.0, 3.0]
    values = {name: judge(claim, rows) for name, claim in TRAINING.items()}
    assert {name: v.verdict for name, v in values.items()} == dict.fromkeys(TRAINING, "holds")
    assert values["standard-diverges"].value == [4.0]
    assert values["lower-layers-larger"].value == [4.0]
    assert values["normalized-together"].value == pytest.approx([1.2 / 4.0])


def test_upper_layers_that_grow_are_not_lower_ones():
    verdict = judge(TRAINING["lower-layers-larger"], training_rows([1.0, 0.25], [1.0, 1.0]))
    assert (verdict.verdict, verdict.value) == ("fails", [0.25])


def test_nets_that_stay_together_do_not_diverge():
    rows = training_rows([2.0, 2.2], [1.0, 3.0])
    assert judge(TRAINING["standard-diverges"], rows).verdict == "fails"
    assert judge(TRAINING["normalized-together"], rows).verdict == "fails"


@pytest.mark.parametrize("claim", TRAINING_CLAIMS, ids=lambda claim: claim.id)
def test_without_rows_the_statistic_is_nan(claim):
    assert math.isnan(claim.measure([]))
