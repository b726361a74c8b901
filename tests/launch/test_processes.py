"""Several processes: workers are silent, and the processes of torchrun save one trace together."""

import re
import shutil
import socket

import pytest

from thruway.watching import Trace

NET = """
    import os, sys, torch
    from torch import nn
    torch.set_num_threads(1)

    def train(steps=3, rows=slice(None), wrap=lambda model: model):
        torch.manual_seed(0)
        model = wrap(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for step in range(steps):
            x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))[rows]
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
        return loss.item().hex()
"""


def one_trace(place, watched):
    assert len(re.findall(r"Trace of|thruway watch:", watched.err)) <= 1 or "diagnos" in watched.err
    assert "Traceback" not in watched.err, watched.err
    (trace,) = place.traces().values()
    return trace


@pytest.mark.slow
def test_spawned_workers(place):
    """They import the script as python would have them, train, and leave no trace."""
    place.write(
        "train.py",
        NET
        + """
    class Numbers(torch.utils.data.Dataset):
        def __len__(self):
            return 4
        def __getitem__(self, index):
            return torch.full((4,), float(index))

    def work(name):
        print(name, __name__, __file__, train(), "thruway.launch" in sys.modules, flush=True)

    if __name__ == "__main__":
        import multiprocessing
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=work, args=("process",))
        process.start()
        process.join()
        loader = torch.utils.data.DataLoader(Numbers(), num_workers=1, multiprocessing_context="spawn")
        print(process.exitcode, [batch.sum().item() for batch in loader], train())
    """,
    )
    bare, watched = place.both("train.py")
    assert b"__mp_main__" in bare.out
    assert one_trace(place, watched).steps == [0, 1, 2]


def test_forked_processes(place):
    place.write(
        "train.py",
        NET
        + """
    class Numbers(torch.utils.data.Dataset):
        def __len__(self):
            return 4
        def __getitem__(self, index):
            return torch.full((4,), float(index))

    print(train(), flush=True)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    print(bool(child), train(), flush=True)
    if child:
        loader = torch.utils.data.DataLoader(Numbers(), num_workers=2, multiprocessing_context="fork")
        print([batch.sum().item() for batch in loader])
    """,
    )
    _, watched = place.both("train.py")
    assert [*place.traces()] == ["sequential-sgd-0", "sequential-sgd-1"]
    assert watched.err.count("trace    ") == 2


def test_a_forked_process_dies_by_a_signal(place):
    place.write(
        "train.py",
        NET
        + """
    import signal
    print(train(), flush=True)
    child = os.fork()
    if not child:
        signal.pause()
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)
    """,
    )
    _, watched = place.both("train.py")
    assert watched.err.count("trace    ") == 1
    assert b"-15 False" in watched.out


def torchrun(place, *arguments):
    """Run two processes. About one run in forty ends, bare too, with PyTorch's own abort at exit, and is repeated."""
    for _ in range(5):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ended = place.python(
            "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port), *arguments
        )
        if "terminate called without an active exception" not in ended.err:
            break
        shutil.rmtree(place.folder / "thruway-watch", ignore_errors=True)
    return ended


@pytest.mark.slow
def test_torchrun(place):
    place.write(
        "train.py",
        NET
        + """
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    loss = train(rows=slice(8 * rank, 8 * rank + 8), wrap=nn.parallel.DistributedDataParallel)
    torch.distributed.barrier()
    sys.stdout.write(f"{rank} {loss} {sys.argv}\\n")  # one write, since both processes share the pipe
    sys.stdout.flush()
    torch.distributed.destroy_process_group()
    """,
    )
    bare = torchrun(place, "train.py", "--lr", "1")
    watched = torchrun(place, "-m", "thruway.watch", "--quantities", "mean,std,count", "train.py", "--lr", "1")
    assert watched.code == bare.code == 0, watched.err
    assert sorted(watched.out.splitlines()) == sorted(bare.out.splitlines())
    assert watched.err.count("trace    ") == 1
    traces = place.traces()
    assert [*traces] == ["sequential-sgd-0", "sequential-sgd-0.rank0", "sequential-sgd-0.rank1"]
    assert not [*place.folder.glob("thruway-watch/.job*")]

    place.write("whole.py", NET + "    train()\n")
    place.watched("--quantities", "mean,std,count", "--out", "whole", "whole.py")
    whole, merged = place.traces("whole")["sequential-sgd-0"], traces["sequential-sgd-0"]
    assert merged.model == whole.model == "Sequential (SGD #0)"
    assert merged.steps == whole.steps == [0, 1, 2]
    for kind in ("output", "gradient"):
        ours, theirs = merged.series("std", kind), whole.series("std", kind)
        assert ours.names == theirs.names
        # float32 sums of at most 128 numbers, in another order
        assert abs(ours.values / theirs.values - 1).max() < 1e-4
    assert merged.series("count").values[0].tolist() == [128.0] * 3


def test_a_rank_without_the_others_saves_its_own(place, monkeypatch):
    monkeypatch.setattr("thruway.launch.saving.MOST_SECONDS", 0.0)
    from thruway.launch import Destination
    from thruway.launch.recording import Recording

    environment = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "1"}
    monkeypatch.chdir(place.folder)
    place.write("train.py", NET + "    train()\n")
    place.watched("--out", "one", "train.py")
    (trace,) = place.traces("one").values()
    recording = Recording("Net", trace, False, frozenset(), lambda: None)
    first = Destination(None, environment)
    first.check()
    assert Destination(None, environment | {"RANK": "1"}).save([]) == []
    (saved,) = first.save([recording])
    assert Trace.load(saved.path).steps == [0, 1, 2]
    # Another process of the same job finds the folder.
    first = Destination(None, environment)
    first.check()
    assert Destination(None, environment | {"RANK": "1"}).save([recording]) == []
    assert (place.folder / "thruway-watch-2" / "net.rank1.npz").exists()
