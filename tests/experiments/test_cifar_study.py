"""The networks of the study of tables 2 and 3: their sizes at paper scale, narrower ones, and their dissection."""

import pytest
import torch
from compared_tiny import blank, built, contenders, count
from pydantic import ValidationError
from torch import nn

from thruway.experiments.highway2015 import cifar
from thruway.nn import Dropout, HighwayConv2d

NAME = "highway2015.cifar"


@pytest.fixture(scope="module")
def nets():
    return built(NAME, cifar.SCALES["paper"], blank(3, 32))


# As table 2 prints them, in thousands: within half of the last digit, but for the fitnets, whose printed counts
# leave out biases (1 %).
@pytest.mark.parametrize(
    ("net", "printed", "within"),
    [
        ("fitnet-a", 250, 5),
        ("highway-a", 236, 1),
        ("fitnet-b", 2500, 50),
        ("highway-b", 2300, 50),
        ("highway-c", 1250, 5),
    ],
)
def test_sizes_are_those_of_table_2(nets, net, printed, within):
    assert count(nets[net]) / 1000 == pytest.approx(printed, abs=within)


def test_highway_b_is_the_authors_net(nets):
    assert count(nets["highway-b"]) == 2_256_838


def test_nets_come_in_the_order_they_are_named():
    names = ("plain-c", "fitnet-b", "highway-a")
    assert tuple(each.name for each in contenders(NAME, cifar.Config(nets=names))) == names


@pytest.mark.parametrize("letter", ["b", "c"])
def test_plain_nets_are_as_large_and_as_deep(nets, letter):
    highway, plain = nets[f"highway-{letter}"], nets[f"plain-{letter}"]
    assert count(plain) == pytest.approx(count(highway), rel=1 / 32)  # whole widths, from 32 channels on
    assert not any(isinstance(module, HighwayConv2d) for module in plain.modules())


def test_layers_are_counted_as_the_papers_do(nets):
    """Every convolution on the main path and every dense layer; H and T are one layer."""
    for each in contenders(NAME, cifar.SCALES["paper"]):
        layers = [
            module for module in nets[each.name].modules() if isinstance(module, nn.Conv2d | nn.Linear | HighwayConv2d)
        ]
        assert len(layers) == each.layers


