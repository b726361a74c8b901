"""The networks of the recurrence depth study, and its claims on rows written by hand."""

import math

import pytest
import torch
from pydantic import ValidationError
from rhn_tiny import TINY

from thruway.errors import ConfigError
from thruway.experiments.machinery import judge
from thruway.experiments.rhn2017.depth import CLAIMS, PAPER, SCALES, Config, ratio_to_shallowest
from thruway.experiments.rhn2017.depth_model import LanguageModel, parameters_of, width_for
from thruway.experiments.rhn2017.depth_training import load_text

BY_ID = {claim.id: claim for claim in CLAIMS}


def rows(bits, train=None, seed=0):
    train = train or bits
    return [{"depth": d, "test_bits": bits[d], "train_bits": train[d], "seed": seed} for d in reversed(bits)]


AS_PUBLISHED = rows({depth: math.log2(perplexity) for depth, perplexity in PAPER.items()})


# --- claims


def test_the_papers_own_numbers_meet_its_claims():
    values = {name: BY_ID[name].measure(AS_PUBLISHED) for name in BY_ID}
    assert values["deeper-is-better"] == pytest.approx(math.log(65.4) / math.log(90.6), rel=1e-12)
    assert values["every-step-helps"] == -1
    assert values["first-steps-help-most"] == pytest.approx(math.log(90.6 / 75.1) / math.log(90.6 / 65.4), rel=1e-12)
    assert [judge(claim, AS_PUBLISHED).verdict for claim in CLAIMS] == ["holds"] * 4


@pytest.mark.parametrize(
    ("claim", "bits"),
    [
        ("deeper-is-better", {1: 2.0, 10: 1.97}),
        ("every-step-helps", {1: 2.0, 3: 1.8, 5: 1.7, 7: 1.75, 10: 1.78}),
        ("first-steps-help-most", {1: 2.0, 5: 1.9, 10: 1.7}),
        ("deeper-fits-better", {1: 2.0, 10: 2.01}),
    ],
)
def test_each_claim_can_fail(claim, bits):
    assert judge(BY_ID[claim], rows(bits)).verdict == "fails"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_single_depth_decides_nothing(claim):
    assert math.isnan(claim.measure(rows({1: 2.0})))
    assert judge(claim, rows({1: 2.0})).verdict == "unclear"


def test_without_a_gain_the_share_of_it_is_nan():
    assert math.isnan(BY_ID["first-steps-help-most"].measure(rows({1: 2.0, 3: 2.1, 10: 2.2})))


def test_a_network_that_diverged_decides_nothing():
    diverged = rows({1: 2.0, 3: 1.9, 10: math.nan})
    assert [judge(claim, diverged).verdict for claim in CLAIMS[:2]] == ["unclear"] * 2


def test_ratios_are_of_means_over_seeds():
    both = rows({1: 2.0, 4: 1.0}) + rows({1: 4.0, 4: 2.0}, seed=1)
    assert ratio_to_shallowest(both) == {1: 1.0, 4: 0.5}


# --- networks


@pytest.mark.parametrize("scale", SCALES)
def test_networks_of_all_depths_have_about_the_same_number_of_parameters(scale):
    config = SCALES[scale]
    for depth in config.depths:
        width = width_for(config.parameters, 103, config.embedding, depth)
        sizes = [parameters_of(103, config.embedding, w, depth) for w in (width - 1, width, width + 1)]
        differences = [abs(size - config.parameters) for size in sizes]
        assert differences[1] == min(differences)
        assert differences[1] < 0.02 * config.parameters


@pytest.mark.parametrize("depth", [1, 4])
def test_parameters_of_counts_those_of_the_model(depth):
    coins = torch.Generator()
    model = LanguageModel(11, 5, 7, depth, -2.0, (0.0, 0.0, 0.0), torch.Generator(), coins)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters_of(11, 5, 7, depth)


def test_the_learning_rate_is_constant_and_then_falls():
    config = Config(epochs=6, steady=0.5, decay=0.5, learning_rate=1.0)
    assert [config.learning_rate_at(epoch) for epoch in range(6)] == [1, 1, 1, 0.5, 0.25, 0.125]
    # The authors' rate: 0.2 for a loss summed over 50 steps, divided by 1.03 in each epoch from the sixth on.
    paper = SCALES["paper"]
    assert [paper.learning_rate_at(e) / 50 for e in (0, 4, 5)] == pytest.approx([0.2, 0.2, 0.2 / 1.03], rel=1e-12)


def test_output_dropout_keeps_one_mask_over_time():
    model = LanguageModel(11, 5, 40, 1, -2.0, (0.0, 0.0, 0.5), *(torch.Generator().manual_seed(s) for s in (0, 1)))
    seen = []
    model.head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    codes = torch.arange(12).view(6, 2) % 11
    model(codes)
    dropped = seen[0].eq(0)
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert 0 < dropped[0].sum() < 80
    model.eval()(codes)
    assert not seen[1].eq(0).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": (0, 1)}, "at least 1; got 0, 1"),
        ({"depths": (2, 2)}, "different numbers"),
        ({"optimizer": "adagrad"}, "'adam' or 'sgd'"),
        ({"nonsense": 1}, "Extra inputs"),
    ],
    ids=["depth 0", "twice", "optimizer", "unknown field"],
)
def test_invalid_configs_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        Config(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 100}, "batch: got 100.* only 100 characters"),
        ({"parameters": 100}, "the nearest network of depth 2 .* has"),
    ],
    ids=["batch", "parameters"],
)
def test_configs_that_do_not_fit_the_text_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        load_text(TINY.model_copy(update=change))
