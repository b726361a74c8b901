"""The networks of the reply, compared with its published logs, and its recipe."""

import pytest
from compared_tiny import TINY, blank, built, contenders, count
from tiny_runs import complete
from torch import nn

from thruway.experiments.srivastava2025 import REPLY, reply
from thruway.runs import open_run

NAME = "srivastava2025.reply"


@pytest.fixture(scope="module")
def nets():
    return built(NAME, reply.SCALES["paper"], blank(3, 32))


@pytest.mark.parametrize(("net", "logged"), [("resnet", 1_727_962), ("highway", 2_649_918)])
def test_sizes_are_those_in_the_published_logs(nets, net, logged):
    assert count(nets[net]) == logged


def test_gates_start_nearly_closed(nets):
    """sigmoid(-6), 0.25 % of the transform: 54 gates, each a last norm that starts at -6."""
    norms = [module for module in nets["highway"].modules() if isinstance(module, nn.BatchNorm2d)]
    assert sum(bool((norm.bias == -6.0).all()) for norm in norms) == 54
    assert sum(bool((norm.bias == 0.0).all()) for norm in norms) == len(norms) - 54
    assert not any(
        (module.bias != 0).any() for module in nets["resnet"].modules() if isinstance(module, nn.BatchNorm2d)
    )


@pytest.mark.parametrize(("scale", "layers"), [("demo", 32), ("laptop", 110), ("paper", 110)])
def test_labels_name_the_number_of_layers(scale, layers):
    found = contenders(NAME, reply.SCALES[scale])
    assert [each.label for each in found] == [f"ResNet-{layers}", f"Highway-{layers}"]
    assert [each.layers for each in found] == [layers, layers]


def test_the_gate_bias_is_that_of_the_config():
    net = built(NAME, reply.Config(modules=1, widths=(2, 4, 8), gate_bias=-2.5), blank(1, 8))["highway"]
    biases = [module.bias for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert sum(bool((bias == -2.5).all()) for bias in biases) == 3


def test_the_recipe_is_the_published_one():
    config = reply.SCALES["paper"]
    rates = [round(config.learning_rate * config.learning_rate_factor(epoch), 9) for epoch in (0, 99, 100, 150, 199)]
    assert rates == [0.1, 0.1, 0.01, 0.001, 0.001]
    assert (config.epochs, config.batch, config.momentum, config.weight_decay) == (200, 128, 0.9, 1e-4)


@pytest.mark.parametrize(("warmup", "resnet"), [(0, 1), (1, 1), (2, 2)])
def test_only_the_residual_network_has_a_warmup_of_its_own(warmup, resnet):
    """One epoch, as in the author's trainer, unless the config has more."""
    found = {each.name: each.warmup for each in contenders(NAME, reply.Config(warmup=warmup))}
    assert found == {"resnet": resnet, "highway": None}
    assert {config.warmup for config in reply.SCALES.values()} == {0}


def test_the_warmup_is_stored_and_reported(tmp_path):
    config = TINY[NAME].model_copy(update={"seeds": 1, "warmup": 0})
    folder = complete(tmp_path / "run", NAME, config)
    warmups = {net: open_run(folder).load(f"net-{net}-0").state["recipe"]["warmup"] for net in ("resnet", "highway")}
    assert warmups == {"resnet": 1, "highway": 0}
    REPLY.report(open_run(folder), folder)
    assert "its first epoch with a tenth of the learning rate, as published" in (folder / "report.html").read_text()


def test_augmentation_pads_with_zeros_as_published():
    config = reply.SCALES["paper"]
    assert (config.augment, config.reach, config.fill) == (True, None, "zeros")  # None: 4 of 32
