"""The IPython extension, in a stand-in for IPython's shell with the same interface."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import thruway as tw
from thruway.watching import Trace


class Events:
    """Callbacks by the name of their event, as IPython's EventManager has them."""

    def __init__(self) -> None:
        self.callbacks: dict[str, list[Callable[..., Any]]] = {"post_run_cell": []}

    def register(self, event: str, function: Callable[..., Any]) -> None:
        self.callbacks[event].append(function)

    def unregister(self, event: str, function: Callable[..., Any]) -> None:
        self.callbacks[event].remove(function)


class Shell:
    """A shell that runs cells in one namespace."""

    def __init__(self) -> None:
        self.events = Events()
        self.magics: dict[str, Callable[..., Any]] = {}
        self.user_ns: dict[str, Any] = {"torch": torch, "nn": nn}

    def register_magic_function(self, function: Any, magic_kind: str = "line", magic_name: str | None = None) -> None:
        self.magics[magic_name or function.__name__] = function

    def run_cell(self, source: str) -> None:
        exec(source, self.user_ns)
        for function in [*self.events.callbacks["post_run_cell"]]:
            function(object())


TRAIN = """
for step in range(3):
    optimizer.zero_grad()
    net(torch.ones(5, 4)).square().mean().backward()
    optimizer.step()
"""


def test_later_cells_are_watched(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    gc.collect()
    original = nn.Module.__call__
    shell = Shell()
    shell.run_cell("net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))")
    shell.run_cell("optimizer = torch.optim.SGD(net.parameters(), 0.1)")
    tw.load_ipython_extension(shell)
    tw.load_ipython_extension(shell)  # twice makes no difference
    shell.run_cell("1 + 1")
    assert "Trace" not in capsys.readouterr().err
    shell.run_cell(TRAIN)
    (trace,) = shell.magics["thruway"]("")
    assert trace.steps == [0, 1, 2]
    assert trace.model.startswith("Sequential (SGD #")
    assert capsys.readouterr().err
    shell.run_cell("net(torch.ones(1, 4)).sum().item()")
    assert capsys.readouterr().err == ""
    shell.run_cell(TRAIN)
    assert trace.steps == [0, 1, 2, 3, 4, 5]
    assert not (tmp_path / "thruway-watch").exists()
    tw.unload_ipython_extension(shell)
    assert nn.Module.__call__ is original
    assert shell.events.callbacks["post_run_cell"] == []
    (path,) = (tmp_path / "thruway-watch").glob("*.npz")
    assert Trace.load(path).steps == [0, 1, 2, 3, 4, 5]
    shell.run_cell(TRAIN)  # no longer watched
    assert trace.steps == [0, 1, 2, 3, 4, 5]


def test_an_error_of_a_cell_is_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shell = Shell()
    tw.load_ipython_extension(shell)
    try:
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            shell.run_cell("nn.Linear(2, 1)(torch.ones(1, 3))")
    finally:
        tw.unload_ipython_extension(shell)
    assert not (tmp_path / "thruway-watch").exists()
