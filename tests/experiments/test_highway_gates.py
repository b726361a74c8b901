"""The study of gates: its rows against recorded passes, its claims, its networks: those of the lesion study."""

import html
import json
import math

import pytest
import torch
from tiny_runs import StopsAt, complete, create, run_until_stopped

from thruway.errors import ConfigError
from thruway.experiments.highway2015 import GATES, LESION, gates, lesion
from thruway.experiments.highway2015.gates_page import lead, seed_table
from thruway.experiments.highway2015.lesion import highway_net
from thruway.experiments.highway2015.recorded_gates import record_pass
from thruway.experiments.machinery import judge, load_images
from thruway.experiments.machinery.training import trained_net
from thruway.runs import Run, open_run

CONFIG = gates.Config(
    depth=10,
    width=6,
    examples=100,
    test_examples=40,
    epochs=2,
    batch=25,
    gate_bias=-1.0,
    looked_at=80,
    example=3,
    classes=(2, 5),
)


def rows_of(folder, config=CONFIG):
    return GATES.rows(open_run(folder), config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return complete(tmp_path_factory.mktemp("runs") / "gates", GATES.name, CONFIG)


@pytest.fixture(scope="module")
def recorded(folder):
    parts = load_images(CONFIG)
    net = trained_net(CONFIG, highway_net(CONFIG, 0), parts, open_run(folder))
    return net, record_pass(net, parts.train.images[:80]), parts.train.labels[:80]


def test_a_row_per_layer_is_what_its_units_say(folder, recorded):
    net, (inputs, gates_, outputs, logits), labels = recorded
    rows = [row for row in rows_of(folder) if row["what"] == "layer"]
    assert [row["layer"] for row in rows] == list(range(2, 11))  # the first layer is a plain one
    gates_, inputs, outputs = gates_.double(), inputs.double(), outputs.double()
    for layer, row in enumerate(rows):
        bias = net.blocks.bias[layer, 6:].detach().double()
        mean = gates_[layer].mean(0)
        away = [gates_[layer][labels == number].mean(0) - mean for number in CONFIG.classes]
        wanted = {
            "bias": bias.mean(),
            "fallen": (bias < -1).double().mean(),
            "gate": mean.mean(),
            "change": (outputs[layer] - inputs[layer]).norm() / inputs[layer].norm(),
            "difference": (away[0].abs().mean() + away[1].abs().mean()) / 2,
            "error": (logits.argmax(1) != labels).double().mean(),
        }
        for key, value in wanted.items():
            assert row[key] == pytest.approx(float(value), rel=1e-10), key  # float64 sums in another order
    assert 0 < sum(row["fallen"] for row in rows) < len(rows)


def test_the_whole_net_has_its_sparseness(folder, recorded):
    _, (_, gates_, _, _), _ = recorded
    (row,) = [row for row in rows_of(folder) if row["what"] == "whole"]
    each = gates_.double().transpose(0, 1).flatten(1)
    assert row["sparseness"] == pytest.approx(float((each.mean(1) ** 2 / (each**2).mean(1)).mean()), rel=1e-10)


def test_maps_are_the_units_of_one_example_and_of_all(folder, recorded):
    net, (_, gates_, outputs, _), labels = recorded
    rows = [row for row in rows_of(folder) if row["what"] == "map"]
    assert len(rows) == 9
    for layer, row in enumerate(rows):
        mean = gates_[layer].double().mean(0)
        wanted = {
            "bias": net.blocks.bias[layer, 6:].detach(),
            "gate": mean,
            "gate_of_one": gates_[layer, 3],
            "output_of_one": outputs[layer, 3],
        }
        for kind, values in wanted.items():
            # Four digits are kept.
            torch.testing.assert_close(torch.tensor(row[kind]).double(), values.double(), rtol=6e-4, atol=1e-9)
        for number, found in zip(CONFIG.classes, row["differences"], strict=True):
            away = gates_[layer][labels == number].double().mean(0) - mean
            torch.testing.assert_close(torch.tensor(found).double(), away, rtol=6e-4, atol=1e-9)
        assert (row["classes"], row["class_of_one"]) == (["2", "5"], str(labels[3].item()))


def test_the_nets_are_those_of_the_lesion_study(tmp_path):
    config = CONFIG.model_copy(update={"epochs": 1})
    shared = {key: value for key, value in config.model_dump().items() if key in lesion.Config.model_fields}
    giver = complete(tmp_path / "lesion", LESION.name, lesion.Config(**shared, lesioned_examples=20))
    taken = complete(tmp_path / "taken", GATES.name, config.model_copy(update={"nets_of": giver}))
    own = complete(tmp_path / "own", GATES.name, config)
    assert rows_of(taken, config) == rows_of(own, config)
    assert open_run(taken).table(site="highway", quantity="seconds")["value"].tolist() == [0.0]  # reused, not trained
    assert {name: scale.model_dump(exclude={"lesioned_examples"}) for name, scale in lesion.SCALES.items()} == {
        name: scale.model_dump(exclude={"looked_at", "example", "classes"}) for name, scale in gates.SCALES.items()
    }


@pytest.mark.slow
def test_the_report_says_what_the_rows_say_at_every_step(folder, tmp_path):
    resumed, is_done = 0, False
    with create(tmp_path / "run", GATES.name, CONFIG):
        pass
    while not is_done:
        table, verdicts = GATES.report(open_run(tmp_path / "run"), tmp_path / "run")
        assert bool(verdicts) == bool(table.rows)
        is_done = run_until_stopped(Run.resume(tmp_path / "run"), GATES.name, CONFIG, StopsAt(1))
        resumed += 1
        assert resumed < 9
    assert resumed == 4 + 1  # two epochs, two measurements, and a last time with nothing left to do
    assert rows_of(tmp_path / "run") == rows_of(folder)
    _, verdicts = GATES.report(open_run(tmp_path / "run"), tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["rows"] == json.loads(json.dumps(rows_of(folder)))
    assert len(verdicts) == 5
    page = html.unescape((tmp_path / "run" / "report.html").read_text())
    for said in ("gates of a deep highway network", "fig. 2", "fig. 3", *(verdict.text for verdict in verdicts)):
        assert said in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"example": 100}, "example: got 100, but there are 100 training examples"),
        (
            {"classes": (0, 10)},
            r"classes: got 10, but none of the first 80 examples .* The classes are: 0 0, 1 1, .*9 9",
        ),
    ],
    ids=["example", "class"],
)
def test_what_the_data_does_not_have_is_refused_before_a_run_is_made(options, message):
    with pytest.raises(ConfigError, match=message):
        GATES.prepare(CONFIG.model_copy(update=options))


