"""Training of one network against loops written out; its data; configs that are refused."""

import dataclasses
import itertools
import json
import math

import pytest
import torch
from measured_tiny import TINY, TINY_NETS
from pydantic import ValidationError
from tiny_runs import complete, create
from torch.nn import functional as F

from thruway.data import batches, load
from thruway.errors import ConfigError
from thruway.experiments import STUDIES
from thruway.experiments.highway2015 import lesion as highway
from thruway.experiments.machinery import ImageConfig, Silent, load_images
from thruway.experiments.machinery.images import pooled
from thruway.experiments.machinery.training import error_rate, train_net, trained_net
from thruway.experiments.rhn2017 import depth as rhn
from thruway.experiments.veit2016 import effective_paths, lesion, paths, stochastic_depth
from thruway.experiments.veit2016.nets import residual_net, stochastic_net, subset_net
from thruway.networks import resnet
from thruway.runs import open_run
from thruway.seeding import generator

CONFIG = paths.Config(**{**TINY_NETS, "epochs": 4}, warmup=1, drops=(0.5, 0.75), learning_rate=0.05)


def trained_by_hand(config, epochs, **training):
    """The network after that many epochs of torch's own SGD."""
    parts, coins = load_images(config), torch.Generator()
    weights = generator(config.seed, "weights", "resnet")
    net = resnet((3, 3, 3), 1, 10, widths=(2, 3, 4), coins=coins, generator=weights, **training)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    factors = [0.1, 1.0, 0.1, 0.01]  # a warm-up of one epoch, drops after two and three of four
    kind = "subset" if "subset" in training else "stochastic" if "survival" in training else "resnet"
    for epoch in range(epochs):
        coins.set_state(generator(config.seed, "coins", kind, epoch).get_state())
        optimizer.param_groups[0]["lr"] = 0.05 * factors[epoch]
        net.train()
        for indices in batches(len(parts.train), config.batch, config.seed, epoch):
            optimizer.zero_grad()
            F.cross_entropy(net(parts.train.images[indices]), parts.train.labels[indices]).backward()
            optimizer.step()
    return net.eval()


@pytest.mark.parametrize(
    ("net", "training"),
    [
        (residual_net(CONFIG, 0), {}),
        (subset_net(CONFIG, 0, 4), {"subset": 4}),
        (stochastic_net(CONFIG, 0, 0.5), {"survival": 0.5}),
    ],
    ids=["all", "subset", "stochastic"],
)
def test_training_is_that_of_loops_written_out(net, training, tmp_path):
    parts, twin = load_images(CONFIG), trained_by_hand(CONFIG, 4, **training)
    with create(tmp_path / "run", "veit2016.paths", CONFIG) as run:
        train_net(CONFIG, net, parts, run, Silent())
        mine = trained_net(CONFIG, net, parts, run)
    assert not mine.training
    for (name, tensor), (_, other) in zip(mine.state_dict().items(), twin.state_dict().items(), strict=True):
        assert torch.equal(tensor, other), name
    logged = open_run(tmp_path / "run").table(quantity="test_error")["value"].tolist()
    wrong = (twin(parts.test.images).argmax(1) != parts.test.labels).float().mean().item()
    assert logged == pytest.approx([wrong], rel=1e-6)  # float32 in the series
    assert error_rate(mine, parts.test.images, parts.test.labels) == pytest.approx(wrong, rel=1e-6)


def test_a_network_can_have_its_own_warmup(tmp_path):
    config, parts = CONFIG.model_copy(update={"warmup": 0}), load_images(CONFIG)
    net = dataclasses.replace(residual_net(config, 0), warmup=1)
    with create(tmp_path / "run", "veit2016.paths", config) as run:
        train_net(config, net, parts, run, Silent())
        mine = trained_net(config, net, parts, run).state_dict()
    assert all(torch.equal(mine[name], tensor) for name, tensor in trained_by_hand(CONFIG, 4).state_dict().items())


def test_learning_rates_follow_the_recipe():
    config = paths.SCALES["paper"]
    factors = [round(config.learning_rate_factor(epoch), 12) for epoch in range(config.epochs)]
    runs = [(factor, len(list(group))) for factor, group in itertools.groupby(factors)]
    assert runs == [(0.1, 1), (1.0, 81), (0.1, 41), (0.01, 41)]


