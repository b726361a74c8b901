"""Asked wrongly, the command names what came, what is allowed and what is nearest, and leaves nothing behind."""

import pytest
from command import RUN, TINY, call

from thruway.runs import open_run

ASKED_WRONGLY, WENT_WRONG = 2, 1

# arguments, what must be said
USAGE = {
    "command": (["rnu"], ["unknown command 'rnu'", "did you mean 'run'", "list, report, run"]),
    "no experiment": (["run"], ["which study?", "highway2015.depth", "Example: thruway run"]),
    "experiment": (["run", "highway2015.deep"], ["'highway2015.deep'", "did you mean 'highway2015.depth'"]),
    "scale": ([*RUN, "--scale", "lap"], ["unknown scale 'lap'", "did you mean 'laptop'", "demo, laptop, paper"]),
    "data": ([*RUN, "--data", "minst"], ["unknown data set 'minst'", "did you mean 'mnist'", "digits"]),
    "flag": ([*RUN, "--epoch", "3"], ["--epoch", "--epochs"]),
    "no number": ([*RUN, "--epochs", "many"], ["--epochs", "'many'"]),
    "epochs": ([*RUN, "--epochs", "-3"], ["epochs: got -3", "greater than or equal to 1"]),
    "depths": ([*RUN, "--depths", "1"], ["depths", "at least 2; got 1"]),
    "block": ([*RUN, "--blocks", "plian"], ["'plian'", "--blocks", "plain", "highway", "residual"]),
    "momentum": ([*RUN, "--momentum.high", "1.5"], ["momentum must be in [0, 1), got 0.5 to 1.5"]),
    "learning rate": ([*RUN, "--learning-rate.low", "0"], ["learning-rate", "above 0, got low=0"]),
    "turned range": ([*RUN, "--gate-bias.low", "3"], ["gate-bias", "low <= high, got low=3.0, high=-1.0"]),
    "activation": ([*RUN, "--activation.values", "rleu"], ["activation must be relu, tanh", "got rleu"]),
    "markup": ([*RUN, "--activation.values", "[/red]"], ["got [/red]"]),
    "device": ([*RUN, "--device", "gpu"], ["device 'gpu' is not available", "Allowed here: cpu"]),
    "device without numbers": ([*RUN, "--device", "meta"], ["device 'meta' is not available", "Allowed here: cpu"]),
    "device of an extension": ([*RUN, "--device", "hpu"], ["device 'hpu' is not available", "Allowed here: cpu"]),
    "threads": ([*RUN, *TINY, "--threads", "0"], ["--threads must be at least 1, got 0"]),
    "batch": ([*RUN, "--batch", "5000"], ["batch: got 5000", "1415 training examples"]),
    "config": ([*RUN, "--config", "no.toml"], ["--config no.toml cannot be read", "No such file"]),
    "report of nothing": (["report"], ["folder"]),
    "resume with flags": (
        ["run", "--resume", "x", "--epochs=3"],
        ["keeps its config", "--epochs=3", "without --resume"],
    ),
    "resume with threads": (["run", "--resume", "x", "--threads", "0"], ["--threads must be at least 1, got 0"]),
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_is_told_and_leaves_nothing(name, capsys, empty_place):
    arguments, needed = USAGE[name]
    said = call(capsys, *arguments)
    assert said.code == ASKED_WRONGLY
    for words in needed:
        assert words in said.all
    assert said.out == "" or "error" not in said.out  # what is wrong goes to stderr
    assert list(empty_place.iterdir()) == []


FILES = {
    "field": ("epoch = 3", ["my.toml: unknown field 'epoch'", "did you mean 'epochs'"]),
    "syntax": ("epochs = = 3", ["my.toml is not TOML", "line 1"]),
    "value": ("epochs = 0", ["epochs: got 0", "greater than or equal to 1"]),
    "type": ('epochs = "many"', ["epochs: got 'many'", "integer"]),
    "scale": ('scale = "papre"', ["unknown scale 'papre'", "did you mean 'paper'"]),
    "scale of a wrong type": ('scale = ["demo"]', ["unknown scale", "demo, laptop, paper"]),
    "range": ("[learning_rate]\nlow = 2\nhigh = 1", ["learning_rate", "low <= high"]),
    "half a range": ("[learning_rate]\nhigh = 1e-9", ["learning_rate", "low <= high"]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_file_is_told_and_leaves_nothing(name, capsys, empty_place):
    text, needed = FILES[name]
    (empty_place / "my.toml").write_text(text)
    said = call(capsys, *RUN, "--config", "my.toml")
    assert said.code == ASKED_WRONGLY
    for words in needed:
        assert words in said.err
    assert [path.name for path in empty_place.iterdir()] == ["my.toml"]


def test_a_file_that_is_no_text_is_no_toml(capsys, empty_place):
    (empty_place / "my.toml").write_bytes(b"\xff\xfe\x00")
    said = call(capsys, *RUN, "--config", "my.toml")
    assert said.code == ASKED_WRONGLY
    assert "my.toml is not TOML" in said.err


@pytest.mark.parametrize("arguments", [["report", "nowhere"], ["run", "--resume", "nowhere"]])
def test_a_folder_that_is_no_run_is_a_failure(arguments, capsys, empty_place):
    said = call(capsys, *arguments)
    assert said.code == WENT_WRONG
    assert "nowhere" in said.err
    assert "run.json" in said.err
    assert list(empty_place.iterdir()) == []


def test_data_that_is_not_there_is_a_failure_that_makes_no_run(capsys, empty_place):
    (empty_place / "data").mkdir()
    said = call(capsys, *RUN, "--data", "mnist", "--data-root", "data", "--out", "mine")
    assert said.code == WENT_WRONG
    assert "MNIST" in said.err
    assert "--data-root" in said.err
    assert [path.name for path in empty_place.iterdir()] == ["data"]
    assert list((empty_place / "data").iterdir()) == []


def test_a_folder_that_holds_a_run_is_kept(capsys, empty_place):
    assert call(capsys, *RUN, *TINY, "--blocks", "plain", "--out", "mine").code == 0
    names = ("run.json", "summary.json", "report.html")
    before = [(empty_place / "mine" / name).read_bytes() for name in names]
    numbers = open_run(empty_place / "mine").table()["value"].tolist()
    said = call(capsys, *RUN, *TINY, "--seed", "5", "--out", "mine")
    assert said.code == WENT_WRONG
    assert "mine already contains a run" in said.err
    assert "--resume" in said.err
    assert [(empty_place / "mine" / name).read_bytes() for name in names] == before
    assert open_run(empty_place / "mine").table()["value"].tolist() == numbers


def test_a_file_where_the_folder_should_be_is_a_failure(capsys, empty_place):
    (empty_place / "mine").write_text("a letter")
    said = call(capsys, *RUN, *TINY, "--out", "mine")
    assert said.code == WENT_WRONG
    assert "mine" in said.err
    assert (empty_place / "mine").read_text() == "a letter"
