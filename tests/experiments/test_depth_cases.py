"""The networks of a depth search and their hyperparameters, which depend on the config alone."""

import itertools

import pytest
from pydantic import ValidationError

from thruway.experiments.highway2015.depth import SCALES, Config, cases, member_of, trial_of
from thruway.sweep import Choice, LogUniform, Uniform, draw_trial

CONFIG = Config(depths=(5, 2), searches=3, trials=4)


def test_every_trial_of_every_search_is_trained_once_per_block_and_depth():
    trained = [(case.block, case.depth, member) for case in cases(CONFIG) for member in case.members]
    expected = itertools.product(("plain", "highway", "residual"), (2, 5), range(12))
    assert sorted(trained) == sorted(expected)


def test_nets_of_a_case_share_their_activation():
    for case in cases(CONFIG):
        assert {trial_of(CONFIG, member)[2]["activation"] for member in case.members} == {case.activation}


def test_cases_have_names_of_their_own_and_shallow_ones_come_first():
    names = [case.name for case in cases(CONFIG)]
    assert len(set(names)) == len(names)
    depths = [case.depth for case in cases(CONFIG)]
    assert depths == sorted(depths)


def test_members_number_the_trials_of_all_searches():
    numbered = [(member_of(CONFIG, search, trial), search, trial) for search in range(3) for trial in range(4)]
    assert [member for member, _, _ in numbered] == list(range(12))
    for member, search, trial in numbered:
        seed, number, drawn = trial_of(CONFIG, member)
        assert (seed, number) == (CONFIG.seed + search, trial)
        assert drawn == draw_trial(CONFIG.space, seed, trial)


def test_a_search_is_the_same_alone_and_beside_others():
    """Search 2 of seed 0 is search 0 of seed 2."""
    alone = Config(seed=2, searches=1, trials=4)
    for trial in range(4):
        assert trial_of(CONFIG, member_of(CONFIG, 2, trial)) == trial_of(alone, trial)


def test_more_trials_keep_the_first_ones():
    more = CONFIG.model_copy(update={"trials": 9})
    for search, trial in itertools.product(range(3), range(4)):
        assert trial_of(more, member_of(more, search, trial)) == trial_of(CONFIG, member_of(CONFIG, search, trial))


def test_depths_named_twice_are_trained_once():
    assert cases(Config(depths=(3, 2, 3))) == cases(Config(depths=(2, 3)))


def test_the_paper_scale_is_as_published():
    paper = SCALES["paper"]
    assert (paper.data, paper.depths, paper.trials, paper.epochs) == ("mnist", (10, 20, 50, 100), 40, 400)
    assert (paper.highway_width, paper.gate_bias, paper.activation.values) == (
        50,
        Uniform(low=-10, high=-1),
        ("relu", "tanh"),
    )
    assert paper.searches >= 3  # what a verdict needs


def test_scales_name_themselves():
    assert {name: config.scale for name, config in SCALES.items()} == {name: name for name in SCALES}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"depths": (10, 1)}, "depths.*at least 2; got 1"),
        ({"depths": ()}, "depths"),
        ({"blocks": ("plain", "plain")}, "blocks must differ from each other, got plain, plain"),
        ({"blocks": ("planar",)}, "'plain', 'highway' or 'residual'"),
        ({"momentum": Uniform(low=0.5, high=1.0)}, r"momentum must be in \[0, 1\), got 0.5 to 1.0"),
        ({"momentum": Uniform(low=-0.1, high=0.5)}, r"momentum must be in \[0, 1\), got -0.1"),
        ({"rate_left": LogUniform(low=0.1, high=2.0)}, r"rate_left.*\(0, 1\], got 0.1 to 2.0"),
        ({"activation": Choice(values=("relu", "gelu"))}, "activation must be .*got gelu"),
        ({"examples": 50}, "greater than or equal to 100"),
        ({"epochs": -3}, "greater than or equal to 1"),
        ({"epoch": 3}, "epoch\n.*not permitted"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_config_that_cannot_be_run_is_refused_when_it_is_made(fields, said):
    with pytest.raises(ValidationError, match=said):
        Config(**fields)
