"""A watched script sees, prints and returns the same as under the python command."""

import signal
import subprocess
import sys
import time

import pytest

TRAIN = """
    import sys
    import torch
    from torch import nn
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for step in range(4):
        loss = net(torch.randn(16, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(step, loss.item().hex())
"""


def test_losses_are_bit_equal_and_everything_is_recorded(place):
    place.write("train.py", TRAIN + "    print(torch.rand(1).item(), nn.Module.__call__.__name__)\n")
    _, watched = place.both("train.py")
    (name, trace), *others = place.traces().items()
    assert not others
    assert name == "sequential-sgd-0"
    assert trace.model == "Sequential (SGD #0)"
    assert trace.steps == [0, 1, 2, 3]
    assert {site.kind for site in trace.sites} >= {"output", "gradient", "parameter", "update"}
    assert "Trace of Sequential (SGD #0)" in watched.err or "thruway-watch" in watched.err


def test_torch_is_imported_by_the_script(place):
    """A script sets OMP_NUM_THREADS before."""
    place.write(
        "train.py",
        "import sys\nprint({'torch', 'numpy'} & {*sys.modules})\nimport torch\nprint('torch' in sys.modules)",
    )
    place.both("train.py")


IDENTITY = """
    import os, sys
    print(sys.argv, __file__, __name__, __spec__ and __spec__.name, __package__, sys.path[0], __doc__)
    print(sorted(globals()), type(__loader__).__name__, sys.modules["__main__"].__dict__ is globals())
    import beside
    print(beside.WHERE)
"""


@pytest.mark.parametrize("arguments", [("sub/train.py",), ("./sub/train.py", "--every", "7", "-m", "--help")])
def test_identity_of_a_script(place, arguments):
    place.write("sub/train.py", IDENTITY)
    place.write("sub/beside.py", "WHERE = __file__")
    place.both(*arguments)


def test_identity_of_a_module(place):
    place.write("package/__init__.py", "")
    place.write("package/train.py", IDENTITY.replace("import beside", "from . import beside"))
    place.write("package/beside.py", "WHERE = __file__")
    place.write("package/__main__.py", "from package.beside import WHERE\nprint(WHERE, __spec__.name, __package__)")
    place.both("-m", "package.train", "--out", "x")
    place.both("-m", "package", "y")


def test_options_of_the_script_with_the_names_of_ours(place):
    place.write(
        "train.py",
        """
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("--every", type=int)
        parser.add_argument("--out")
        parser.add_argument("-m", default="m")
        print(parser.parse_args())
        """,
    )
    place.both("train.py", "--every", "3", "--out", "there", "-m", "n")
    place.both("train.py", "--help")
    assert place.both("train.py", "--unknown")[0].code == 2


def test_standard_input(place):
    place.write("train.py", "import sys\nprint(input(), [*sys.stdin])")
    place.both("train.py", stdin="one\ntwo\nthree\n")


@pytest.mark.parametrize(
    ("line", "code", "needs_torch"),
    [
        ("raise ValueError('boom')", 1, True),
        ("net(torch.ones(2, 5))", 1, True),
        ("assert False, 'inside'", 1, False),
        ("sys.exit(3)", 3, False),
        ("sys.exit('goodbye')", 1, False),
    ],
)
def test_exit_codes_and_tracebacks(place, line, code, needs_torch):
    script = TRAIN if needs_torch else "    import sys\n"
    place.write("train.py", script + f"    def inner():\n        {line}\n    inner()\n")
    bare, watched = place.both("train.py")
    assert bare.code == code
    if "_call_impl" in bare.err:  # with hooks, the call passes other lines of torch
        assert bare.err.splitlines()[-1] in watched.err
    else:
        assert bare.err.rstrip("\n") in watched.err
    assert "src/thruway/" not in watched.err
    if needs_torch:
        assert place.traces()["sequential-sgd-0"].steps == [0, 1, 2, 3]


def test_a_syntax_error_looks_as_python_shows_it(place):
    place.write("train.py", "for x in range(3)\n    pass\n")
    bare, watched = place.both("train.py")
    assert bare.code == 1
    assert watched.err == bare.err


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")])
def test_signals_from_outside(place, number, name):
    place.write("train.py", TRAIN + "    print('ready', flush=True)\n    import time\n    time.sleep(60)\n")
    errors = {}
    for module in ((), ("-m", "thruway.watch")):
        command = [sys.executable, "-u", *module, "train.py"]
        with subprocess.Popen(
            command, cwd=place.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            while "ready" not in (line := process.stdout.readline()):
                assert line, process.stderr.read()
            time.sleep(0.1)
            process.send_signal(number)
            _, errors[module] = process.communicate(timeout=300)
            assert process.returncode == -number
    bare, watched = errors.values()
    assert watched.startswith(bare.rstrip("\n"))
    assert ("KeyboardInterrupt" in watched) == (name == "SIGINT")
    assert place.traces()["sequential-sgd-0"].steps == [0, 1, 2, 3]


def test_a_handler_of_the_script_stays_its_own(place):
    place.write(
        "train.py",
        TRAIN
        + """
    import os, signal
    def handle(number, frame):
        print("handled")
        sys.exit(7)
    signal.signal(signal.SIGTERM, handle)
    os.kill(os.getpid(), signal.SIGTERM)
    """,
    )
    assert place.both("train.py")[0].code == 7
    assert place.traces()["sequential-sgd-0"].steps == [0, 1, 2, 3]


def test_os_exit_loses_the_trace(place):
    """As documented."""
    place.write("train.py", TRAIN + "    import os\n    sys.stdout.flush()\n    os._exit(4)\n")
    assert place.both("train.py")[0].code == 4
    assert place.traces() == {}


def test_nothing_is_overwritten(place):
    place.write("train.py", TRAIN)
    for _ in range(2):
        place.watched("--every", "2", "train.py")
    assert [*place.traces()] == [*place.traces("thruway-watch-2")] == ["sequential-sgd-0"]
    assert place.traces()["sequential-sgd-0"].steps == [0, 2]
    assert place.watched("--quantities", "rms", "--out", "mine", "train.py").code == 0
    assert place.traces("mine")["sequential-sgd-0"].quantities("output") == ["rms"]
    again = place.watched("--out", "mine", "train.py")
    assert again.code == 2
    assert "contains files already" in again.err
    assert again.out == b""