def test_pooling_averages_squares():
    images = load("digits", limit=3)
    by_loops = torch.stack(
        [images.images[:, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean((2, 3)) for r in range(4) for c in range(4)], -1
    )
    # Four float32 sums of 4 numbers up to 1, ordered either way
    torch.testing.assert_close(pooled(images, 2).images.flatten(2), by_loops, rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match=r"pool: got 3, but digits has images of 8 x 8 pixels"):
        pooled(images, 3)


def test_augmentation_changes_the_training(tmp_path):
    """So do the reach of the shifts and their fill. If unset, the reach is an eighth of 8 pixels."""
    name, losses = "highway2015.lesion", {}
    settings = {
        "none": {},
        "unset": {"augment": True},
        "one": {"augment": True, "reach": 1},
        "three": {"augment": True, "reach": 3},
        "zeros": {"augment": True, "reach": 1, "fill": "zeros"},
    }
    for kind, changes in settings.items():
        folder = complete(tmp_path / kind, name, TINY[name].model_copy(update={**changes, "seeds": 1}))
        losses[kind] = tuple(open_run(folder).table(quantity="train_loss")["value"].tolist())
    assert losses.pop("one") == losses["unset"]
    assert len(set(losses.values())) == len(losses)


@pytest.mark.parametrize(
    ("change", "listed"),
    [
        ({}, set()),
        ({"augment": True}, {"fill: edge; at paper scale: zeros"}),
        ({"augment": True, "reach": 2}, {"fill: edge; at paper scale: zeros", "reach: 2; at paper scale: an eighth"}),
    ],
    ids=["unchanged", "augmented", "further"],
)
def test_augmentation_is_listed_only_where_it_is_used(change, listed, tmp_path):
    name = "veit2016.paths"
    config = TINY[name].model_copy(update={"seeds": 1, "epochs": 1, **change})
    folder = complete(tmp_path / "run", name, config)
    STUDIES[name].report(open_run(folder), folder)
    differs = json.loads((folder / "summary.json").read_text())["meta"]["differs from the paper"]
    assert {each.removesuffix(" of the side") for each in differs if each.startswith(("reach", "fill"))} == listed


def test_seeds_are_independent_networks(tmp_path):
    folder = complete(tmp_path / "run", "veit2016.effective_paths", TINY["veit2016.effective_paths"])
    losses = open_run(folder).table(site="resnet", quantity="train_loss")["value"].tolist()
    assert len(losses) == len(set(losses)) == 4


def test_networks_trained_differently_start_from_the_same_weights():
    built = [
        net.build(load_images(CONFIG), generator(0, "weights", net.weights or net.name), torch.Generator())
        for net in (residual_net(CONFIG, 0), subset_net(CONFIG, 0, 4), stochastic_net(CONFIG, 0, 0.5))
    ]
    first, *others = (list(each.state_dict().values()) for each in built)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("scale", ["demo", "laptop", "paper"])
def test_configs_of_scales(name, scale):
    config = STUDIES[name].scales[scale]
    assert isinstance(config, ImageConfig)
    assert config.scale == scale
    assert config.seeds == (1 if scale == "demo" else 3)


def test_the_paper_s_numbers():
    assert paths.SCALES["paper"].depth == 54
    assert effective_paths.SCALES["paper"].used == 23
    assert lesion.SCALES["paper"].ks == list(range(1, 21))
    assert stochastic_depth.SCALES["paper"].survival == 0.5
    assert (highway.SCALES["paper"].depth, highway.SCALES["paper"].gate_bias) == (50, -2.0)


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (lesion.Config, {"modules": 2}, "swapping needs at least 3 per stage"),
        (lesion.Config, {"deleted": (55,)}, "deleted must be numbers from 1 to 54, out of 54 modules"),
        (lesion.Config, {"swaps": (0,)}, "swaps must be numbers of pairs, each at least 1"),
        (lesion.Config, {"plain": ("vgg", "vgg")}, "plain must not repeat a network"),
        (effective_paths.Config, {"use": 16}, "use: got 16, but the network has only 15 modules"),
        (paths.Config, {"drops": (0.7, 0.5)}, "increasing shares"),
        (paths.Config, {"drops": (1.0,)}, "increasing shares"),
        (stochastic_depth.Config, {"survival": 1.0}, "less than 1"),
        (highway.Config, {"activation": "relo"}, "'relu' or 'tanh'"),
        (paths.Config, {"nonsense": 1}, "Extra inputs"),
        (paths.Config, {"reach": -1}, "greater than or equal to 0"),
        (paths.Config, {"fill": "mirror"}, "'edge' or 'zeros'"),
        (highway.Config, {"gate_bias": math.nan}, "finite number"),
        (highway.Config, {"gate_bias": -math.inf}, "finite number"),
        (rhn.Config, {"gate_bias": math.nan}, "finite number"),
    ],
)
def test_invalid_configs_are_refused(config, change, message):
    with pytest.raises(ValidationError, match=message):
        config(**change)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ConfigError, match="batch: got 101, but digits has 100 training examples"):
        load_images(paths.Config(examples=100, batch=101))
