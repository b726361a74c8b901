"""The command from the outside: what it prints, where it writes, how it ends."""

import json
import runpy
import sys
from importlib.metadata import version

import pytest
import torch
from command import RUN, TINY, call

from thruway.cli import main
from thruway.data import DATASETS
from thruway.experiments import STUDIES
from thruway.runs import open_run


def test_list_names_everything_there_is(capsys):
    said = call(capsys, "list")
    assert said.code == 0
    for name in (*STUDIES, *DATASETS, "demo", "laptop", "paper"):
        assert name in said.all


def test_list_cuts_no_name_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = call(capsys, "list")
    for name in STUDIES:
        assert name in said.all


def test_a_run_ends_with_table_verdicts_and_report(capsys, empty_place):
    said = call(capsys, *RUN, *TINY, "--out", "mine")
    assert said.code == 0, said.all
    summary = json.loads((empty_place / "mine" / "summary.json").read_text())
    for claim in summary["claims"]:
        assert claim["text"] in said.all
    best = min(row["final_loss"] for row in summary["rows"] if row["block"] == "highway")
    assert f"{best:.4g}" in said.out
    assert "mine/report.html" in said.all
    assert (empty_place / "mine" / "report.html").stat().st_size > 10_000  # bytes; the charts are inside
    assert open_run(empty_place / "mine").status == "done"
    assert "100%" in said.out


def test_runs_without_a_name_are_numbered(capsys, empty_place):
    for _ in range(2):
        assert call(capsys, *RUN, *TINY, "--blocks", "plain").code == 0
    assert {folder.name for folder in (empty_place / "runs").iterdir()} == {
        "highway2015.depth-demo", "highway2015.depth-demo-2"
    }  # fmt: skip


def test_flags_go_over_the_file_and_the_file_over_the_scale(capsys, empty_place):
    scalars = 'scale = "laptop"\ndata = "digits"\ntrials = 3\nseed = 8\nblocks = ["plain"]\n'
    file = scalars + "[learning_rate]\nlow = 0.01\nhigh = 0.02\n"
    (empty_place / "my.toml").write_text(file)
    said = call(capsys, *RUN, "--config", "my.toml", *TINY, "--searches", "1", "--learning-rate.high", "0.05")
    assert said.code == 0, said.all
    (folder,) = (empty_place / "runs").iterdir()
    config = open_run(folder).config
    assert folder.name == "highway2015.depth-laptop"
    assert (config["scale"], config["data"], config["seed"], config["trials"]) == ("laptop", "digits", 8, 2)
    assert config["learning_rate"] == {"low": 0.01, "high": 0.05}
    assert config["searches"] == 1  # the scale says 3


def test_the_scale_of_the_flag_sets_the_defaults_and_the_label(capsys, empty_place):
    (empty_place / "my.toml").write_text('scale = "paper"\nblocks = ["plain"]\n')
    quick = ["--data", "digits", "--searches", "1", "--momentum.low", "0.6"]
    said = call(capsys, *RUN, "--scale", "laptop", "--config", "my.toml", *quick, *TINY)
    assert said.code == 0, said.all
    config = open_run(empty_place / "runs" / "highway2015.depth-laptop").config
    assert (config["scale"], config["device"], config["momentum"]) == ("laptop", "cpu", {"low": 0.6, "high": 0.95})


def test_flags_may_stand_before_the_experiment(capsys, empty_place):
    said = call(capsys, "run", "--seed", "3", "--blocks=plain", *TINY, "highway2015.depth", "--out", "mine")
    assert said.code == 0, said.all
    assert open_run(empty_place / "mine").config["seed"] == 3


def test_threads_are_those_that_were_asked_for(capsys):
    call(capsys, *RUN, *TINY, "--blocks", "plain", "--threads", "2")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert threads == 2


def test_the_report_is_written_again_from_the_numbers(capsys, empty_place):
    call(capsys, *RUN, *TINY, "--blocks", "plain", "--out", "mine")
    before = (empty_place / "mine" / "summary.json").read_bytes()
    for name in ("summary.json", "report.html"):
        (empty_place / "mine" / name).unlink()
    said = call(capsys, "report", "mine")
    assert said.code == 0
    assert (empty_place / "mine" / "summary.json").read_bytes() == before
    assert (empty_place / "mine" / "report.html").exists()


def test_resuming_a_finished_run_only_reports(capsys, empty_place):
    call(capsys, *RUN, *TINY, "--blocks", "plain", "--out", "mine")
    numbers = open_run(empty_place / "mine").table()["value"].tolist()
    said = call(capsys, "run", "--resume", "mine")
    assert said.code == 0
    assert "finished already" in said.all
    assert open_run(empty_place / "mine").table()["value"].tolist() == numbers


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
def test_help_shows_commands_and_examples(capsys, arguments):
    said = call(capsys, *arguments)
    assert said.code == 0
    for word in ("list", "run", "report", "thruway run highway2015.depth", "--resume"):
        assert word in said.out


@pytest.mark.parametrize(
    "command", [["list"], ["run"], ["report"], ["run", "--resume", "x"], ["run", "highway2015.depth"]]
)
def test_every_command_explains_itself_by_example(capsys, command, empty_place):
    said = call(capsys, *command, "--help")
    assert said.code == 0
    assert f"example: thruway {command[0]}" in said.out
    assert list(empty_place.iterdir()) == []


def test_the_help_of_run_lists_every_field(capsys):
    said = call(capsys, "run", "--help")
    for name in STUDIES["highway2015.depth"].config.model_fields:
        assert f"--{name.replace('_', '-')}" in said.out
    for name in ("--config", "--out", "--resume", "--threads"):
        assert name in said.out


def test_examples_in_the_help_are_accepted(capsys):
    """The example flags, on a search of a second."""
    said = call(capsys, "run", "--help")
    line = next(line for line in said.out.splitlines() if line.startswith("example: thruway run"))
    arguments = line.removeprefix("example: thruway ").split()
    said = call(capsys, *arguments, *TINY, "--blocks", "plain")
    assert said.code == 0, said.all


def test_no_command_shows_the_usage(capsys):
    said = call(capsys)
    assert said.code == 2
    assert "usage: thruway COMMAND" in said.out


def test_version(capsys):
    assert call(capsys, "--version") == (0, f"thruway {version('thruway')}\n", "")


def test_python_m_thruway_is_the_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["thruway", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("thruway", run_name="__main__")
    assert ended.value.code == 0
    assert version("thruway") in capsys.readouterr().out


def test_main_reads_the_command_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["thruway", "nonsense"])
    assert main() == 2
    assert "nonsense" in capsys.readouterr().err
