"""The commands themselves."""

import argparse
import dataclasses
import difflib
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from thruway.cli.console_table import as_rich
from thruway.cli.progress import console_progress
from thruway.data import DATASETS
from thruway.errors import ConfigError, unknown_name
from thruway.experiments import EXPERIMENTS, Experiment
from thruway.report import ClaimVerdict
from thruway.runs import Run, open_run
from thruway.train import keep_freed_memory

__all__ = ["list_command", "report_command", "run_command"]

out = Console(highlight=False)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Run an experiment into a run folder, and write its report there."""

    config: Path | None = None
    """A TOML file with fields of the experiment; flags go before it."""
    out: Path | None = None
    """The run folder to make; unset: runs/<experiment>-<scale>, numbered if it is there."""
    resume: Path | None = None
    """Go on with this interrupted run folder; its config stays as it is."""
    threads: int | None = None
    """CPU threads; unset: torch's choice."""


def list_command(arguments: Sequence[str]) -> int:
    """Print what there is."""
    argparse.ArgumentParser(
        prog="thruway list",
        description="The experiments, their scales and the data sets.",
        epilog="example: thruway list",
    ).parse_args(arguments)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("experiment", no_wrap=True, overflow="ignore")  # a name cut short cannot be typed
    for column in ("what it shows", "source", "scales"):
        table.add_column(column)
    for name, experiment in EXPERIMENTS.items():
        table.add_row(name, experiment.title, experiment.source, ", ".join(experiment.scales))
    out.print(table)
    out.print(f"\ndata sets: {', '.join(DATASETS)}", soft_wrap=True)
    return 0


def report_command(arguments: Sequence[str]) -> int:
    """Write a run's report from its numbers; the run may still be going on."""
    parser = argparse.ArgumentParser(
        prog="thruway report",
        description="Write report.html and summary.json of a run folder again; the run may still be going on.",
        epilog="example: thruway report runs/highway2015.depth-demo",
    )
    parser.add_argument("folder", type=Path, help="the run folder")
    _report(parser.parse_args(arguments).folder)
    return 0


def run_command(arguments: Sequence[str]) -> int:
    """Run an experiment, or go on with one."""
    first = argparse.ArgumentParser(prog="thruway run", add_help=False)
    first.add_argument("experiment", nargs="?")
    for flag in ("--scale", "--config", "--resume"):
        first.add_argument(flag)
    known, _ = first.parse_known_args(arguments)
    if known.resume is not None:
        return _resume(Path(known.resume), arguments)
    wants_help = "-h" in arguments or "--help" in arguments
    # A flag's value may stand before the experiment: `run --trials 4 highway2015.depth`.
    name = next((a for a in arguments if a in EXPERIMENTS), None) or next(
        (a for a in arguments if difflib.get_close_matches(a, EXPERIMENTS)), known.experiment
    )
    if name is None and not wants_help:
        raise ConfigError(
            f"which experiment? Known: {', '.join(EXPERIMENTS)}. Example: thruway run {next(iter(EXPERIMENTS))}"
        )
    experiment = _experiment(name or next(iter(EXPERIMENTS)))
    rest = [*arguments]
    if name is not None:
        rest.remove(name)
    options, config = _parse(experiment, _base(experiment, known.scale, known.config), rest, is_named=name is not None)
    folder = options.out or free_folder(Path("runs") / f"{experiment.name}-{getattr(config, 'scale', 'demo')}")
    check_threads(options.threads)
    check_device(getattr(config, "device", "cpu"))
    prepared = experiment.prepare(config)
    run = Run.create(
        folder,
        config.model_dump(mode="json"),
        name=experiment.name,
        command=["thruway", "run", *arguments],
        seeds={"seed": getattr(config, "seed", 0)},
        device=getattr(config, "device", "cpu"),
    )
    return _execute(experiment, config, prepared, run, options.threads)


def _parse(
    experiment: Experiment, base: BaseModel, arguments: Sequence[str], *, is_named: bool
) -> tuple[RunOptions, BaseModel]:
    """The command line, less the experiment's name, over the defaults of the chosen scale."""
    whole = dataclasses.make_dataclass(
        "run",
        [
            ("options", Annotated[RunOptions, tyro.conf.arg(name="")]),
            ("settings", Annotated[experiment.config, tyro.conf.arg(name="")], dataclasses.field(default=base)),
        ],
    )
    program = f"thruway run {experiment.name}"
    told = f"{RunOptions.__doc__}\n\nexample: {program} {experiment.example}"
    if not is_named:
        told += (
            f"\n\nEvery experiment has options of its own; these are those of {experiment.name}. "
            f"Others: {', '.join(name for name in EXPERIMENTS if name != experiment.name)}."
        )
    parsed: Any = tyro.cli(whole, prog=program, args=list(arguments), description=told)
    return parsed.options, parsed.settings


