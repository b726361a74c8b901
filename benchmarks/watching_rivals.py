"""What `watch` adds to a step against what other tools add, at the same frequency. Writes benchmarks/rivals.md.

python -m venv rivals && rivals/bin/pip install torch==2.13.0
rivals/bin/pip install -e . wandb==0.31.0 tensorboard==2.21.0 torchmortem==0.1.1 torchlens==2.36.1
rivals/bin/python -m benchmarks.watching_rivals [tool ...]      only these; the table is then printed, not written

A tool that is not installed is skipped, with a line saying so. Takes about half an hour on two cores.

Each tool meets `watch` in a process of its own, since some start threads, leave processes behind or wrap torch's
functions. In it four twins of one net take strict turns: bare, watched, watched with its parameters and updates
too, and with the tool. Where there is a doubt, it is decided for the tool: what it does in the background gets
time outside the turns, no report is drawn, nothing is sent, and a tool that cannot hear functions is not asked
to, so that it sees fewer tensors than `watch` does.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import interleaved, ratio
from benchmarks.stack import verdict
from benchmarks.watching import FREQUENCIES, check_alive, how_often, in_groups, spread
from benchmarks.watching_nets import CASES, Twin
from thruway.watching import watch

# A HighwayStack is one module to all of them: they see nothing of its layers, and there is nothing to compare.
NETS = ("mlp", "resnet", "highway")
BAR, AIM = 0.2, 0.1
PLAIN, FULL = "outputs and gradients", "parameters and updates too"

Step = Callable[[], None]


@dataclass(frozen=True)
class Watched:
    """A twin in a tool's hands: a step of it, and what to do, untimed, until the tool's background work is done."""

    step: Step
    drain: Step = lambda: None


@contextlib.contextmanager
def _wandb(twin: Twin, every: int, folder: Path) -> Iterator[Watched]:
    """wandb.watch(log="all"): histograms of parameters and their gradients."""
    os.environ |= {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "WANDB_DIR": str(folder)}
    import wandb

    settings, number = wandb.Settings(x_disable_stats=True, x_disable_meta=True, console="off"), 0
    run = wandb.init(mode="offline", dir=folder, project="watching", settings=settings)
    run.watch(twin.net, log="all", log_freq=every)

    def step() -> None:
        nonlocal number
        twin.step()
        number += 1
        if number % every == 0:
            run.log({"step": number})

    yield Watched(step, lambda: time.sleep(0.05))  # its process takes what it was sent, on the same cores
    if not set(run.summary.keys()) & {f"gradients/{name}" for name, _ in twin.net.named_parameters()}:
        raise RuntimeError("wandb has logged no gradient.")
    run.finish()


@contextlib.contextmanager
def _tensorboard(twin: Twin, every: int, folder: Path) -> Iterator[Watched]:
    """A histogram of each module's output and of the gradient with respect to it, by hooks as its users write them."""
    from torch.utils.tensorboard import SummaryWriter

    writer, number = SummaryWriter(str(folder)), 0

    def hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def add(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if number % every == 0:
                writer.add_histogram(f"output/{name}", output, number)
                output.register_hook(lambda gradient: writer.add_histogram(f"gradient/{name}", gradient, number))

        return add

    for name, module in twin.net.named_modules():
        if name:
            module.register_forward_hook(hook(name))

    def step() -> None:
        nonlocal number
        twin.step()
        number += 1

    yield Watched(step, writer.flush)
    writer.close()
    if sum(file.stat().st_size for file in folder.rglob("events*")) < 10_000:
        raise RuntimeError("TensorBoard has written no histogram.")


@contextlib.contextmanager
def _torchmortem(twin: Twin, every: int, folder: Path) -> Iterator[Watched]:
    """Autopsy with every collector it comes with; its costly ones every 50 steps, as by default."""
    from torchmortem import Autopsy
    from torchmortem.types import SamplingConfig

    autopsy = Autopsy(twin.net, optimizer=twin.optimizer, sampling=SamplingConfig(default_interval=every))
    autopsy.attach()

    def step() -> None:
        twin.step()
        assert twin.loss is not None
        autopsy.step(loss=twin.loss.item())

    yield Watched(step)
    autopsy.detach()
    report = autopsy.get_report()
    if report is None or not report.metadata.layer_names:
        raise RuntimeError("torchmortem has seen no layer.")


@contextlib.contextmanager
def _torchlens(twin: Twin, every: int, folder: Path) -> Iterator[Watched]:
    """torchlens.trackers.watch: statistics, no histograms, of module outputs and parameter gradients, in memory."""
    from torchlens import trackers
    from torchlens.observability import WatchSettings

    sink, number = trackers.MemorySink(), 0
    modules = [name for name, _ in twin.net.named_modules() if name]
    session = trackers.watch(
        twin.net,
        to=sink,
        signals=("gradients", "activations"),
        select=[*modules, *(name for name, _ in twin.net.named_parameters())],
        optimizer=twin.optimizer,
        step=lambda: number,
        every=every,
        example_input=twin.batch[0],
        settings=WatchSettings(ram_capacity=1 << 20),  # by default it stops the training after 256 steps
    )

    def step() -> None:
        nonlocal number
        twin.step()
        number += 1

    yield Watched(step)
    session.close()
    if len({point.step for point in sink.scalars}) < number // every:
        raise RuntimeError("torchlens has not sampled every step it should.")


@dataclass(frozen=True)
class Rival:
    """Another tool: `attach` puts it on a twin."""

    name: str
    module: str  # what must be importable
    distribution: str
    attach: Callable[[Twin, int, Path], contextlib.AbstractContextManager[Watched]] = field(repr=False)


RIVALS: dict[str, Rival] = {
    "wandb": Rival('`wandb.watch(log="all")`', "wandb", "wandb", _wandb),
    "tensorboard": Rival("TensorBoard histograms", "tensorboard", "tensorboard", _tensorboard),
    "torchmortem": Rival("torchmortem `Autopsy`", "torchmortem", "torchmortem", _torchmortem),
    "torchlens": Rival("torchlens `watch`", "torchlens", "torchlens", _torchlens),
}


# In a process of its own


def meet(rival: Rival, net: str, every: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of each step of the four twins, `rounds` times what it takes to sample once."""
    bare, plain, full, theirs = CASES[net].twins(4)
    with contextlib.ExitStack() as block:
        attached = block.enter_context(rival.attach(theirs, every, folder))
        traces = [
            block.enter_context(watch(plain.net, every)),
            block.enter_context(watch(full.net, every, optimizer=full.optimizer)),
        ]

        def settle() -> None:
            attached.drain()
            bare.step()  # who comes next finds the caches as warm as the others do

        steps = {"settle": settle, "bare": bare.step, PLAIN: plain.step, FULL: full.step, rival.name: attached.step}
        seconds = interleaved(steps, rounds * every, warm_up=max(2, every))
        for trace in traces:
            check_alive(trace, rounds)
    del seconds["settle"]
    return seconds


def in_a_process(key: str, net: str, every: int, rounds: int, threads: int) -> dict[str, list[float]]:
    """What `meet` returns there. RuntimeError with the last words of a process that failed."""
    command = [sys.executable, "-m", "benchmarks.watching_rivals", key, "--meet", net, str(every)]
    command += ["--rounds", str(rounds), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or "it said nothing").splitlines()[-1])
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


# The table


def share(ours: float, theirs: float) -> float:
    """Of the overhead that a tool adds, the part that ours adds; both as ratios to a bare step."""
    return (ours - 1) / (theirs - 1) if theirs > 1 else float("inf")


def row(rival: Rival, net: str, every: int, seconds: dict[str, list[float]]) -> str:
    grouped = {name: in_groups(values, every) for name, values in seconds.items()}
    found = {name: ratio(grouped[name], grouped["bare"]) for name in (PLAIN, FULL, rival.name)}
    shares = {name: share(found[name][1], found[rival.name][1]) for name in (PLAIN, FULL)}
    cells = [rival.name, CASES[net].what, how_often(every), spread(found[rival.name])]
    for name in (PLAIN, FULL):
        cells += [spread(found[name]), f"{shares[name]:.3f}", verdict(shares[name] <= BAR)]
    return "| " + " | ".join(cells) + " |"


HEAD = f"""\
# Watching against other tools

Written by `python -m benchmarks.watching_rivals`, whose head says how. Every number is a step over a bare step of
a twin net, in turns within one process: the median, with the quartiles behind it. "Share" is what `watch` adds
over what the tool adds; the bar is {BAR}, the aim {AIM}. `watch` takes its default quantities, first of outputs
and their gradients, functions in the code included, then with the optimizer's parameters, gradients and updates too.

{{machine}}

| tool | net | sampled | with the tool | `watch` | share | | `watch`, {FULL} | share | |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def table(keys: list[str], nets: list[str], rounds: int, threads: int) -> Iterator[str]:
    for key in keys:
        rival = RIVALS[key]
        if importlib.util.find_spec(rival.module) is None:
            yield f"| {rival.name} | skipped: {rival.distribution} is not installed | | | | | | | | |"
            continue
        for net in nets:
            for every in FREQUENCIES:
                try:
                    yield row(rival, net, every, in_a_process(key, net, every, rounds, threads))
                except RuntimeError as error:
                    what = str(error).replace("|", "/")
                    yield f"| {rival.name} | {CASES[net].what} | {how_often(every)} | failed: {what} | | | | | | |"


def versions() -> str:
    found = []
    for name in ("torch", *(rival.distribution for rival in RIVALS.values())):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tools", nargs="*", metavar="tool", help=", ".join(RIVALS))
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS)
    parser.add_argument("--rounds", type=int, default=20, help="samples of each net and frequency")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--meet", nargs=2, metavar=("NET", "EVERY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.tools) - set(RIVALS):
        parser.error(f"no such tool: {', '.join(sorted(unknown))}. Known: {', '.join(RIVALS)}.")
    torch.set_num_threads(given.threads)
    if given.meet:
        warnings.filterwarnings("ignore", message="Full backward hook is firing")  # torchmortem's, at every step
        with tempfile.TemporaryDirectory() as folder:
            net, every = given.meet
            found = meet(RIVALS[given.tools[0]], net, int(every), given.rounds, Path(folder))
        print(json.dumps(found), flush=True)
        return
    lines = []
    for line in table(given.tools or list(RIVALS), given.nets, given.rounds, given.threads):
        lines.append(line)
        print(line, flush=True)
    if not given.tools:
        machine = f"{given.threads} threads, {versions()}."
        Path(__file__).with_name("rivals.md").write_text(HEAD.format(machine=machine) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