@pytest.mark.parametrize("classes", [(3, 3), (-1, 2)], ids=["twice", "negative"])
def test_two_classes_are_two_classes(classes):
    with pytest.raises(ValueError, match="two different numbers, at least 0"):
        gates.Config(classes=classes)


def test_measurements_cost_less_than_training():
    """Progress must not jump: a measurement is a forward pass or two."""
    found, parts = gates.measurements(CONFIG), load_images(CONFIG)
    assert [(each.name, each.net.seed) for each in found] == [("layers", 0), ("maps", 0)]
    assert [each.cost(parts) for each in found] == [40, 40]  # half a training step for each of the 80 examples


# --- claims

# CIFAR-100 for the claim that is about it alone.
CLAIMS = {claim.id: claim for claim in gates.claims(gates.Config(data="cifar100"))}


def rows_with(early, late, sparseness=0.05, error=0.02):
    """49 highway layers of 50: the first 14 as `early`, the others as `late`; biases and gates run with depth."""
    layers = []
    for layer in range(2, 51):
        level = early if layer <= 15 else late
        rise = {"bias": level["bias"] + layer * level["slope"] / 100, "gate": level["gate"] - layer * 1e-4}
        layers.append({"seed": 0, "what": "layer", "layer": layer, **level, **rise, "error": error, "guessing": 0.9})
    return [*layers, {"seed": 0, "what": "whole", "sparseness": sparseness, "error": error, "guessing": 0.9}]


LOW = {"bias": -4.0, "slope": 1.0, "fallen": 0.8, "gate": 0.2, "change": 0.4, "difference": 0.2}
# As in the paper: biases fall and rise with depth, the gates go the other way, what happens is early.
PAPER = rows_with(LOW, {**LOW, "bias": -2.5, "gate": 0.06, "change": 0.04, "difference": 0.01})
OTHERWISE = rows_with(
    {**LOW, "slope": -1.0, "fallen": 0.1, "gate": 0.9, "change": 0.1, "difference": 0.01},
    {**LOW, "slope": -1.0, "fallen": 0.1, "gate": 0.8, "change": 0.4, "difference": 0.2, "bias": -4.5},
    sparseness=0.9,
)


