"""The claims of veit2016 on rows written by hand, of known statistic: once as in the paper, once not."""

import math

import pytest

from thruway.experiments.machinery import judge
from thruway.experiments.veit2016 import effective_paths, lesion, path_survival, paths, stochastic_depth
from thruway.experiments.veit2016.deletions import damage
from thruway.experiments.veit2016.paths import decay

# 18 modules: the paper's 10 and 20 of 54 are 3 and 7 here.
LESION = {claim.id: claim for claim in lesion.claims(lesion.Config(modules=6))}
PATHS = {claim.id: claim for claim in paths.claims(paths.Config(modules=3))}
SURVIVAL = {claim.id: claim for claim in path_survival.claims(path_survival.Config(modules=6))}
OTHERS = {claim.id: claim for claim in (*effective_paths.CLAIMS, *stochastic_depth.CLAIMS)}
ALL = {**LESION, **PATHS, **SURVIVAL, **OTHERS}


def check(claim, rows, value, verdict):
    judged = judge(ALL[claim], rows)
    assert judged.value == pytest.approx([value], rel=1e-12, abs=1e-12)
    assert judged.verdict == verdict


def lesioned(what, errors, net="resnet", **columns):
    """One row per error; intact 0.1 and guessing 0.9, so that the damage is (error - 0.1) / 0.8."""
    base = {"what": what, "net": net, "seed": 0, "intact": 0.1, "guessing": 0.9}
    return [
        {**base, "error": error, **{name: values[at] for name, values in columns.items()}}
        for at, error in enumerate(errors)
    ]


@pytest.mark.parametrize("intact", [0.5, 0.9, 0.95])
def test_damage_of_a_net_without_skill_is_nan(intact):
    assert math.isnan(damage({"error": 0.9, "intact": intact, "guessing": 0.9}))


# --- lesion


@pytest.mark.parametrize(
    ("claim", "errors", "resizes", "value", "verdict"),
    [
        ("one-module-is-spared", [0.1, 0.116, 0.5, 0.9], [False, False, False, True], 0.02, "holds"),
        ("one-module-is-spared", [0.1, 0.3, 0.5, 0.1], [False, False, False, True], 0.25, "fails"),
        ("resizing-modules-matter", [0.1, 0.14, 0.26, 0.18], [False, False, True, True], 0.125, "holds"),
        ("resizing-modules-matter", [0.18, 0.26, 0.1, 0.14], [False, False, True, True], -0.125, "fails"),
    ],
)
def test_single_modules(claim, errors, resizes, value, verdict):
    check(claim, lesioned("delete_one", errors, resizes=resizes, index=range(4)), value, verdict)


@pytest.mark.parametrize("net", ["vgg", "vgg-norm"])
@pytest.mark.parametrize(
    ("errors", "value", "verdict"), [([0.1, 0.82, 0.9], 0.9, "holds"), ([0.1, 0.5, 0.9], 0.5, "fails")]
)
def test_single_layers(net, errors, value, verdict):
    other = "vgg" if net == "vgg-norm" else "vgg-norm"
    rows = lesioned("delete_one", errors, net=net) + lesioned("delete_one", [1 - e for e in errors], net=other)
    check(f"one-layer-is-all-{net}", rows, value, verdict)


SMOOTH = lesioned("delete_k", [0.14, 0.18, 0.26, 0.34, 0.66, 0.74], k=[1, 1, 3, 3, 7, 7])  # damage .075 .25 .75
STEEP = lesioned("delete_k", [0.1, 0.1, 0.9, 0.9, 0.9, 0.9], k=[1, 1, 2, 2, 7, 7])
EARLY = lesioned("delete_k", [0.5, 0.5, 0.54, 0.54], k=[3, 3, 7, 7])


