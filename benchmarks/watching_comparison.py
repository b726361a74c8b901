"""Overhead of `watch` per step compared with other tools at the same frequency. Writes benchmarks/comparison.md.

python -m venv comparison && comparison/bin/pip install torch==2.13.0
comparison/bin/pip install -e . wandb==0.31.0 tensorboard==2.21.0 torchmortem==0.1.1 torchlens==2.36.1
comparison/bin/python -m benchmarks.watching_comparison [tool ...]     measures only these tools and prints the table

A tool that is not installed is skipped, with a line in the table. Takes about half an hour on two cores.

Each tool is compared with `watch` in a separate process, since some start threads, leave processes behind or wrap
torch's functions. In it, four copies of one net alternate: bare, watched, watched including parameters and updates, and
with the tool. In case of doubt the choice favours the tool: its background work is not timed, no report is drawn,
nothing is sent, and a tool that cannot observe function calls need not, so it records fewer tensors than `watch`.
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

# No HighwayStack: for the other tools it is one module, whose layers they cannot observe.
NETS = ("mlp", "resnet", "highway")
TARGET, AIM = 0.2, 0.1
PLAIN, FULL = "outputs and gradients", "parameters and updates too"

Step = Callable[[], None]


@dataclass(frozen=True)
class Watched:
    """A net observed by a tool: its step, and a function that waits, untimed, for the tool's background work."""

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

    yield Watched(step, lambda: time.sleep(0.05))  # its process handles the data on the same cores
    if not set(run.summary.keys()) & {f"gradients/{name}" for name, _ in twin.net.named_parameters()}:
        raise RuntimeError("wandb has not logged any gradient.")
    run.finish()


@contextlib.contextmanager
def _tensorboard(twin: Twin, every: int, folder: Path) -> Iterator[Watched]:
    """A histogram of each module's output and of its gradient, with hooks as users write them."""
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
        raise RuntimeError("TensorBoard has not written any histogram.")


@contextlib.contextmanager
def _torchmortem(twin: Twin, every: int, folder: Path) -> Iterator[Watched]:
    """Autopsy with all its collectors; the expensive ones every 50 steps, the default."""
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
        raise RuntimeError("torchmortem has not recorded any layer.")


@contextlib.contextmanager
def _torchlens(twin: Twin, every: int, folder: Path) -> Iterator[Watched]:
    """torchlens.trackers.watch: statistics of module outputs and parameter gradients, in memory, without histograms."""
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
        raise RuntimeError("torchlens has not recorded all steps.")


@dataclass(frozen=True)
class Tool:
    """Another tool: `attach` applies it to a net."""

    name: str
    module: str  # module that must be importable
    distribution: str
    attach: Callable[[Twin, int, Path], contextlib.AbstractContextManager[Watched]] = field(repr=False)


TOOLS: dict[str, Tool] = {
    "wandb": Tool('`wandb.watch(log="all")`', "wandb", "wandb", _wandb),
    "tensorboard": Tool("TensorBoard histograms", "tensorboard", "tensorboard", _tensorboard),
    "torchmortem": Tool("torchmortem `Autopsy`", "torchmortem", "torchmortem", _torchmortem),
    "torchlens": Tool("torchlens `watch`", "torchlens", "torchlens", _torchlens),
}


# Measurement in a separate process


