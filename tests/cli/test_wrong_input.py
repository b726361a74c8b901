"""What somebody new gets wrong: every answer says what came, what is allowed and what to do; nothing is left behind."""

import shlex

import pytest

from thruway.cli import main
from thruway.cli.run import _base, _parse
from thruway.experiments import STUDIES

GLOROT = [name for name in STUDIES if name.startswith("glorot2010.")]
OF_IMAGES = [name for name in GLOROT if "data" in STUDIES[name].config.model_fields]


def said(capsys) -> str:
    """All that was printed, boxes and line breaks taken out."""
    printed = capsys.readouterr()
    return " ".join("".join(c for c in printed.out + printed.err if c not in "╭╮╰╯│─").split())


# For every study: what is asked, and what is said.
OF_ALL = {
    "an unknown option": (["--no-such", "3"], ["--no-such", "run thruway run {name} --help"]),
    "a count below": (["--seeds", "0"], ["seeds: got 0: input should be greater than or equal to 1"]),
    "no number": (["--seeds", "few"], ["--seeds", "'few'", "see thruway run {name} --help"]),
    "an option left open": (["--seeds"], ["Missing value for argument '--seeds'"]),
    "an unknown scale": (["--scale", "big"], ["unknown scale 'big'", "Known: demo, laptop, paper"]),
    "an unknown device": (
        ["--device", "gpu"],
        ["'gpu' is not available (PyTorch does not know it). Allowed here: cpu"],
    ),
    "no threads": (["--threads", "0"], ["--threads must be at least 1, got 0"]),
    "a config that is not there": (["--config", "none.toml"], ["none.toml cannot be read", "Give the path of a TOML"]),
}


@pytest.mark.parametrize("name", GLOROT)
@pytest.mark.parametrize("case", OF_ALL)
def test_every_study_tells(name, case, capsys, empty_place):
    asked, answers = OF_ALL[case]
    assert main(["run", name, *asked]) == 2
    printed = said(capsys)
    for answer in answers:
        assert answer.format(name=name) in printed
    assert list(empty_place.iterdir()) == []


@pytest.mark.parametrize("name", OF_IMAGES)
def test_data_that_is_not_there(name, capsys, empty_place):
    assert main(["run", name, "--data", "mnistt"]) == 2
    assert "unknown data set 'mnistt'; did you mean 'mnist'?" in said(capsys)
    assert main(["run", name, "--data", "mnist", "--data-root", "nowhere"]) == 1
    printed = said(capsys)
    for answer in (
        "MNIST (training part) was not found. Searched: nowhere",
        "with download=True or --download;",
        "--data-root",
    ):
        assert answer in printed
    assert main(["run", name, "--updates", "-5"]) == 2
    assert "updates: got -5: input should be greater than or equal to" in said(capsys)
    assert list(empty_place.iterdir()) == []


TOGETHER = {
    "glorot2010.errors": (["--depths", "0"], "error depths count hidden layers and start at 1, got 0"),
    "glorot2010.saturation": (["--looks", "7000"], "error updates is at least looks (7000), got 6000"),
    "glorot2010.initialization": (
        ["--samples", "20000"],
        "error samples are taken at 10000 updates at most, got 20000",
    ),
    "glorot2010.cost_surface": (["--reach", "3"], "error reach is one of reaches, (2.0, 4.0, 8.0, 16.0), got 3.0"),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_fields_that_do_not_fit_each_other_are_named_once(name, capsys):
    asked, answer = TOGETHER[name]
    assert main(["run", name, *asked]) == 2
    assert said(capsys) == answer


def test_none_of_a_list_is_told_without_the_checkers_words(capsys):
    assert main(["run", "glorot2010.errors", "--learning-rates"]) == 2
    assert said(capsys) == "error learning_rates: got (): tuple should have at least 1 item"


# --- folders


SMALL = ["glorot2010.cost_surface", "--points", "5", "--draws", "1", "--seeds", "1", "--reaches", "8"]


def test_folders_that_cannot_be_used(capsys, empty_place):
    (empty_place / "file").write_text("mine")
    assert main(["run", *SMALL, "--out", "file"]) == 1
    assert said(capsys).endswith("file cannot be created: File exists. Choose another folder.")
    assert main(["run", *SMALL, "--out", "file/below"]) == 1
    assert "file/below cannot be created: Not a directory. Choose another folder." in said(capsys)
    assert main(["run", "--resume", "file"]) == 1
    assert said(capsys).endswith("Not a directory. Check the folder; a run folder contains run.json.")
    assert main(["run", "--resume", "none"]) == 1
    assert "none/run.json does not exist. Check the folder" in said(capsys)


def test_a_run_that_is_there_is_gone_on_with_as_it_is_or_not_at_all(capsys, empty_place):
    assert main(["run", *SMALL, "--out", "done"]) == 0
    capsys.readouterr()
    before = (empty_place / "done" / "report.html").stat().st_mtime_ns
    for asked, answer in (
        (["run", *SMALL, "--out", "done"], "done already contains a run. Pass --resume to continue it, or choose"),
        (["run", "--resume", "done", "--points", "7"], "keeps its config, but --points 7 was given. Leave it"),
        (["run", SMALL[0], "--resume", "done", "--points", "7"], "keeps its config, but --points 7 was given."),
        (["run", "glorot2010.errors", "--resume", "done"], "holds a run of glorot2010.cost_surface, but"),
    ):
        assert main(asked) != 0
        assert answer in said(capsys)
        assert (empty_place / "done" / "report.html").stat().st_mtime_ns == before
    assert main(["run", SMALL[0], "--resume", "done"]) == 0
    assert "finished already" in said(capsys)


# --- examples


@pytest.mark.parametrize("name", STUDIES)
def test_help_shows_an_example_of_this_study_that_is_right(name, capsys):
    experiment = STUDIES[name]
    assert main(["run", name, "--help"]) == 0
    assert f"example: thruway run {name} {experiment.example}" in said(capsys)
    asked = shlex.split(experiment.example)
    _, base = _base(experiment, None, None)
    _, config = _parse(experiment, name, base, asked)
    assert config != base or asked == ["--scale", "demo"]


def test_help_without_a_name_says_whose_options_it_shows(capsys):
    assert main(["run", "--help"]) == 0
    first, *others = STUDIES
    assert f"these are those of {first}. Others: {', '.join(others)}; and package.module" in said(capsys)


def test_the_name_may_stand_behind_options(capsys, empty_place):
    name, *options = SMALL
    assert main(["run", *options, "--out", "run", name]) == 0
    assert (empty_place / "run" / "summary.json").exists()