@pytest.mark.parametrize(
    ("claim", "rows", "value", "verdict"),
    [
        ("several-deleted-smooth", SMOOTH, 0.125, "holds"),
        ("several-deleted-smooth", STEEP, 1.0, "fails"),
        ("ten-of-54", SMOOTH, 0.25, "holds"),
        ("ten-of-54", EARLY, 0.5, "fails"),
        ("ten-of-54", STEEP, math.nan, "unclear"),
        ("twenty-of-54", SMOOTH, 0.5, "holds"),
        ("twenty-of-54", EARLY, 0.05, "fails"),
    ],
)
def test_several_modules(claim, rows, value, verdict):
    judged = judge(LESION[claim], rows)
    assert judged.value == pytest.approx([value], rel=1e-12, nan_ok=True)
    assert judged.verdict == verdict


@pytest.mark.parametrize(
    ("taus", "value", "verdict"),
    [([1.0, 0.8, 0.5, 0.2], -1.0, "holds"), ([0.2, 0.8, 0.5, 1.0], 0.8, "fails")],
)
def test_modules_in_another_order(taus, value, verdict):
    check("reordering-smooth", lesioned("reorder", [0.1, 0.2, 0.3, 0.4], tau=taus), value, verdict)


# --- paths


def by_length(gradients, what="sampled", whole=None):
    """Nine modules: lengths 0 to 9, binomial."""
    rows = [
        {"what": what, "seed": 0, "length": k, "paths": math.comb(9, k) / 512, "gradient": g}
        for k, g in enumerate(gradients)
    ]
    return [*rows, {"what": f"{what}_whole", "seed": 0, **(whole or {"depth": 1.8, "effective_paths": 0.05})}]


FALLING = [8.0 * 0.25**k for k in range(10)]


def test_decay_is_that_of_an_exponential():
    assert decay(by_length(FALLING)) == pytest.approx((0.25, 1.0), rel=1e-12)


def test_lengths_are_counted_around_the_middle():
    """Within 3.6 of 4.5: lengths 1 to 8, all but two of 512 paths."""
    check("lengths-binomial", by_length(FALLING), 510 / 512, "holds")
    shifted = by_length(FALLING)
    shifted[0]["paths"], shifted[5]["paths"] = shifted[5]["paths"], shifted[0]["paths"]
    check("lengths-binomial", shifted, 1 - 126 / 512 - 1 / 512, "fails")


@pytest.mark.parametrize(
    ("gradients", "value", "verdict"),
    [(FALLING, 1.0, "holds"), (FALLING[::-1], -1.0, "fails"), ([1.0, 1e-6, 0.0, 1.0, 1e-6], None, "fails")],
)
def test_gradient_falls_exponentially(gradients, value, verdict):
    judged = judge(PATHS["gradient-falls-exponentially"], by_length(gradients))
    assert judged.verdict == verdict
    if value is not None:
        assert judged.value == pytest.approx([value], rel=1e-12)


@pytest.mark.parametrize(
    ("claim", "what", "whole", "value", "verdict"),
    [
        ("short-paths-contribute", "sampled", {"depth": 1.8, "effective_paths": 0.05}, 0.2, "holds"),
        ("short-paths-contribute", "sampled", {"depth": 4.5, "effective_paths": 0.05}, 0.5, "fails"),
        ("few-paths-contribute", "sampled", {"depth": 1.8, "effective_paths": 0.05}, 0.05, "holds"),
        ("few-paths-contribute", "sampled", {"depth": 1.8, "effective_paths": 0.5}, 0.5, "fails"),
        ("short-paths-exactly", "exact", {"depth": 0.9}, 0.1, "holds"),
        ("short-paths-exactly", "exact", {"depth": 4.5}, 0.5, "fails"),
    ],
)
def test_contribution_of_short_paths(claim, what, whole, value, verdict):
    other = "exact" if what == "sampled" else "sampled"
    opposite = {"depth": 9.0 if verdict == "holds" else 0.0, "effective_paths": 1.0 if verdict == "holds" else 0.0}
    check(claim, by_length(FALLING, what, whole) + by_length(FALLING, other, opposite), value, verdict)


