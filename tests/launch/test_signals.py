"""SIGTERM to the whole process group, as from `timeout`, Slurm or a container: workers die of it too."""

import os
import signal
import subprocess
import sys

import pytest

from thruway.launch.signals import child_signals_ignored

LOADER = """
    import time, torch
    from torch import nn
    torch.set_num_threads(1)

    class Numbers(torch.utils.data.Dataset):
        def __len__(self):
            return 10_000
        def __getitem__(self, index):
            time.sleep(0.001)
            return torch.full((4,), float(index % 7))

    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    import thruway.launch.saving
    save = thruway.launch.saving.Destination.save
    def save_late(*arguments):  # when all workers are dead
        time.sleep(1)
        return save(*arguments)
    thruway.launch.saving.Destination.save = save_late

    loader = torch.utils.data.DataLoader(Numbers(), batch_size=4, num_workers=3, multiprocessing_context="fork")
    for step, batch in enumerate(loader):
        optimizer.zero_grad()
        net(batch).square().mean().backward()
        optimizer.step()
        if step == 20:
            print("running", flush=True)
"""


@pytest.mark.slow
def test_sigterm_to_a_process_group_with_workers(place):
    place.write("train.py", LOADER)
    process = subprocess.Popen(
        [sys.executable, "-m", "thruway.watch", "--no-report", "train.py"],
        cwd=place.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "running\n"
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM, err
    assert "could not be saved" not in err
    assert "Traceback" not in err
    (trace,) = place.traces().values()
    assert len(trace.steps) > 20
    assert str(place.folder / "thruway-watch") in err


def test_sigterm_while_the_traces_are_saved(place):
    """The saving ends first."""
    place.write(
        "train.py",
        """
        import os, signal, torch
        import thruway.launch.saving
        save = thruway.launch.saving.Destination.save
        def save_and_end(*arguments):
            os.kill(os.getpid(), signal.SIGTERM)
            return save(*arguments)
        thruway.launch.saving.Destination.save = save_and_end
        net = torch.nn.Linear(4, 1)
        net(torch.ones(2, 4)).sum().backward()
        """,
    )
    watched = place.watched("--no-report", "train.py")
    assert watched.code == -signal.SIGTERM
    (trace,) = place.traces().values()
    assert trace.steps == [0]
    assert "thruway-watch" in watched.err


def test_child_signals_are_ignored_for_a_while():
    def handle(_number, _frame):
        raise RuntimeError("a worker was killed")

    before = signal.signal(signal.SIGCHLD, handle)
    try:
        with child_signals_ignored():
            signal.raise_signal(signal.SIGCHLD)
        assert signal.getsignal(signal.SIGCHLD) is handle
        with pytest.raises(RuntimeError, match="a worker was killed"):
            signal.raise_signal(signal.SIGCHLD)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with child_signals_ignored():
            assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)
