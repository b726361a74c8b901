"""The extension in a real shell of IPython, in a process of its own, as in the kernel of a notebook."""

import textwrap

import pytest

pytest.importorskip("IPython")

# Runs each cell as a notebook does, and prints "cell <number>" on both streams before it.
SHELL = """
    import sys
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance(colors="nocolor")
    shell.history_manager.enabled = False
    for number, cell in enumerate({cells!r}):
        for stream in (sys.stdout, sys.stderr):
            print("cell", number, file=stream, flush=True)
        print("ok" if shell.run_cell(cell, store_history=False).success else "failed", flush=True)
"""

MODEL = """
    import torch
    from torch import nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
"""

TRAIN = """
    for step in range(12):
        x = torch.randn(32, 4)
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
    print(loss.item().hex())
"""

OPTIMIZER = "optimizer = torch.optim.SGD(model.parameters(), 0.01)"


def run(place, *cells):
    """Run cells, and return what each has printed to the standard output and to the standard error."""
    cells = [textwrap.dedent(cell) for cell in cells]
    place.write("kernel.py", SHELL.format(cells=cells))
    ended = place.python("kernel.py")
    assert ended.code == 0, ended.err
    streams = [ended.out.decode(), ended.err]
    parts = []
    for number in range(len(cells)):
        for stream in streams:
            begin, end = f"cell {number}\n", f"cell {number + 1}\n"
            parts.append(stream.partition(begin)[2].partition(end)[0])
    return [*zip(parts[::2], parts[1::2], strict=True)]


@pytest.fixture
def place(place, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(place.folder / "ipython"))
    return place


@pytest.mark.slow
def test_a_notebook(place):
    cells = (
        "%load_ext thruway",
        MODEL,
        OPTIMIZER,
        TRAIN,
        "(trace,) = %thruway\nprint(trace.model, trace.steps)",
        "model(torch.ones(2, 4)).mean().item()",
        "model[2].bias.data.fill_(-100)",
        TRAIN,
        "%unload_ext thruway",
        TRAIN + "\n    print(trace.steps[-1])",
    )
    printed = run(place, *cells)
    assert all(out.endswith("ok\n") for out, _ in printed), printed
    (_, _, _, trained, listed, evaluated, _, broken, unloaded, after) = printed
    assert "healthy" in trained[1], trained[1]
    assert listed[0] == f"Sequential (SGD #0) {[*range(12)]}\nok\n"
    assert evaluated[1] == ""
    assert "dying_relu" in broken[1], broken[1]
    assert "since step 13 (not yet at step 12); module 2;" in broken[1]
    assert "thruway-watch" in unloaded[1]
    assert after[1] == ""
    assert after[0].endswith("\n23\nok\n")
    (trace,) = place.traces().values()
    assert trace.steps == [*range(24)]

    # The same losses as without the extension.
    bare = run(place, *("pass" if "thruway" in cell else cell.partition("\n    print(trace")[0] for cell in cells))
    assert [out for out, _ in bare if "0x" in out] == [trained[0], broken[0], after[0].replace("23\n", "")]


@pytest.mark.slow
def test_a_model_of_an_earlier_cell_and_an_error(place):
    """The traces are saved when the kernel ends."""
    cells = (MODEL, OPTIMIZER, "%load_ext thruway", "%load_ext thruway", "model(torch.ones(2, 5))", TRAIN)
    *_, again, failed, trained = run(place, *cells)
    assert "already loaded" in again[0]
    assert "shapes cannot be multiplied" in "".join(failed)
    assert "healthy" in trained[1]
    (trace,) = place.traces().values()
    assert trace.steps == [*range(12)]
