"""Networks of another run (`nets_of`): reused with the same settings, refused if a setting of the study differs."""

import pytest
from compared_tiny import TINY
from tiny_runs import complete

from thruway.errors import ConfigError
from thruway.experiments.highway2015 import VERY_DEEP, very_deep
from thruway.runs import open_run

VERY = very_deep.Config(depth=10, width=6, examples=60, test_examples=40, epochs=1, batch=20, gate_bias=-1.0)
CONFIGS = {name: config.model_copy(update={"seeds": 1, "epochs": 1}) for name, config in TINY.items()}
CONFIGS |= {
    "highway2015.mnist_conv": CONFIGS["highway2015.mnist_conv"].model_copy(update={"widths": (2,)}),
    VERY_DEEP.name: VERY,
}
NEARLY = (0.0, -6.0000001)  # the network has the same name as with -6

# Settings of a network that are not in `ImageConfig`. Where the network's name contains the setting, the change is so
# small that the name stays the same.
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


@pytest.fixture(scope="module")
def first_runs(tmp_path_factory):
    """Study -> its first run, made on the first call."""
    made, place = {}, tmp_path_factory.mktemp("first")

    def of(name):
        if name not in made:
            made[name] = complete(place / name, name, CONFIGS[name])
        return made[name]

    return of


@pytest.mark.parametrize("name", CONFIGS)
def test_networks_with_the_same_settings_are_reused(name, first_runs, tmp_path):
    config = CONFIGS[name].model_copy(update={"nets_of": first_runs(name)})
    table = open_run(complete(tmp_path / "reused", name, config)).table(quantity="seconds")
    assert {seconds for step, seconds in zip(table["step"], table["value"], strict=True) if step > 0} == {0.0}


@pytest.mark.parametrize(
    ("name", "setting", "value"), CHANGES, ids=[f"{name}-{setting}" for name, setting, _ in CHANGES]
)
def test_networks_with_another_setting_are_refused(name, setting, value, first_runs, tmp_path):
    config = CONFIGS[name].model_copy(update={"nets_of": first_runs(name), setting: value})
    with pytest.raises(ConfigError, match=r"was trained with other settings: (net|rate) differ"):
        complete(tmp_path / "run", name, config)
