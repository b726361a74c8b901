"""Nets of another run that differ in a setting of their study alone: they are other nets, and are refused."""

import pytest
from compared_tiny import STUDIES, TINY, complete
from thruway.experiments.highway2015.very_deep_study import VERY_DEEP
from veit_tiny import create

from thruway.errors import ConfigError
from thruway.experiments import STUDIES, Silent
from thruway.experiments.highway2015 import very_deep
from thruway.runs import open_run

VERY = very_deep.Config(depth=10, width=6, examples=60, test_examples=40, epochs=1, batch=20, gate_bias=-1.0)
GIVEN = {name: config.model_copy(update={"seeds": 1, "epochs": 1}) for name, config in TINY.items()}
GIVEN |= {
    "highway2015.mnist_conv": GIVEN["highway2015.mnist_conv"].model_copy(update={"widths": (2,)}),
    VERY_DEEP.name: VERY,
}
NEARLY = (0.0, -6.0000001)  # of the same name as -6

# What decides a net and is no part of `ImageStudy`; where the name of the net has it, changed by less than that tells.
CHANGES = [
    ("srivastava2025.reply", "gate_bias", -2.5),
    ("srivastava2025.reply", "modules", 2),
    ("srivastava2025.reply", "widths", (2, 3, 5)),
    ("he2016.gates", "exclusive", NEARLY),
    ("he2016.gates", "shortcut", NEARLY[1:]),
    ("he2016.gates", "highway", NEARLY),
    ("he2016.gates", "modules", 2),
    ("he2016.gates", "widths", (2, 3, 5)),
    ("highway2015.mnist_conv", "gate_bias", -3.0),
    ("highway2015.mnist_conv", "dropout", False),
    ("highway2015.cifar", "gate_bias", -4.0),
    ("highway2015.cifar", "dropout", False),
    ("highway2015.cifar", "narrower", 8),
    (VERY_DEEP.name, "gate_bias", -2.0),
    (VERY_DEEP.name, "depth", 11),
    (VERY_DEEP.name, "width", 7),
    (VERY_DEEP.name, "activation", "tanh"),
    (VERY_DEEP.name, "plain_rates", (0.10000001,)),
]


def run_into(folder, name, config):
    if name in STUDIES:
        return complete(folder, name, config)
    with create(folder, name, config) as run:
        STUDIES[name].run(config, STUDIES[name].prepare(config), run, Silent())
    return folder


@pytest.fixture(scope="module")
def givers(tmp_path_factory):
    """The run of every study, made when it is first asked for."""
    made, place = {}, tmp_path_factory.mktemp("givers")

    def of(name):
        if name not in made:
            made[name] = run_into(place / name, name, GIVEN[name])
        return made[name]

    return of


@pytest.mark.parametrize("name", GIVEN)
def test_nets_of_the_same_settings_are_taken_over(name, givers, tmp_path):
    taken = run_into(tmp_path / "taken", name, GIVEN[name].model_copy(update={"nets_of": givers(name)}))
    trained = open_run(taken).table(quantity="seconds")
    assert {seconds for step, seconds in zip(trained["step"], trained["value"], strict=True) if step > 0} == {0.0}


@pytest.mark.parametrize(
    ("name", "setting", "value"), CHANGES, ids=[f"{name}-{setting}" for name, setting, _ in CHANGES]
)
def test_nets_of_another_setting_are_refused(name, setting, value, givers, tmp_path):
    config = GIVEN[name].model_copy(update={"nets_of": givers(name), setting: value})
    with pytest.raises(ConfigError, match=r"was trained otherwise; (net|rate) differ"):
        run_into(tmp_path / "run", name, config)