# --- path survival


def left(of_paths, of_contribution):
    """Without 1, 3 and 7 modules."""
    return [
        {"what": "left", "seed": 0, "k": k, "of_paths": p, "of_contribution": c}
        for k, p, c in zip((1, 3, 7), of_paths, of_contribution, strict=True)
    ]


GONE = lesioned("delete_k", [0.2, 0.4, 0.8], k=[1, 3, 7])


@pytest.mark.parametrize(
    ("claim", "rows", "value", "verdict"),
    [
        ("long-paths-die-first", left((0.5, 0.125, 0.01), (0.9, 0.5, 0.1)), 4.0, "holds"),
        ("long-paths-die-first", left((0.5, 0.125, 0.01), (0.5, 0.125, 0.01)), 1.0, "fails"),
        ("effective-paths-survive", left((0.5, 0.125, 0.01), (0.9, 0.5, 0.1)), 0.5, "holds"),
        ("effective-paths-survive", left((0.5, 0.125, 0.01), (0.9, 0.05, 0.01)), 0.05, "fails"),
        ("error-follows-paths", left((0.5, 0.125, 0.01), (0.9, 0.5, 0.1)) + GONE, -1.0, "holds"),
        ("error-follows-paths", left((0.5, 0.125, 0.01), (0.1, 0.5, 0.9)) + GONE, 1.0, "fails"),
    ],
)
def test_paths_left(claim, rows, value, verdict):
    check(claim, rows, value, verdict)


# --- training on short paths


def twins(subset, full):
    return [
        {"what": "tested", "seed": 0, "net": net, "wrong": wrong, "error": len(wrong) / 1000}
        for net, wrong in (("subset", subset), ("resnet", full))
    ]


@pytest.mark.parametrize(
    ("subset", "full", "difference", "errors", "verdicts"),
    [
        (range(10), range(5, 15), 0.0, 0.0, ("holds", "holds")),
        (range(9), range(3, 10), 0.002, 2 / 2, ("holds", "holds")),  # 3 against 1, of 4 that differ
        (range(40), range(4), 0.036, 6.0, ("fails", "fails")),
        (range(4), range(40), -0.036, -6.0, ("holds", "holds")),
        (range(9), range(0), 0.009, 3.0, ("holds", "fails")),
    ],
)
def test_networks_trained_on_subsets_and_on_all(subset, full, difference, errors, verdicts):
    rows = twins(list(subset), list(full))
    check("as-good-on-short-paths", rows, difference, verdicts[0])
    check("no-significant-difference", rows, errors, verdicts[1])


# --- stochastic depth


@pytest.mark.parametrize(
    ("usual", "stochastic", "value", "verdicts"),
    [
        ([0.3, 0.5], [0.22, 0.42], -0.1, ("holds", "holds")),
        ([0.5, 0.9], [0.1, 0.5], -0.5, ("holds", "fails")),
        ([0.3, 0.5], [0.38, 0.5], 0.05, ("fails", "holds")),
    ],
)
def test_robustness_by_stochastic_depth(usual, stochastic, value, verdicts):
    rows = lesioned("delete_k", usual, k=[1, 3]) + lesioned("delete_k", stochastic, "stochastic", k=[1, 3])
    check("stochastic-depth-is-more-robust", rows, value, verdicts[0])
    check("only-slightly", rows, value, verdicts[1])


@pytest.mark.parametrize("claim", ALL.values(), ids=ALL)
def test_without_rows_the_statistic_is_nan(claim):
    assert math.isnan(claim.measure([]))


@pytest.mark.parametrize("claim", ALL.values(), ids=ALL)
def test_claims_have_text_statistic_and_source(claim):
    assert claim.text.endswith(".")
    assert claim.statistic
    assert claim.source
