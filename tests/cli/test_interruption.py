"""Ctrl-C: the first is granted at the end of the epoch, the second at once; both leave a run that can go on."""

import os
import signal
import subprocess
import sys

import pytest
from command import RUN, TINY, call
from rich.console import Console

from thruway.cli.console import console_progress
from thruway.runs import open_run
from thruway.train import Population

ONE = [*TINY, "--blocks", "highway"]


def numbers(folder):
    """What the run came to, but for the time it took."""
    table = open_run(folder).table(quantity=["train_loss", "final_loss", "test_error", "diverged_at"])
    return sorted(
        zip(*(map(str, table[name]) for name in ("site", "member", "step", "quantity", "value")), strict=True)
    )


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_leaves_a_run_that_goes_on(presses, capsys, empty_place, monkeypatch):
    steps, step = 0, Population.step

    def pressed(self, *batch):
        nonlocal steps
        steps += 1
        if steps == 1:  # the first of the two steps of an epoch
            for _ in range(presses):
                os.kill(os.getpid(), signal.SIGINT)
        return step(self, *batch)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(Population, "step", pressed)
        said = call(capsys, *RUN, *ONE, "--out", "mine")
    assert said.code == 1
    assert "stopping after this epoch" in said.out
    assert "interrupted" in said.out
    assert "thruway run --resume mine" in said.all
    assert signal.getsignal(signal.SIGINT) is before
    assert open_run(empty_place / "mine").status == "interrupted"
    assert steps == (2 if presses == 1 else 1)

    assert call(capsys, "run", "--resume", "mine").code == 0
    assert call(capsys, *RUN, *ONE, "--out", "whole").code == 0
    assert numbers(empty_place / "mine") == numbers(empty_place / "whole")


@pytest.mark.slow
def test_sigint_to_the_process(capsys, empty_place):
    """As a shell sends it."""
    command = [sys.executable, "-m", "thruway", *RUN, *ONE, "--epochs", "300", "--threads", "1", "--out", "mine"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while "run folder" not in (line := process.stdout.readline()):
                assert line, process.stderr.read()
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1, errors
    assert errors == ""
    assert "thruway run --resume mine" in " ".join(rest.split())
    assert open_run(empty_place / "mine").status == "interrupted"
    said = call(capsys, "run", "--resume", "mine")
    assert said.code == 0, said.all
    assert open_run(empty_place / "mine").status == "done"
    assert len(open_run(empty_place / "mine").table(quantity="train_loss")["value"]) == 300 * 2


def test_progress_is_at_most_twenty_lines_where_there_is_no_terminal(capsys):
    with console_progress(Console()) as progress:
        progress.begin(1000)
        for number in range(1000):
            progress.advance(1, f"[net] {number}")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20
    assert lines[-1].startswith("100%")
    assert lines[9].startswith(" 50%")
    assert "[net] 499" in lines[9]  # not taken for markup


def test_progress_on_a_terminal_is_a_bar(capsys):
    with console_progress(Console(force_terminal=True, width=100)) as progress:
        progress.begin(2)
        progress.advance(1, "half way")
    said = capsys.readouterr().out
    assert "half way" in said
    assert "50%" in said
