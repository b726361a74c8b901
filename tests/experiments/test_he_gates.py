"""The networks of the study of gated shortcuts, and its report of errors made up by hand."""

import html
import math

import pytest
import torch
from compared_tiny import SMALL, blank, built, contenders
from pydantic import ValidationError
from tiny_runs import create

from thruway.experiments.he2016 import GATES, gates
from thruway.networks import JOININGS
from thruway.runs import open_run

NAME = "he2016.gates"
CONFIG = gates.Config(**SMALL, exclusive=(0.0, -3.0, -6.0))


@pytest.fixture(scope="module")
def nets():
    return built(NAME, CONFIG, blank(1, 8))


def test_every_joining_has_its_network(nets):
    assert list(nets) == [
        "identity",
        *("exclusive0", "exclusive-3", "exclusive-6"),
        *("shortcut0", "shortcut-6", "highway0", "highway-6"),
        *("scaled", "project", "dropout"),
    ]
    assert set(gates.LABELS) == set(JOININGS) - {"scaled-shortcut"}


def joined(name, module, x):
    """y of a module from x, by the formulas of the two papers, with the module's own branch and gate."""
    if name.startswith("exclusive"):
        return (module.gate(x) * module.transform(x) + (1 - module.gate(x)) * x).relu()
    if name.startswith("highway"):  # from 2 channels to seven eighths of them, 1
        return module.gate(x) * module.transform(x) + (1 - module.gate(x)) * module.shortcut(x)
    if name.startswith("shortcut"):
        return (module.branch(x) + (1 - module.shortcut.gate(x)) * x).relu()
    if name == "scaled":
        return (0.5 * module.branch(x) + 0.5 * x).relu()
    if name == "project":
        return (module.branch(x) + module.shortcut(x)).relu()
    return (module.branch(x) + x).relu()  # identity, and dropout, which drops nothing in evaluation


def test_modules_are_joined_as_their_names_say():
    x = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(0)).double().relu()
    for name, net in built(NAME, CONFIG, blank(1, 8)).items():
        module = net.double().eval().blocks[0]
        with torch.no_grad():  # sums in another order
            torch.testing.assert_close(module(x), joined(name, module, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [0.0, -3.0, -6.0])
def test_gates_start_at_their_bias(nets, bias):
    gate = nets[f"exclusive{bias:g}"].blocks[0].gate
    assert (gate.layers[-1].bias == bias).all()
    at_nothing = gate(torch.zeros(1, 2, 4, 4, dtype=gate.layers[-1].bias.dtype))
    assert at_nothing.max().item() == pytest.approx(1 / (1 + math.exp(-bias)), rel=1e-6)  # float32 or better


def test_biases_and_others_can_be_chosen():
    config = gates.Config(**SMALL, exclusive=(-1.5,), shortcut=(), highway=(), others=("project",))
    assert [each.name for each in contenders(NAME, config)] == ["identity", "exclusive-1.5", "project"]


@pytest.mark.parametrize(
    "change",
    [
        {"exclusive": (0.0, -0.0)},
        {"highway": (-6.0, -6.0)},
        {"others": ("scaled", "scaled")},
        {"others": ("halved",)},
        {"exclusive": (math.nan,)},
    ],
    ids=["zeros", "biases", "others", "unknown", "nan"],
)
def test_invalid_configs_are_refused(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        gates.Config(**change)


def test_augmentation_pads_with_zeros_as_published():
    config = gates.SCALES["paper"]
    assert (config.augment, config.reach, config.fill) == (True, None, "zeros")  # None: 4 of 32


# --- the report of errors made up by hand

ERRORS = {
    "identity": 0.10,
    "exclusive0": 0.50,
    "exclusive-3": 0.30,
    "exclusive-6": 0.20,
    "shortcut0": 0.15,
    "shortcut-6": 0.11,
    "highway0": 0.11,
    "highway-6": 0.10,
    "scaled": 0.20,
    "project": 0.20,
    "dropout": 0.90,
}


def reported(folder, errors):
    with create(folder, NAME, CONFIG) as run:
        for net, error in errors.items():
            row = {"net": net, "seed": 0, "parameters": 5, "error": error, "train_error": 0.0, "guessing": 0.9}
            run.save(f"tested-{net}-0", {}, state={"rows": [row]})
    table, verdicts = GATES.report(open_run(folder), folder)
    return table, verdicts, html.unescape((folder / "report.html").read_text())


def test_the_lead_says_how_much_the_bias_explains(tmp_path):
    """With 0 the exclusive gate loses 40 points, with -6 it loses 10: the bias explains three quarters."""
    _, verdicts, page = reported(tmp_path / "run", ERRORS)
    assert "The exclusive gate has 50.0% with a bias of 0, and 20.0% with -6: the bias explains 75% of the diff" in page
    assert "The reply's gate has 11.0% with a bias of 0, and 10.0% with -6." in page  # no share of a single point
    held = {verdict.id for verdict in verdicts if verdict.verdict == "holds"}
    assert held >= {"exclusive0-fails", "exclusive-3-fails", "a-low-bias-rescues", "highway-6-is-as-good"}
    assert "highway0-fails" not in held


def test_the_lead_says_when_a_lower_bias_does_not_help(tmp_path):
    _, _, page = reported(tmp_path / "run", {**ERRORS, "exclusive-6": 0.6})
    assert "has 50.0% with a bias of 0, and 60.0% with -6: the lower bias does not help." in page


def test_the_table_has_every_network_and_marks_the_best(tmp_path):
    table, _, _ = reported(tmp_path / "run", {**ERRORS, "highway-6": 0.05})
    assert [row[0] for row in table.rows] == [each.label for each in contenders(NAME, CONFIG)]
    marked = {row[0]: row[3].value for row in table.rows if getattr(row[3], "mark", "") == "best"}
    assert marked == {"the reply's gate, b = -6": 0.05}


def test_a_report_of_some_networks_says_so(tmp_path):
    some = {name: ERRORS[name] for name in ("identity", "exclusive-6")}
    table, verdicts, page = reported(tmp_path / "run", some)
    assert "Test errors so far: identity 10.0%, exclusive gate, b = -6 20.0%." in page
    assert len(table.rows) == 2
    assert {verdict.id for verdict in verdicts if verdict.verdict != "unclear"} == {"exclusive-6-is-worse"}