def test_narrower_nets_divide_every_width():
    """A layer's parameters are a product of two widths, but for those at the images, the classes and the 1x1 head."""
    full, quarter = (
        built(NAME, cifar.Config(nets=("fitnet-b", "highway-b"), narrower=narrower), blank(3, 32))
        for narrower in (1, 4)
    )
    for net in full:
        wide = [p.shape[:2] for p in full[net].parameters() if p.dim() == 4]
        thin = [p.shape[:2] for p in quarter[net].parameters() if p.dim() == 4]
        inner = [(w, t) for w, t in zip(wide, thin, strict=True) if w[1] != 3 and w[0] != 100]
        assert inner
        assert all((t[0], t[1]) == (w[0] // 4, w[1] // 4) for w, t in inner)


@pytest.mark.parametrize(
    ("gate_bias", "wanted"), [(None, {"highway-a": -1.0, "highway-b": -2.0, "highway-c": -3.0}), (-4.0, {})]
)
def test_gates_start_as_the_guideline_says_or_the_config(gate_bias, wanted):
    config = cifar.Config(nets=("highway-a", "highway-b", "highway-c"), narrower=16, gate_bias=gate_bias)
    for name, net in built(NAME, config, blank(1, 8)).items():
        found = {module.gate_bias for module in net.modules() if isinstance(module, HighwayConv2d)}
        assert found == {wanted.get(name, -4.0)}


@pytest.mark.parametrize("dropout", [True, False])
def test_fitnets_never_drop(dropout):
    for name, net in built(NAME, cifar.Config(dropout=dropout, narrower=16), blank(1, 8)).items():
        drops = sum(isinstance(module, Dropout) for module in net.modules())
        assert drops == (4 if dropout and "fitnet" not in name else 0)


def test_the_recipe_is_the_authors():
    """200,000 updates of 100 examples, a tenth of the rate after 100,000, 150,000 and 175,000."""
    config = cifar.SCALES["paper"]
    assert config.epochs * 50_000 / config.batch == 200_000
    rates = [round(config.learning_rate * config.learning_rate_factor(epoch), 9) for epoch in (0, 200, 300, 350)]
    assert rates == [0.025, 0.0025, 0.00025, 0.000025]
    assert (config.nesterov, config.weight_decay, config.contrast, config.augment) == (True, 0.001, True, True)
    assert config.reach == 8


@pytest.mark.parametrize(
    "change",
    [{"nets": ("highway-b", "highway-b")}, {"nets": ("highway-d",)}, {"nets": ()}, {"narrower": 0}],
    ids=["twice", "unknown", "none", "wider"],
)
def test_what_cannot_be_run_is_refused(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        cifar.Config(**change)


# --- dissected


def test_a_net_taken_apart_has_the_layers_that_keep_their_shape():
    """All but those that bring the maps to another width."""
    parts = blank(1, 8)
    nets = built(NAME, cifar.Config(nets=("fitnet-a", "highway-a", "plain-b"), narrower=4), parts)
    layers = {
        name: [branch.name for branch in cifar.dissect_layers(net.eval(), parts).branches] for name, net in nets.items()
    }
    assert len(layers["highway-a"]) == 6
    assert len(layers["plain-b"]) == 14
    assert layers["fitnet-a"] == [f"layers.conv{number}" for number in (2, 3, 5, 6, 8)]
    dot = blank(1, 2)  # on maps of one point a pooling keeps the shape as well, and is no layer
    assert [branch.name for branch in cifar.dissect_layers(nets["fitnet-a"], dot).branches] == layers["fitnet-a"]


def test_a_fitnet_without_a_layer_is_the_chain_of_the_others():
    parts = blank(1, 8)
    net = built(NAME, cifar.Config(nets=("fitnet-a",), narrower=4), parts)["fitnet-a"].eval()
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = x
        for name, layer in net.layers.named_children():
            y = y if name == "conv5" else layer(y)
        assert torch.equal(cifar.dissect_layers(net, parts).without(2)(x), net.head(y))


def test_a_net_of_another_rate_starts_alike_and_learns_otherwise():
    first, second = contenders(NAME, cifar.Config(nets=("plain-b",), other_rates=(0.003,)))
    assert (first.name, first.learning_rate) == ("plain-b", None)
    assert (second.name, second.learning_rate) == ("plain-b-at-0.003", 0.003)
    assert first.weights == second.weights == "plain-b"


def test_a_claim_takes_every_net_as_it_was_trained_best():
    # The plain net overflows at its first rate; the second one fits the training examples, and is tested at 0.2.
    rows = [
        {"net": net, "seed": 0, "error": error, "train_error": trained, "guessing": 0.9}
        for net, error, trained in (
            ("highway-b", 0.15, 0.05),
            ("highway-b-at-0.003", 0.1, 0.06),  # better tested, worse fitted: does not count
            ("plain-b", 0.9, 0.9),
            ("plain-b-at-0.003", 0.2, 0.01),
        )
    ]
    claim = next(each for each in cifar.claims(cifar.Config()) if each.id == "plain-19-falls-behind")
    assert claim.measure(rows) == pytest.approx(0.05)


@pytest.mark.parametrize("rates", [(-0.1,), (0.0,), (0.003, 0.003), (0.025,)], ids=str)
def test_other_rates_that_are_none(rates):
    with pytest.raises(
        ValidationError, match=r"other_rates must be above 0 and differ from each other and from learning_rate=0\.025"
    ):
        cifar.Config(learning_rate=0.025, other_rates=rates)