def measure(tool: Tool, net: str, every: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Return the seconds of each step of the four nets, for `rounds` recorded steps."""
    bare, plain, full, theirs = CASES[net].twins(4)
    with contextlib.ExitStack() as block:
        attached = block.enter_context(tool.attach(theirs, every, folder))
        traces = [
            block.enter_context(watch(plain.net, every)),
            block.enter_context(watch(full.net, every, optimizer=full.optimizer)),
        ]

        def settle() -> None:
            attached.drain()
            bare.step()  # so that the next step starts with caches as warm as the others

        steps = {"settle": settle, "bare": bare.step, PLAIN: plain.step, FULL: full.step, tool.name: attached.step}
        seconds = interleaved(steps, rounds * every, warm_up=max(2, every))
        for trace in traces:
            check_alive(trace, rounds)
    del seconds["settle"]
    return seconds


def measure_in_process(key: str, net: str, every: int, rounds: int, threads: int) -> dict[str, list[float]]:
    """Call `measure` in a new process. Raises RuntimeError with the last line of its error output if it fails."""
    command = [sys.executable, "-m", "benchmarks.watching_comparison", key, "--measure", net, str(every)]
    command += ["--rounds", str(rounds), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or "no error output").splitlines()[-1])
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


# The table


def share(ours: float, theirs: float) -> float:
    """Return our overhead as a fraction of that of a tool; both are given as ratios to a bare step."""
    return (ours - 1) / (theirs - 1) if theirs > 1 else float("inf")


def row(tool: Tool, net: str, every: int, seconds: dict[str, list[float]]) -> str:
    grouped = {name: in_groups(values, every) for name, values in seconds.items()}
    found = {name: ratio(grouped[name], grouped["bare"]) for name in (PLAIN, FULL, tool.name)}
    shares = {name: share(found[name][1], found[tool.name][1]) for name in (PLAIN, FULL)}
    cells = [tool.name, CASES[net].what, how_often(every), spread(found[tool.name])]
    for name in (PLAIN, FULL):
        cells += [spread(found[name]), f"{shares[name]:.3f}", verdict(shares[name] <= TARGET)]
    return "| " + " | ".join(cells) + " |"


HEAD = f"""\
# Watching against other tools

Written by `python -m benchmarks.watching_comparison`; its docstring describes the method. A value is the ratio of the
times of a watched and a bare step, interleaved in one process: the median, followed by the quartiles. "Share" is the
overhead of `watch` divided by that of the tool; the target is {TARGET}, the aim {AIM}. `watch` records its default
quantities: first of outputs and their gradients, including function calls, then also of parameters, their gradients and
updates.

{{machine}}

| tool | net | recorded | with the tool | `watch` | share | | `watch`, {FULL} | share | |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def table(keys: list[str], nets: list[str], rounds: int, threads: int) -> Iterator[str]:
    for key in keys:
        tool = TOOLS[key]
        if importlib.util.find_spec(tool.module) is None:
            yield f"| {tool.name} | skipped: {tool.distribution} is not installed | | | | | | | | |"
            continue
        for net in nets:
            for every in FREQUENCIES:
                try:
                    yield row(tool, net, every, measure_in_process(key, net, every, rounds, threads))
                except RuntimeError as error:
                    what = str(error).replace("|", "/")
                    yield f"| {tool.name} | {CASES[net].what} | {how_often(every)} | failed: {what} | | | | | | |"


def versions() -> str:
    found = []
    for name in ("torch", *(tool.distribution for tool in TOOLS.values())):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tools", nargs="*", metavar="tool", help=", ".join(TOOLS))
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS)
    parser.add_argument("--rounds", type=int, default=20, help="recorded steps per net and frequency")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", nargs=2, metavar=("NET", "EVERY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.tools) - set(TOOLS):
        parser.error(f"no such tool: {', '.join(sorted(unknown))}. Known: {', '.join(TOOLS)}.")
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        warnings.filterwarnings("ignore", message="Full backward hook is firing")  # caused by torchmortem at every step
        with tempfile.TemporaryDirectory() as folder:
            net, every = arguments.measure
            found = measure(TOOLS[arguments.tools[0]], net, int(every), arguments.rounds, Path(folder))
        print(json.dumps(found), flush=True)
        return
    lines = []
    for line in table(arguments.tools or list(TOOLS), arguments.nets, arguments.rounds, arguments.threads):
        lines.append(line)
        print(line, flush=True)
    if not arguments.tools:
        machine = f"{arguments.threads} threads, {versions()}."
        Path(__file__).with_name("comparison.md").write_text(HEAD.format(machine=machine) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