def mean_gate(early, late):
    return (14 * early + 35 * late - 1e-4 * sum(range(2, 51))) / 49


@pytest.mark.parametrize(
    ("claim", "rows", "value", "verdict"),
    [
        ("biases-fall", PAPER, 0.8, "holds"),
        ("biases-fall", OTHERWISE, 0.1, "fails"),
        ("gates-low", PAPER, round(mean_gate(0.2, 0.06) * (1 + math.exp(2)), 10), "holds"),
        ("gates-low", OTHERWISE, round(mean_gate(0.9, 0.8) * (1 + math.exp(2)), 10), "fails"),
        ("one-example-opens-few", PAPER, 0.05, "holds"),
        ("one-example-opens-few", OTHERWISE, 0.9, "fails"),
        ("low-bias-selects", PAPER, -1, "holds"),
        ("low-bias-selects", OTHERWISE, 1, "fails"),
        ("outputs-stay", PAPER, 0.1, "holds"),
        ("outputs-stay", OTHERWISE, 4.0, "fails"),
        ("classes-differ-early", PAPER, 14 * 0.2 / (14 * 0.2 + 35 * 0.01), "holds"),
        ("classes-differ-early", OTHERWISE, 14 * 0.01 / (14 * 0.01 + 35 * 0.2), "fails"),
    ],
)
def test_claims(claim, rows, value, verdict):
    judged = judge(CLAIMS[claim], rows)
    assert judged.value == pytest.approx([value], rel=1e-9)
    assert judged.verdict == verdict


def test_every_claim_is_tested_above():
    assert set(CLAIMS) == {"biases-fall", "gates-low", "one-example-opens-few", "low-bias-selects", "outputs-stay",
                           "classes-differ-early"}  # fmt: skip


def test_gates_that_stay_as_they_began_are_the_border():
    """A network whose gates have not changed is exactly at the threshold."""
    claim, start = CLAIMS["gates-low"], 1 / (1 + math.exp(2))
    slope = 1e-4 * sum(range(2, 51)) / 49  # what `rows_with` takes off
    for factor, verdict in ((0.999, "holds"), (1.001, "fails")):
        level = {**LOW, "gate": factor * start + slope}
        assert judge(claim, rows_with(level, level)).verdict == verdict
    shut = {each.id: each for each in gates.claims(gates.Config(gate_bias=-800.0))}
    assert math.isnan(shut["gates-low"].measure(PAPER))


def test_the_claim_about_cifar_100_is_judged_there_only():
    assert set(CLAIMS) - {claim.id for claim in gates.claims(gates.Config())} == {"low-bias-selects"}


def test_its_number_stays_in_the_table_and_the_answer_explains_sparseness():
    config = gates.Config()
    (line,) = seed_table(PAPER, config).rows
    table = dict(zip(seed_table(PAPER, config).columns, line, strict=True))
    assert table["bias with gate"] == pytest.approx(-1, rel=1e-9)
    assert table["mean gate"] == pytest.approx(mean_gate(0.2, 0.06), rel=1e-9)
    assert table["mean gate / start"] == pytest.approx(mean_gate(0.2, 0.06) * (1 + math.exp(2)), rel=1e-9)
    said = lead(PAPER, config)
    assert "a gate is 10% open, 0.82 times as far as at initialization" in said
    assert "for one example is 0.05, where 1 means that all are equally open, however little" in said


def test_claims_are_about_the_paper_s_share_of_the_depth():
    claims = {claim.id: claim for claim in gates.claims(gates.Config(depth=10))}
    layers = [row for row in PAPER if row["what"] == "layer" and row["layer"] <= 10]
    rows = [{**row, "change": 1.0 if row["layer"] <= 3 else 0.25} for row in layers]
    assert claims["outputs-stay"].measure(rows) == pytest.approx(0.25, rel=1e-12)
    assert "after 3" in claims["outputs-stay"].statistic


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_net_that_has_hardly_learnt_is_no_answer(claim):
    assert math.isnan(claim.measure(rows_with(LOW, LOW, error=0.45)))
    assert not math.isnan(claim.measure(rows_with(LOW, LOW, error=0.44)))
    assert math.isnan(claim.measure([]))
