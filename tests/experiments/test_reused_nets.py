"""Networks of another run (`nets_of`): reused if every setting is the same, refused if one differs."""

import pytest
from compared_tiny import TINY as COMPARED
from measured_tiny import TINY, rows_of
from tiny_runs import StopsAt, complete, create, numbers, run_until_stopped

from thruway.errors import ConfigError, RunError
from thruway.experiments import STUDIES
from thruway.experiments.highway2015 import VERY_DEEP, very_deep
from thruway.runs import open_run
from thruway.runs.checkpoints import save_checkpoint

REUSING = ["veit2016.paths", "veit2016.effective_paths"]  # one reuses all of its networks, the other one of two


@pytest.fixture(scope="module")
def other_run(tmp_path_factory):
    return complete(
        tmp_path_factory.mktemp("runs") / "other",
        "veit2016.lesion",
        TINY["veit2016.lesion"].model_copy(update={"plain": ()}),
    )


@pytest.mark.parametrize("name", REUSING)
def test_networks_of_another_run_equal_those_that_would_be_trained(name, other_run, tmp_path):
    config = TINY[name].model_copy(update={"seeds": 1})
    trained = complete(tmp_path / "trained", name, config)
    reused = complete(tmp_path / "reused", name, config.model_copy(update={"nets_of": other_run}))
    assert rows_of(reused, name, config) == rows_of(trained, name, config)
    assert numbers(reused) == numbers(trained)
    seconds = open_run(reused).table(site="resnet", quantity="seconds")["value"]
    assert seconds.tolist() == [0.0]  # it was not trained in this run


def test_networks_trained_with_other_settings_are_refused(other_run, tmp_path):
    changes = {"nets_of": other_run, "learning_rate": 0.05, "widths": (2, 3, 5)}
    config = TINY["veit2016.paths"].model_copy(update=changes)
    message = r"resnet of seed 0 in .*other was trained with other settings: learning_rate, net differ"
    with pytest.raises(ConfigError, match=message):
        complete(tmp_path / "run", "veit2016.paths", config)


def test_networks_stored_before_a_setting_existed_had_its_default(tmp_path):
    config = TINY["veit2016.paths"].model_copy(update={"seeds": 1})
    older = complete(tmp_path / "older", "veit2016.paths", config)
    stored = open_run(older).load("net-resnet-0")
    recipe = {key: value for key, value in stored.state["recipe"].items() if key not in ("contrast", "nesterov")}
    save_checkpoint(older, "net-resnet-0", stored.tensors, {**stored.state, "recipe": recipe})
    reused = complete(tmp_path / "reused", "veit2016.paths", config.model_copy(update={"nets_of": older}))
    assert open_run(reused).table(site="resnet", quantity="seconds")["value"].tolist() == [0.0]
    other = config.model_copy(update={"nets_of": older, "nesterov": True})
    with pytest.raises(ConfigError, match="trained with other settings: nesterov differ"):
        complete(tmp_path / "other", "veit2016.paths", other)


def test_nets_of_must_be_a_run_folder(tmp_path):
    config = TINY["veit2016.paths"].model_copy(update={"nets_of": tmp_path})
    with pytest.raises(RunError):
        STUDIES["veit2016.paths"].prepare(config)


def test_unfinished_networks_of_another_run_are_trained(tmp_path):
    config = TINY["veit2016.paths"].model_copy(update={"seeds": 1})
    assert not run_until_stopped(
        create(tmp_path / "half", "veit2016.paths", config), "veit2016.paths", config, StopsAt(1)
    )
    whole = complete(tmp_path / "whole", "veit2016.paths", config)
    trained = complete(tmp_path / "run", "veit2016.paths", config.model_copy(update={"nets_of": tmp_path / "half"}))
    assert rows_of(trained, "veit2016.paths", config) == rows_of(whole, "veit2016.paths", config)
    assert open_run(trained).table(site="resnet", quantity="seconds")["value"].tolist()[0] > 0


# --- settings of a study

VERY = very_deep.Config(depth=10, width=6, examples=60, test_examples=40, epochs=1, batch=20, gate_bias=-1.0)
CONFIGS = {name: config.model_copy(update={"seeds": 1, "epochs": 1}) for name, config in COMPARED.items()}
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
