"""The measurements of veit2016, against trained networks changed by hand."""

import math

import pytest
import torch
from measured_tiny import TINY, TINY_NETS, measurements, rows_of
from tiny_runs import complete
from torch import nn

from thruway.experiments.machinery import load_images, only
from thruway.experiments.machinery.training import trained_net
from thruway.experiments.veit2016 import lesion
from thruway.experiments.veit2016.nets import dissected_net, plain_net
from thruway.runs import open_run
from thruway.seeding import generator

LESION = TINY["veit2016.lesion"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return complete(tmp_path_factory.mktemp("runs") / "lesion", "veit2016.lesion", LESION)


@pytest.fixture(scope="module")
def rows(folder):
    return rows_of(folder, "veit2016.lesion", LESION)


@pytest.fixture(scope="module")
def parts():
    return load_images(LESION)


def net_called(name, folder, parts):
    (net,) = {
        each.net.checkpoint: each.net for each in measurements("veit2016.lesion", LESION) if each.net.name == name
    }.values()
    return trained_net(LESION, net, parts, open_run(folder))


def error_of(layers, parts):
    x = parts.test.images
    with torch.no_grad():
        for layer in layers:
            x = layer(x)
    return (x.argmax(1) != parts.test.labels).double().mean().item()


def test_a_deleted_module_is_its_shortcut_alone(folder, rows, parts):
    net = net_called("resnet", folder, parts)
    mine = only(rows, net="resnet", what="delete_one")
    assert [row["index"] for row in mine] == list(range(9))
    assert [row["index"] for row in mine if row["resizes"]] == [3, 6]
    for row in mine:
        blocks = [block.bypass if at == row["index"] else block for at, block in enumerate(net.blocks)]
        assert row["error"] == error_of([net.stem, *blocks, net.head], parts)
        assert row["intact"] == error_of([net], parts)
        assert row["low"] <= row["error"] <= row["high"]


@pytest.mark.parametrize("name", ["vgg", "vgg-norm"])
def test_a_deleted_layer_is_gone_with_its_norm_and_rectifier(name, folder, rows, parts):
    net = net_called(name, folder, parts)
    layers = {f"layers.{key}": layer for key, layer in net.layers.named_children()}
    layers |= {f"head.{key}": layer for key, layer in net.head.named_children()}
    mine = only(rows, net=name, what="delete_one")
    # conv1_1, conv2_1, conv3_1, conv4_1 and the classifier change the number of channels.
    keep = ["conv1_2", "conv2_2", "conv3_2", "conv3_3", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3"]
    assert [row["branch"] for row in mine] == [*(f"layers.{layer}" for layer in keep), "head.2"]
    for row in mine:
        left = [layer for key, layer in layers.items() if key != row["branch"]]
        assert row["error"] == error_of(left, parts)


def test_guessing_is_the_error_of_the_most_frequent_class(rows, parts):
    counts = torch.bincount(parts.test.labels)
    assert {row["guessing"] for row in rows} == {1 - counts.max().item() / counts.sum().item()}


def test_random_deletions_and_orders_are_those_of_the_config(rows):
    drawn = only(rows, what="delete_k")
    assert sorted({row["k"] for row in drawn}) == LESION.ks == [1, 2, 3, 4]
    assert len(drawn) == 4 * LESION.draws
    swapped = only(rows, what="reorder")
    assert [(row["k"], row["draw"]) for row in swapped] == [(1, 0), (1, 1), (3, 0), (3, 1)]
    assert all(-1 <= row["tau"] < 1 for row in swapped if row["k"] == 1)


def test_both_nets_of_stochastic_depth_lose_the_same_modules():
    """The draws depend on the seed alone."""
    name, of_net = "veit2016.stochastic_depth", {}
    for each in measurements(name, TINY[name]):
        if each.name == "delete_k":
            of_net[each.net.name] = each.measure
    assert of_net["resnet"].args == of_net["stochastic"].args


def test_layers_of_a_vgg_without_norm_start_with_unit_variance():
    """With He's initialisation the signal fades on maps of one point; LSUV scales every layer's output."""
    config = lesion.Config(**{**TINY_NETS, "examples": 400}, vgg_width=16)
    parts = load_images(config)
    net = plain_net(config, 0, 16, False, None).build(parts, generator(0, "weights"), torch.Generator()).eval()
    x, variances = parts.train.images[:200], []
    with torch.no_grad():
        for layer in (*net.layers, *net.head):
            first = layer[0] if isinstance(layer, nn.Sequential) else layer
            if isinstance(first, nn.Conv2d | nn.Linear):
                variances.append(first(x).var().item())
            x = layer(x)
    assert len(variances) == 15
    assert all(abs(math.log(each)) < 0.1 for each in variances)  # LSUV stops within 1 % of the std of each batch


def test_shares_of_paths_and_contributions_add_up(tmp_path):
    name = "veit2016.paths"
    rows = rows_of(complete(tmp_path / "run", name, TINY[name]), name, TINY[name])
    for what in ("sampled", "exact"):
        mine = only(rows, what=what)
        assert [row["length"] for row in mine] == list(range(10))
        assert [row["paths"] for row in mine] == [math.comb(9, k) / 512 for k in range(10)]
        assert sum(row["contribution"] for row in mine) == pytest.approx(1, rel=1e-6)
    assert sum(row["share"] for row in only(rows, what="exact")) == pytest.approx(1, rel=1e-5)  # float32 gradients
    (whole,) = only(rows, what="exact_whole")
    mean = sum(row["length"] * row["contribution"] for row in only(rows, what="exact"))
    assert whole["depth"] == pytest.approx(mean, rel=1e-6)


def test_paths_left_are_those_of_the_formula(tmp_path):
    name = "veit2016.path_survival"
    rows = rows_of(complete(tmp_path / "run", name, TINY[name]), name, TINY[name])
    lengths = only(rows, what="length")
    for row in only(rows, what="left"):
        d = row["k"]
        left = [math.comb(9 - d, x) / math.comb(9, x) for x in range(10)]
        assert row["left"] == pytest.approx(left, rel=1e-12)
        assert row["of_paths"] == pytest.approx(2.0**-d, rel=1e-12)  # every deletion halves their number
        contribution = sum(share * length["contribution"] for share, length in zip(left, lengths, strict=True))
        assert row["of_contribution"] == pytest.approx(contribution, rel=1e-12)


def test_subsets_are_tested_with_both_weights_and_then_restored(tmp_path):
    name = "veit2016.effective_paths"
    config = TINY[name].model_copy(update={"seeds": 1})
    folder, parts = complete(tmp_path / "run", name, config), load_images(config)
    rows = rows_of(folder, name, config)
    measurement = next(each for each in measurements(name, config) if each.net.name == "subset")
    net = trained_net(config, measurement.net, parts, open_run(folder))
    (row,) = only(rows, net="subset")
    with torch.no_grad():
        wrong = (net(parts.test.images).argmax(1) != parts.test.labels).nonzero().flatten().tolist()
        x = net.stem(parts.test.images)
        for block in net.blocks:
            x = block(x)
        in_full = (net.head(x).argmax(1) != parts.test.labels).double().mean().item()
    assert row["wrong"] == wrong
    assert row["error"] == len(wrong) / len(parts.test)
    assert row["error_in_full"] == in_full
    assert measurement.measure(net, parts)[0]["wrong"] == wrong
    assert net.blocks.rescale


def test_a_residual_network_is_dissected_into_its_modules(folder, parts):
    assert len(dissected_net(net_called("resnet", folder, parts), parts).branches) == 9
