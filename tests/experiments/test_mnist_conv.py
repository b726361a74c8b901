"""The networks of the study of table 1: the published ones at paper scale, and plain ones of their size."""

import pytest
from compared_tiny import TINY, blank, built, complete, contenders, count
from pydantic import ValidationError

from thruway.errors import ConfigError
from thruway.experiments.highway2015 import MNIST_CONV, mnist_conv
from thruway.nn import Dropout, HighwayConv2d
from thruway.runs import open_run

NAME = "highway2015.mnist_conv"


@pytest.fixture(scope="module")
def nets():
    return built(NAME, mnist_conv.SCALES["paper"], blank(1, 28))


def test_the_published_nets_have_their_size(nets):
    assert count(nets["highway-16"]) == 38_986
    assert count(nets["highway-32"]) == 151_690


@pytest.mark.parametrize("width", [16, 32])
def test_a_twin_has_no_gates_and_as_many_parameters(nets, width):
    highway, plain = nets[f"highway-{width}"], nets[f"plain-{width}"]
    # Whole widths: a step of one moves the count by 2/width.
    assert count(plain) == pytest.approx(count(highway), rel=1 / width)
    gated = [sum(isinstance(module, HighwayConv2d) for module in net.modules()) for net in (highway, plain)]
    assert gated == [8, 0]


def test_gates_start_where_the_config_says():
    for bias in (-1.0, -3.0):
        net = built(NAME, mnist_conv.Config(widths=(4,), gate_bias=bias), blank(1, 8))["highway-4"]
        layers = [module for module in net.modules() if isinstance(module, HighwayConv2d)]
        assert all((layer.bias[4:] == bias).all() for layer in layers)


@pytest.mark.parametrize("dropout", [True, False])
def test_both_nets_drop_or_neither_does(dropout):
    config = mnist_conv.Config(widths=(4,), dropout=dropout)
    for net in built(NAME, config, blank(1, 8)).values():
        drops = [module.p for module in net.modules() if isinstance(module, Dropout)]
        assert drops == ([0.2, 0.3, 0.4, 0.5] if dropout else [])


def test_plain_nets_can_be_left_out():
    config = mnist_conv.Config(widths=(2, 3), plain=False)
    assert [each.name for each in contenders(NAME, config)] == ["highway-2", "highway-3"]


def test_the_answer_names_errors_and_sizes(tmp_path):
    config = TINY[NAME].model_copy(update={"seeds": 1, "widths": (2,)})
    folder = complete(tmp_path / "run", NAME, config)
    table, _ = MNIST_CONV.report(open_run(folder), folder)
    page = (folder / "report.html").read_text()
    lines = {row[0]: row for row in table.rows}
    for label in ("highway", "plain"):
        parameters, error = lines[label][2], lines[label][3]
        assert f"{parameters:,}" in page
        assert f"{getattr(error, 'value', error):.2%}" in page


def test_images_pooled_too_small_are_refused_before_a_run_is_made():
    """5x5 without padding, and three poolings, leave nothing of digits at 4 x 4."""
    config = TINY[NAME].model_copy(update={"pool": 2})
    with pytest.raises(
        ConfigError, match=r"pool: got 2, which leaves 4 x 4 pixels of the images of digits, but .* 8 x 8"
    ):
        MNIST_CONV.prepare(config)
    for side, is_enough in ((7, False), (8, True)):
        try:
            built(NAME, TINY[NAME], blank(1, side))
        except ConfigError:
            assert not is_enough
        else:
            assert is_enough


@pytest.mark.parametrize("widths", [(), (0,), (16, 16), (32, 16)], ids=["none", "zero", "twice", "falling"])
def test_widths_that_are_no_nets_are_refused(widths):
    with pytest.raises(ValidationError, match="widths"):
        mnist_conv.Config(widths=widths)


def test_the_recipe_is_the_authors():
    """180,000 updates of 100 examples, a tenth of the rate after 60,000 and 120,000."""
    config = mnist_conv.SCALES["paper"]
    assert config.epochs * 60_000 / config.batch == 180_000
    rates = [round(config.learning_rate * config.learning_rate_factor(epoch), 9) for epoch in (0, 99, 100, 199, 200)]
    assert rates == [0.01, 0.01, 0.001, 0.001, 0.0001]
    assert (config.nesterov, config.momentum, config.weight_decay) == (True, 0.9, 0.001)
