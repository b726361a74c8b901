"""The study of 1,000 layers: its rows against the networks, each claim held and failed; such a network learns."""

import html
import json
import math

import pytest
import torch
from tiny_runs import StopsAt, complete, create, run_until_stopped
from torch.nn import functional as F

from thruway.experiments.highway2015 import VERY_DEEP
from thruway.experiments.highway2015.very_deep import SCALES, Config, claims, measurements
from thruway.experiments.machinery import judge, load_images
from thruway.experiments.machinery.training import trained_net
from thruway.runs import Run, open_run

CONFIG = Config(
    depth=10,
    width=6,
    examples=100,
    test_examples=40,
    epochs=3,
    batch=25,
    gate_bias=-1.0,
    seeds=2,
    plain_activations=("relu", "tanh"),
    plain_rates=(0.1, 1e30),  # one that learns, and one that diverges
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return complete(tmp_path_factory.mktemp("runs") / "very_deep", VERY_DEEP.name, CONFIG)


@pytest.fixture(scope="module")
def rows(folder):
    return VERY_DEEP.rows(open_run(folder), CONFIG)


def test_every_net_of_every_seed_has_its_row(rows):
    plain = [("plain", activation, rate, 9) for activation in ("relu", "tanh") for rate in (0.1, 1e30)]
    wanted = [(seed, *net) for seed in (0, 1) for net in (("highway", "relu", 0.1, 6), *plain)]
    keys = ("seed", "block", "activation", "learning_rate", "width")
    assert [
        tuple(row[key] for key in keys) for row in rows
    ] == wanted  # 9·10 = 90 parameters against 2·6·7 = 84, and 8·9 = 72
    assert all(len(row["losses"]) == 3 for row in rows)


def test_a_row_is_what_the_net_does(folder, rows):
    parts, reader = load_images(CONFIG), open_run(folder)
    for each, row in zip(measurements(CONFIG), rows, strict=True):
        if row["learning_rate"] > 1:
            assert not math.isfinite(row["final_loss"])
            continue
        net = trained_net(CONFIG, each.net, parts, reader)
        with torch.no_grad():
            logits, tested = net(parts.train.images), net(parts.test.images)
        loss = F.cross_entropy(logits.double(), parts.train.labels).item()
        assert row["final_loss"] == pytest.approx(loss, rel=1e-5)  # 100 float32 losses added up
        assert row["train_error"] == (logits.argmax(1) != parts.train.labels).double().mean().item()
        assert row["test_error"] == (tested.argmax(1) != parts.test.labels).double().mean().item()
        assert row["chance_loss"] == math.log(10)
        if row["block"] == "highway":
            gates = net.blocks.layer_states(net.stem(parts.train.images.flatten(1)).detach()).t
            wanted = gates.double().mean((1, 2)).tolist()
            assert row["gates"] == pytest.approx(wanted, rel=6e-4)  # four digits are kept


def test_losses_are_those_of_training(folder, rows):
    table = open_run(folder).table(site="highway", member=1, quantity="train_loss")
    (row,) = [row for row in rows if (row["block"], row["seed"]) == ("highway", 1)]
    assert row["losses"] == table["value"].tolist()
    assert row["losses"][-1] < row["losses"][0]


def test_plain_nets_of_one_activation_start_alike(rows):
    """They differ in the rate alone; the highway net has weights of its own."""
    nets = {each.net.name: each.net for each in measurements(CONFIG) if each.net.seed == 0}
    assert {net.weights for net in nets.values()} == {"highway-relu", "plain-relu", "plain-tanh"}
    assert nets["plain-relu-0.1"].learning_rate == 0.1
    assert nets["plain-relu-1e+30"].learning_rate == 1e30


@pytest.mark.slow
def test_interrupted_resumed_and_reported_at_every_step_is_the_same(tmp_path):
    config = CONFIG.model_copy(update={"seeds": 1, "epochs": 2, "plain_activations": ("tanh",), "plain_rates": (0.1,)})
    whole = VERY_DEEP.rows(open_run(complete(tmp_path / "whole", VERY_DEEP.name, config)), config)
    folder, resumed, is_done = tmp_path / "run", 0, False
    with create(folder, VERY_DEEP.name, config):
        pass
    while not is_done:
        table, verdicts = VERY_DEEP.report(open_run(folder), folder)
        assert bool(verdicts) == bool(table.rows)
        is_done = run_until_stopped(Run.resume(folder), VERY_DEEP.name, config, StopsAt(1))
        resumed += 1
        assert resumed < 9
    assert resumed == 6 + 1  # two networks of two epochs and a test each, and a last time with nothing left to do
    assert VERY_DEEP.rows(open_run(folder), config) == whole


def test_the_report_says_what_the_rows_say(folder, rows):
    table, verdicts = VERY_DEEP.report(open_run(folder), folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["rows"] == json.loads(json.dumps(rows).replace("NaN", "null").replace("Infinity", "null"))
    assert [claim["verdict"] for claim in summary["claims"]] == [verdict.verdict for verdict in verdicts]
    assert len(table.rows) == 10
    differs = " ".join(summary["meta"]["differs from the paper"])
    assert "data: digits; at paper scale: cifar100" in differs
    assert "depth: 10; at paper scale: 900" in differs
    page = html.unescape((folder / "report.html").read_text())
    for said in ("Does a highway network of 10 layers train?", *(verdict.text for verdict in verdicts)):
        assert said in page


def test_the_answer_says_how_many_open_layers_the_gates_amount_to(folder, rows):
    """The sum of all gates of a network, mean of both seeds; and, in the claim, their sum at the start."""
    _, verdicts = VERY_DEEP.report(open_run(folder), folder)
    gates = [sum(row["gates"]) for row in rows if row["block"] == "highway"]
    page = html.unescape((folder / "report.html").read_text())
    assert f"The sum of its gates is that of {sum(gates) / 2:.1f} open layers" in page
    began = 9 / (1 + math.e)
    (learns,) = [verdict for verdict in verdicts if verdict.id == "highway-learns"]
    assert f"an initial gate bias of -1 all layers together start like {began:.1f} open ones" in learns.statistic


def test_gates_may_begin_as_shut_as_can_be(tmp_path):
    """exp(800) overflows."""
    config = CONFIG.model_copy(update={"gate_bias": -800.0, "seeds": 1, "epochs": 1, "plain_rates": (0.1,)})
    folder = complete(tmp_path / "run", VERY_DEEP.name, config)
    VERY_DEEP.report(open_run(folder), folder)
    page = html.unescape((folder / "report.html").read_text())
    assert "the initial value is 0. Their sum over all layers is 0.0" in page


@pytest.mark.slow
def test_a_thousand_layers_learn_digits():
    """The claim itself, on a third of the demo: to half of the loss of guessing in forty steps."""
    config = SCALES["demo"].model_copy(update={"examples": 600, "epochs": 4, "width": 20, "batch": 50})
    parts = load_images(config)
    net = measurements(config)[0].net.build(parts, torch.Generator().manual_seed(0), torch.Generator())
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9)
    first = None
    for step in range(40):
        at = torch.arange(step * 50, step * 50 + 50) % len(parts.train)
        loss = F.cross_entropy(net(parts.train.images[at]), parts.train.labels[at])
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert len(net.blocks.weight) == 999
    assert first > 0.9 * math.log(10)
    assert loss.item() < 0.5 * math.log(10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plain_rates": (0.1, 0.0)}, "learning rates above 0"),
        ({"plain_rates": (0.1, 0.1)}, "plain_rates must differ"),
        ({"plain_activations": ("relu", "relu")}, "plain_activations must differ"),
        ({"plain_rates": (0.1, math.nan)}, "finite number"),
        ({"plain_rates": (math.inf,)}, "finite number"),
        ({"gate_bias": math.nan}, "finite number"),
        ({"gate_bias": -math.inf}, "finite number"),
    ],
    ids=["rate of 0", "rate twice", "activation twice", "rate nan", "rate inf", "bias nan", "bias inf"],
)
def test_configs_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)


