"""The lesion study of highway networks: its rows against networks changed by hand; each claim held and failed."""

import copy
import math

import pytest
import torch
from tiny_runs import complete

from thruway.experiments.highway2015 import LESION, lesion
from thruway.experiments.machinery import judge, load_images
from thruway.experiments.machinery.training import trained_net
from thruway.nn.gates import mix
from thruway.runs import open_run

CONFIG = lesion.Config(
    depth=10,
    width=6,
    examples=100,
    test_examples=40,
    epochs=2,
    batch=25,
    lesioned_examples=60,
    gate_bias=-1.0,
    activation="tanh",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return complete(tmp_path_factory.mktemp("runs") / "highway", LESION.name, CONFIG)


@pytest.fixture(scope="module")
def net(folder):
    return trained_net(CONFIG, lesion.highway_net(CONFIG, 0), load_images(CONFIG), open_run(folder))


@pytest.fixture(scope="module")
def data():
    train = load_images(CONFIG).train
    return train.images[:60], train.labels[:60]


def gates(net, x, layer):
    """H, T and input of highway layer `layer`, counted from 0."""
    x = net.stem(x.flatten(1))
    for weight, bias in list(zip(net.blocks.weight, net.blocks.bias, strict=True))[: layer + 1]:
        h, t = torch.nn.functional.linear(x, weight, bias).chunk(2, dim=-1)
        before, (h, t) = x, (h.tanh(), t.sigmoid())
        x = mix(before, h, t)
    return before, h, t


def rest(net, x, layer, labels):
    """The error when x is what highway layer `layer` gives."""
    for weight, bias in list(zip(net.blocks.weight, net.blocks.bias, strict=True))[layer + 1 :]:
        h, t = torch.nn.functional.linear(x, weight, bias).chunk(2, dim=-1)
        x = mix(x, h.tanh(), t.sigmoid())
    return (net.head(x).argmax(1) != labels).double().mean().item()


def test_a_shut_layer_hands_on_what_it_got(folder, net, data):
    rows = [row for row in LESION.rows(open_run(folder), CONFIG) if row["gate"] == "closed"]
    assert [row["layer"] for row in rows] == list(range(2, 11))  # the first layer is a plain one
    images, labels = data
    with torch.no_grad():
        intact = (net(images).argmax(1) != labels).double().mean().item()
        for row in rows:
            before, _, _ = gates(net, images, row["layer"] - 2)
            assert row["error"] == rest(net, before, row["layer"] - 2, labels)
            assert row["intact"] == intact


def test_a_gate_at_its_mean_stands_still(folder, net, data):
    rows = [row for row in LESION.rows(open_run(folder), CONFIG) if row["gate"] == "mean"]
    assert len(rows) == 9
    images, labels = data
    with torch.no_grad():
        for row in rows:
            before, h, t = gates(net, images, row["layer"] - 2)
            mean = t.double().mean(0).float()
            assert row["error"] == rest(net, (1 - mean) * before + mean * h, row["layer"] - 2, labels)


def test_the_net_is_left_as_it_was(net, data):
    before = copy.deepcopy(net.state_dict())
    for each in lesion.measurements(CONFIG):
        each.measure(net, load_images(CONFIG))
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


# --- claims

CLAIMS = {claim.id: claim for claim in lesion.claims(lesion.Config(depth=50))}


def rows_with(rises, gate="closed", guessing=0.9):
    """Layers 2, 3, ... of 50; intact error 0.02. With the other gate, the rises are reversed."""
    other = "mean" if gate == "closed" else "closed"
    most = max(rises)
    return [
        {
            "seed": 0,
            "layer": layer,
            "gate": kind,
            "intact": 0.02,
            "guessing": guessing,
            "error": 0.02 + (rise if kind == gate else most - rise),
        }
        for layer, rise in enumerate(rises, start=2)
        for kind in (gate, other)
    ]


# As in the paper: the first 14 highway layers matter, four at the end a little, the rest not.
PAPER = rows_with([0.2] * 14 + [0.001] * 31 + [0.1] * 4)
LATE = rows_with([0.001] * 14 + [0.1] * 35)


@pytest.mark.parametrize(
    ("claim", "rows", "value", "verdict"),
    [
        ("later-layers-idle", PAPER, 0.001, "holds"),
        ("later-layers-idle", LATE, 0.1, "fails"),
        ("most-layers-idle", PAPER, 31 / 49, "holds"),
        ("most-layers-idle", LATE, 14 / 49, "fails"),
        ("early-layers-matter", PAPER, 1.0, "holds"),  # the last ones do not count against it
        ("early-layers-matter", LATE, 0.0, "fails"),
        ("early-layers-matter", rows_with([0.004] * 14 + [0.0] * 35), math.nan, "unclear"),
    ],
)
def test_claims(claim, rows, value, verdict):
    judged = judge(CLAIMS[claim], rows)
    assert judged.value == pytest.approx([value], rel=1e-9, nan_ok=True)
    assert judged.verdict == verdict


def test_layers_that_help_when_shut_take_nothing_off_the_others():
    rows = rows_with([0.1] * 7 + [-0.5] * 7 + [0.1] * 7 + [-0.5] * 28)
    assert CLAIMS["early-layers-matter"].measure(rows) == pytest.approx(0.5, rel=1e-9)


def test_claims_are_about_the_paper_s_shares_of_the_depth():
    claims = {claim.id: claim for claim in lesion.claims(lesion.Config(depth=10))}
    rows = rows_with([0.1, 0.1] + [0.0] * 7)  # layers 2 and 3 of 10
    assert claims["early-layers-matter"].measure(rows) == pytest.approx(1, rel=1e-12)
    assert claims["later-layers-idle"].measure(rows) == pytest.approx(0, abs=1e-12)
    assert "3 to 9" in claims["later-layers-idle"].statistic


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_net_that_has_hardly_learnt_is_no_answer(claim):
    """No lesion changes its error, which must not count as idle layers."""
    assert math.isnan(claim.measure(rows_with([0.2] * 14 + [0.0] * 35, guessing=0.04)))
    assert not math.isnan(claim.measure(rows_with([0.2] * 14 + [0.0] * 35, guessing=0.05)))


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_no_rows_are_no_answer(claim):
    assert math.isnan(claim.measure([]))