def _resume(folder: Path, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="thruway run --resume", epilog="example: thruway run --resume runs/highway2015.depth-demo"
    )
    parser.add_argument("--resume", type=Path, required=True, help="the run folder to go on with")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("experiment", nargs="?", help="may be left out: the folder knows")
    options, changed = parser.parse_known_args(arguments)
    if changed:
        if options.experiment is not None and options.experiment not in EXPERIMENTS:  # an option's value
            changed = [argument for argument in arguments if argument in {*changed, options.experiment}]
        raise ConfigError(
            f"a resumed run keeps its config, but {' '.join(changed)} was given. "
            "Leave it out, or start a new run without --resume."
        )
    check_threads(options.threads)
    reader = open_run(folder)
    experiment = _experiment(reader.name)
    if options.experiment not in (None, experiment.name):
        raise ConfigError(
            f"{folder} holds a run of {experiment.name}, and {options.experiment} was asked for. "
            "Leave the experiment out, or give the folder of the other run."
        )
    config = experiment.config.model_validate(reader.config)
    if reader.status == "done":
        out.print(f"{escape(str(folder))} is finished already; writing its report again.", soft_wrap=True)
        _report(folder)
        return 0
    check_device(getattr(config, "device", "cpu"))
    prepared = experiment.prepare(config)
    return _execute(experiment, config, prepared, Run.resume(folder), options.threads)


def _execute(experiment: Experiment, config: BaseModel, prepared: Any, run: Run, threads: int | None) -> int:
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    folder, started = run.folder, time.monotonic()
    head = f"[bold]{experiment.name}[/]  {escape(experiment.title)}\nrun folder  {escape(str(folder))}"
    try:
        with run, console_progress(out) as progress:
            out.print(head, soft_wrap=True)
            experiment.run(config, prepared, run, progress)
    except KeyboardInterrupt:
        _report(folder)
        out.print(
            f"\n[bold yellow]interrupted[/]  go on with:  thruway run --resume {escape(str(folder))}", soft_wrap=True
        )
        return 1
    _report(folder)
    out.print(f"done in {duration(time.monotonic() - started)}")
    return 0


def _report(folder: Path) -> None:
    """Write the report of a folder and show its table and verdicts."""
    reader = open_run(folder)
    table, verdicts = _experiment(reader.name).report(reader, folder)
    out.print(as_rich(table))
    for verdict in verdicts:
        out.print(_verdict_line(verdict), soft_wrap=True)
    out.print(
        f"\nreport   {escape(str(folder / 'report.html'))}\nsummary  {escape(str(folder / 'summary.json'))}",
        soft_wrap=True,
    )


def _verdict_line(verdict: ClaimVerdict) -> str:
    style = {"holds": "green", "fails": "red"}.get(verdict.verdict, "yellow")
    values = [verdict.value] if isinstance(verdict.value, float) else verdict.value
    numbers = ", ".join(f"{value:.3g}" for value in values)
    note = f" ({escape(verdict.note)})" if verdict.note else ""
    return (
        f"[{style}]{verdict.verdict:>8}[/]  {escape(verdict.text)}  {numbers}, needs {escape(verdict.threshold)}{note}"
    )


def _experiment(name: str) -> Experiment:
    if name not in EXPERIMENTS:
        raise ConfigError(unknown_name("experiment", name, EXPERIMENTS))
    return EXPERIMENTS[name]


def _base(experiment: Experiment, scale: str | None, file: str | None) -> BaseModel:
    """The config of a scale, demo unless flag or file name another, with the fields of a TOML file over it."""
    fields = {} if file is None else _fields_of(experiment, file)
    named_there = fields.pop("scale", "demo")
    chosen = scale or named_there
    if chosen not in list(experiment.scales):
        raise ConfigError(unknown_name("scale", chosen, experiment.scales))
    base = experiment.scales[chosen].model_dump()
    for name, value in fields.items():
        # One end of a range leaves the other as the scale has it, as the flag does.
        both = isinstance(value, dict) and isinstance(base[name], dict)
        base[name] = {**base[name], **value} if both else value
    return experiment.config.model_validate(base)


def _fields_of(experiment: Experiment, file: str) -> dict[str, Any]:
    """What a TOML file says, if every name in it is a field of the experiment."""
    try:
        fields = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {file} cannot be read: {error.strerror}. Give the path of a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {file} is not TOML: {error}.") from error
    for name in fields:
        if name not in experiment.config.model_fields:
            raise ConfigError(f"{file}: {unknown_name('field', name, experiment.config.model_fields)}")
    return fields


def check_threads(threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise ConfigError(f"--threads must be at least 1, got {threads}.")


def check_device(device: str) -> None:
    try:
        torch.zeros((), device=device).item()  # read back, since the meta device gives tensors but no numbers
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].split(". ")[0][:120]
        if reason.startswith("Expected one of"):  # every kind that torch was ever built for
            reason = "torch knows no such kind"
        allowed = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise ConfigError(f"device {device!r} is not there ({reason}). Allowed here: {allowed}.") from error


def free_folder(folder: Path) -> Path:
    """`folder`, or the first of folder-2, folder-3, ... that is not there."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
