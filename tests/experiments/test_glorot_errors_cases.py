"""Networks that a study trains, and its choice: functions of the config alone."""

import itertools
import math

import pytest
from pydantic import ValidationError

from thruway.experiments.glorot2010.errors import (
    PAIRS,
    SCALES,
    Choice,
    Config,
    Net,
    choose,
    final_nets,
    fixed_nets,
    search_nets,
)
from thruway.experiments.glorot2010.errors_stages import groups, pieces
from thruway.init import SCHEMES

CONFIG = Config(depths=(1, 3), learning_rates=(0.1, 0.2), seeds=3, seed=4)


def test_the_search_covers_the_grid_and_pre_trained_pairs_have_the_greatest_depth():
    found = [(net.pair, net.depth, net.rate) for net in search_nets(CONFIG)]
    plain = [pair for pair in PAIRS if pair != "tanh-pretrained"]
    expected = [*itertools.product(plain, (1, 3), (0.1, 0.2)), *itertools.product(["tanh-pretrained"], [3], (0.1, 0.2))]
    assert sorted(found) == sorted(expected)


def test_no_two_networks_share_site_and_member():
    chosen = {pair: Choice(1, 0.1, 0.2) for pair in PAIRS}
    nets = [*search_nets(CONFIG), *final_nets(CONFIG, chosen), *fixed_nets(CONFIG)]
    assert len({(net.site, net.member) for net in nets}) == len(nets)


def test_validation_chooses_and_ties_go_to_the_first():
    nets = [Net("search", "tanh", depth, rate, 0, 0) for depth in (1, 3) for rate in (0.1, 0.2)]
    assert choose(nets, [0.3, 0.2, 0.2, 0.9]) == {"tanh": Choice(1, 0.2, 0.1)}
    assert choose(nets, [math.nan, 0.3, 0.2, 0.1]) == {"tanh": Choice(3, 0.2, 0.2)}
    assert choose(nets, [math.nan] * 4) == {"tanh": Choice(1, 0.1, 0.1)}


def test_pairs_are_tested_at_the_greatest_depth_and_at_the_chosen_one():
    nets = final_nets(CONFIG, {"tanh": Choice(3, 0.2, 0.2), "sigmoid": Choice(1, 0.1, 0.3)})
    assert [(net.pair, net.depth, net.rate, net.seed) for net in nets] == [
        *(("tanh", 3, 0.2, seed) for seed in (4, 5, 6)),
        *(("sigmoid", 1, 0.1, seed) for seed in (4, 5, 6)),
        *(("sigmoid", 3, 0.3, seed) for seed in (4, 5, 6)),
    ]


def test_every_seed_is_compared_with_the_svm_at_every_rate():
    assert [(net.rate, net.seed) for net in fixed_nets(CONFIG)] == list(
        (rate, seed) for seed in (4, 5, 6) for rate in (0.1, 0.2)
    )


def test_groups_have_one_shape():
    nets = search_nets(CONFIG)
    made = groups(nets)
    assert sorted(net for group in made for net in group.nets) == sorted(nets)
    assert len({(group.activation, group.depth) for group in made}) == len(made) == 3 * 2
    for group in made:
        assert {(PAIRS[net.pair].activation, net.depth) for net in group.nets} == {(group.activation, group.depth)}


@pytest.mark.parametrize(("updates", "evaluations"), [(1, 1), (7, 3), (499, 2), (60, 60), (12_345, 7)])
def test_pieces_cover_all_updates_and_continue_where_they_stopped(updates, evaluations):
    whole = list(pieces(updates, evaluations))
    assert [first for first, _, _ in whole] == [0, *(end for _, end, _ in whole[:-1])]
    assert whole[-1][1] == updates
    assert sum(is_evaluated for _, _, is_evaluated in whole) == evaluations
    assert whole[-1][2]
    for number in range(len(whole)):
        assert list(pieces(updates, evaluations, whole[number][1])) == whole[number + 1 :]


def test_the_paper_scale_is_as_published():
    paper = SCALES["paper"]
    assert (paper.data, paper.size, paper.depths, paper.width, paper.batch) == (
        "shapeset",
        32,
        (1, 2, 3, 4, 5),
        1000,
        10,
    )
    assert (paper.search_updates, paper.fixed_examples) == (5_000_000, 100_000)
    assert min(SCALES["laptop"].seeds, paper.seeds) >= 3  # what a verdict needs
    assert {name: config.scale for name, config in SCALES.items()} == {name: name for name in SCALES}


def test_pairs_start_as_equations_1_and_16_say():
    starts = {name: pair.scheme for name, pair in PAIRS.items()}
    assert {name for name, scheme in starts.items() if scheme == "standard"} == {"sigmoid", "tanh", "softsign"}
    assert set(starts.values()) == {"standard", "glorot_uniform"} <= set(SCHEMES)
    for name, pair in PAIRS.items():
        assert name.partition("-")[0] == pair.activation


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": (2, 0)}, "depths count hidden layers and start at 1, got 0"),
        ({"depths": (2, 2)}, "depths names each value once, got 2, 2"),
        ({"pairs": ("tanh", "tanh")}, "pairs names each value once"),
        ({"pairs": ("relu",)}, "'softsign-n'"),
        ({"learning_rates": (0.1, 0.0)}, "learning_rates are finite and above 0, got 0.0"),
        ({"svm_costs": (math.inf,)}, "svm_costs are finite and above 0, got inf"),
        ({"updates": 5}, r"updates is at least evaluations \(12\), got 5"),
        ({"noise": 1.0}, "less than 1"),
        ({"size": 9}, "greater than or equal to 10"),
        ({"update": 9}, "not permitted"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_invalid_configs_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        Config(**fields)