# --- claims

CLAIMS = {claim.id: claim for claim in claims(Config())}
CHANCE = 2.0


def rows_with(highway, plain, error=0.1, seed=0):
    """The losses of the highway net, and of each plain net."""
    row = {"seed": seed, "chance_loss": CHANCE, "guessing": 0.8, "train_error": error}
    nets = [("highway", highway), *(("plain", losses) for losses in plain)]
    return [{**row, "block": block, "losses": losses} for block, losses in nets]


NAN = math.nan
PAPER = rows_with([2.0, 1.0, 0.5, 0.6], [[2.0, 1.98], [2.1, NAN]])
PLAIN_TOO = rows_with([2.0, 1.0], [[2.0, 1.9], [2.1, 0.4, 3.0]])
OTHERWISE = rows_with([2.0, 1.0, 1.5, 2.0], [[2.0, 1.9], [2.1, 0.4, 3.0]], error=0.7)


@pytest.mark.parametrize(
    ("claim", "rows", "value", "verdict"),
    [
        ("highway-learns", PAPER, 0.1 / 0.8, "holds"),
        ("highway-learns", OTHERWISE, 0.7 / 0.8, "fails"),
        ("without-trouble", PAPER, 0.1 / CHANCE, "holds"),
        ("without-trouble", OTHERWISE, 1.0 / CHANCE, "fails"),
        ("without-trouble", rows_with([2.0, 1.0, NAN], []), math.inf, "fails"),
        ("plain-does-not", PAPER, 1.98 / CHANCE, "holds"),
        ("plain-does-not", PLAIN_TOO, 0.4 / CHANCE, "fails"),  # the best of all, though it ended badly
        ("plain-does-not", rows_with([1.0], [[NAN, NAN]]), math.inf, "holds"),
    ],
)
def test_claims(claim, rows, value, verdict):
    judged = judge(CLAIMS[claim], rows)
    assert judged.value == pytest.approx([value], rel=1e-12)
    assert judged.verdict == verdict


def test_every_claim_is_tested_above():
    assert set(CLAIMS) == {"highway-learns", "without-trouble", "plain-does-not"}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_no_rows_are_no_answer(claim):
    assert math.isnan(claim.measure([]))
    block = "highway" if claim.id == "plain-does-not" else "plain"
    assert math.isnan(claim.measure([row for row in PAPER if row["block"] == block]))


@pytest.mark.parametrize(("error", "is_answer"), [(0.41, False), (0.40, True)])
def test_plain_nets_are_judged_beside_a_highway_net_that_has_learnt(error, is_answer):
    """Guessing gets 0.8 wrong. If the highway network does not learn either, there is no verdict on plain ones."""
    found = CLAIMS["plain-does-not"].measure(rows_with([2.0, 1.9], [[2.0, 1.98]], error=error))
    assert math.isnan(found) != is_answer


def test_one_epoch_says_nothing_of_setbacks():
    assert math.isnan(CLAIMS["without-trouble"].measure(rows_with([2.0], [])))
