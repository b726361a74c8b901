"""The command itself: wrong inputs, the help, the name of the module, and what is shown at the end."""

import importlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import thruway as tw
from thruway.cli import main, watch_findings
from thruway.cli.watch import split_arguments
from thruway.launch import Watched


@pytest.fixture
def here(place, monkeypatch):
    """The command is called in this process; nothing gets as far as running a script."""
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("COLUMNS", "200")
    place.write("train.py", "raise SystemExit('it ran')")
    place.write("notes.txt", "buy milk and bread")
    (place.folder / "model.pt").write_bytes(b"PK\0\1\2")
    place.write("latin.py", "x = 1")
    (place.folder / "latin.py").write_bytes("x = 'é'".encode("latin-1"))
    place.write("old/trace.npz", "x")
    place.write("package/__init__.py", "")
    return place


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no script was given"),
        (["trian.py"], "there is no script 'trian.py'"),
        (["package"], "package is a folder. Give the script itself, such as package/train.py"),
        (["notes.txt"], "notes.txt is not a Python script"),
        (["model.pt"], "model.pt is not a Python script: it has null bytes"),
        (["notes.txt", "--every", "2"], "Give a Python file."),
        (["--every", "0", "train.py"], "--every must be a whole number of at least 1, got '0'"),
        (["--every", "-2", "train.py"], "--every must be a whole number of at least 1, got '-2'"),
        (["--every", "x", "train.py"], "--every must be a whole number of at least 1, got 'x'. Give, for example,"),
        (["--every", "train.py"], "got 'train.py'. Give, for example, --every 10 before the script"),
        (["--every=1.5", "train.py"], "--every must be a whole number of at least 1, got '1.5'"),
        (["--every"], "--every must be a whole number of at least 1, got nothing"),
        (["--memory", "0", "train.py"], "--memory must be a whole number of at least 1, got '0'"),
        (["--evry", "2", "train.py"], "--evry"),
        (["--out", "old", "train.py"], "--out old contains files already"),
        (["--out", "train.py", "train.py"], "--out train.py is a file. Give a folder that does not exist yet"),
        (["--out", "train.py/x", "train.py"], "train.py is a file, so --out train.py/x cannot be a folder"),
        pytest.param(
            ["--out", "/proc/there", "train.py"],
            "cannot write to /proc: No such file or directory. Give a folder with",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc"),
        ),
        (["-m", "no_such_module"], "there is no module 'no_such_module'"),
        (["-m", "package.no_such_module"], "there is no module 'package.no_such_module'"),
        (["-m", "train.py"], "train.py is a file, not the name of a module. Give it without -m"),
        (["-m", ".train"], "'.train' is not the name of a module"),
        (["-m", ""], "'' is not the name of a module"),
        (["-m", "package"], "package is a package without a __main__ module"),
    ],
)
def test_wrong_inputs(here, capsys, monkeypatch, arguments, told):
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["watch", *arguments]) == 2
    said = capsys.readouterr()
    assert told in " ".join((said.out + said.err).split())
    assert "Traceback" not in said.out + said.err
    assert not (here.folder / "thruway-watch").exists()
    assert not [*here.folder.glob(".thruway-*")]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import no_such_module", "the package 'broken' cannot be imported: ModuleNotFoundError: No module named"),
        ("1 / 0", "the package 'broken' cannot be imported: ZeroDivisionError: division by zero"),
        ("for x in", "the package 'broken' cannot be imported: SyntaxError: invalid syntax"),
    ],
)
def test_a_package_that_cannot_be_imported(here, capsys, monkeypatch, source, told):
    """The exit code is that of `python -m`, and the error is found in the package."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = here.write("broken/__init__.py", source)
    here.write("broken/train.py", "raise SystemExit('it ran')")
    assert main(["watch", "-m", "broken.train"]) == 1
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert str(file) in said or "__init__.py, line 1" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("nonsense", "unknown quantity 'nonsense'. Known: abs_max,"),
        ("", "quantities is empty. Known: mean,"),
        ("mean,stx", "unknown quantity 'stx'; did you mean 'std'?"),
        ("jacobian", "no probe"),
    ],
)
def test_wrong_quantities(here, capsys, names, told):
    assert main(["watch", "--quantities", names, "train.py"]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said


def test_help(capsys):
    assert main(["watch", "--help"]) == 0
    said = capsys.readouterr().out
    assert "thruway watch train.py --epochs 3" in said
    for option in ("--every", "--quantities", "--out", "--memory", "--no-report", "-m"):
        assert option in said


@pytest.mark.parametrize(
    ("arguments", "ours", "theirs"),
    [
        (["t.py"], ["t.py"], []),
        (["--no-report", "t.py", "--every", "3"], ["--no-report", "t.py"], ["--every", "3"]),
        (["--every=2", "t.py", "-m"], ["--every=2", "t.py"], ["-m"]),
        (["--", "t.py", "-m"], ["t.py"], ["-m"]),
        (["--module=a.b", "c"], ["--module=a.b"], ["c"]),
        (["--every"], ["--every"], []),
    ],
)
def test_arguments_are_split_at_the_script(arguments, ours, theirs):
    assert split_arguments(arguments) == (ours, theirs)


def test_the_function_is_not_hidden_by_the_module():
    function = tw.watching.watch
    module = importlib.import_module("thruway.watch")
    assert tw.watch is function
    assert module is not function
    importlib.reload(module)
    assert tw.watch is function
    command = "import thruway.watch, thruway\nfrom thruway import watch\nprint(watch is thruway.watching.watch)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_the_function_is_replaced_by_whoever_wants_to(monkeypatch):
    monkeypatch.setattr(tw, "watch", len)
    assert tw.watch is len


# What is shown at the end


class Diagnosis:
    """A stand-in for what `thruway.diagnosing.diagnose` returns."""

    def __str__(self) -> str:
        return "one finding"

    def report(self, path: Path) -> Path:
        path.write_text("<html>")
        return path


@pytest.fixture
def watched(tmp_path):
    net = nn.Linear(2, 1)
    with tw.watch(net) as trace:
        net(torch.ones(3, 2)).sum().backward()
    return Watched(trace, trace.save(tmp_path / "linear.npz"), is_foreign=True)


@pytest.fixture
def shown(monkeypatch):
    """The standard error of the process, which is not what pytest captures."""
    monkeypatch.setattr(sys, "__stderr__", io.StringIO())
    return lambda: sys.__stderr__.getvalue()


def diagnosing(monkeypatch: pytest.MonkeyPatch, result: Any) -> None:
    def diagnosis_of(_trace: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(watch_findings, "diagnosis_of", diagnosis_of)


def test_the_diagnosis_is_printed_and_reported(watched, shown, monkeypatch):
    diagnosing(monkeypatch, Diagnosis())
    watch_findings.show_findings([watched])
    said = shown()
    assert "one finding" in said
    assert "updates no parameter of the model" in said
    assert watched.path.with_suffix(".html").read_text() == "<html>"
    assert str(watched.path.with_suffix(".html")) in said


def test_no_report(watched, shown, monkeypatch):
    diagnosing(monkeypatch, Diagnosis())
    watch_findings.show_findings([watched], writes_report=False)
    assert "one finding" in shown()
    assert not watched.path.with_suffix(".html").exists()


@pytest.mark.parametrize("result", [None, ZeroDivisionError("broken")])
def test_without_a_diagnosis_the_summary_is_printed(watched, shown, monkeypatch, result):
    diagnosing(monkeypatch, result)
    watch_findings.show_findings([watched])
    said = shown()
    assert "Trace of Linear" in said
    assert str(watched.path) in said
    assert ("failed: ZeroDivisionError: broken" in said) == (result is not None)
