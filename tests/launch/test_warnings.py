"""Warnings are the script's own, and nothing of ours is raised in it."""

import ast
from pathlib import Path

import pytest

import thruway
from thruway.watching.errors import WatchWarning, warn, warnings_shown_by

SOURCE = Path(thruway.__file__).parent

WARNS = """
    import sys, warnings
    {first}
    import torch
    from torch import nn
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with torch.autocast("cpu", dtype=torch.float16):  # of which watch warns
        for step in range(3):
            loss = net(torch.randn(16, 4)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(step, loss.item().hex())
    {last}
"""


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("warnings.simplefilter('error')", ""),
        ("", "warnings.warn('mine', UserWarning)"),
        ("caught = warnings.catch_warnings(record=True).__enter__()", "print(len(caught), len(warnings.filters))"),
    ],
)
def test_warnings_are_those_of_the_script(place, first, last):
    place.write("train.py", WARNS.format(first=first, last=last))
    bare, watched = place.both("train.py")
    assert bare.code == 0, bare.err
    ours = [line for line in watched.err.splitlines() if line.startswith("thruway watch:")]
    assert len(ours) == 1
    assert "float16 autocast" in ours[0]
    assert watched.err.replace(ours[0] + "\n", "").startswith(bare.err)
    assert len(place.traces()) == 1


def test_a_broken_recording_is_one_line(place):
    """A tensor type that fails when it is measured."""
    place.write(
        "train.py",
        """
        import torch
        from torch import nn
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        for step in range(6):
            if step == 2:  # as if a library broke what we rely on
                import thruway.watching.quantities.collector as collector
                collector.Collector.finish = lambda self: 1 / 0
            loss = net(torch.randn(16, 4)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(loss.item().hex())
        """,
    )
    watched = place.watched("train.py")
    assert watched.code == 0
    assert len(watched.out.splitlines()) == 6
    ours = [line for line in watched.err.splitlines() if line.startswith("thruway watch:")]
    assert len(ours) == 1
    assert "watching stopped at step 2: ZeroDivisionError" in ours[0]
    (trace,) = place.traces().values()
    assert trace.steps == [0, 1]


def test_watching_warns_in_one_way_only():
    """So that a script which turns warnings into errors is not stopped by one."""
    found = []
    for path in sorted((SOURCE / "watching").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                found.append((path.name, "Deprecat" in ast.unparse(node)))
    assert ("errors.py", False) in found
    assert [name for name, is_deprecation in found if not is_deprecation] == ["errors.py"]


def test_warnings_are_shown_by_a_function_for_a_while():
    shown = []
    with warnings_shown_by(shown.append):
        warn("first", 1)
    assert shown == ["first"]
    with pytest.warns(WatchWarning, match="second"):
        warn("second", 1)
