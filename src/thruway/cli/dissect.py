"""The command `thruway dissect`."""

import dataclasses
import inspect
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.markup import escape

from thruway.cli.console import duration, out
from thruway.cli.dissect_console import branches_on_console
from thruway.cli.dissect_data import load_input_data
from thruway.cli.dissect_measuring import measure_all
from thruway.cli.dissect_options import EXAMPLES, DissectOptions, check_options
from thruway.cli.dissect_target import open_target
from thruway.cli.run import check_device, check_threads, free_folder
from thruway.errors import ConfigError, RunError
from thruway.report import DissectionFindings, dissection_json, write_dissection
from thruway.report.dissection import DATA, PAGE
from thruway.report.dissection_captions import captions, headline
from thruway.runs.files import write_atomically
from thruway.runs.record import hardware, versions
from thruway.train import keep_freed_memory

__all__ = ["dissect_command"]

STDOUT = Path("-")


def dissect_command(arguments: Sequence[str]) -> int:
    """Dissect a model, print the results, and write the report."""
    if not arguments:
        raise ConfigError(f"no target was given. Give a run folder, a Hugging Face folder, or a function.\n{EXAMPLES}")
    options = tyro.cli(
        DissectOptions,
        prog="thruway dissect",
        args=list(arguments),
        description=f"{inspect.getdoc(DissectOptions)}\n\n{EXAMPLES}",
    )
    check_options(options)
    check_threads(options.threads)
    check_device(options.device)
    _check_outputs(options)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    keep_freed_memory()
    try:
        return _dissected(arguments, options)
    except KeyboardInterrupt:
        Console(stderr=True, highlight=False).print("interrupted: no report was written")
        return 1


def _dissected(arguments: Sequence[str], options: DissectOptions) -> int:
    started = time.monotonic()
    to_stdout = options.json == STDOUT
    console = Console(stderr=True, highlight=False) if to_stdout else out
    target = open_target(options)
    console.print(f"[bold]{escape(target.name)}[/]  {escape(target.about)}", soft_wrap=True)
    found = measure_all(target, load_input_data(target, options), options, _announcer(console))
    found = dataclasses.replace(found, provenance=_provenance(arguments, options, time.monotonic() - started))
    if to_stdout:
        sys.stdout.write(dissection_json(found))
    else:
        _show(found)
        if options.json is not None:
            write_atomically(options.json, dissection_json(found).encode())
            console.print(f"json     {escape(str(options.json))}", soft_wrap=True)
    if to_stdout and options.out is None:
        return 0
    folder = options.out or free_folder(Path("dissections") / target.name)
    for what, path in zip(("report", "numbers"), write_dissection(found, folder), strict=True):
        console.print(f"{what:8} {escape(str(path))}", soft_wrap=True)
    console.print(f"done in {duration(time.monotonic() - started)}")
    return 0


def _show(found: DissectionFindings) -> None:
    """Print the table of branches and the captions."""
    out.print(branches_on_console(found))
    out.print()
    out.print(escape(headline(found) if not found.is_measured else _measured(found)))
    for line in captions(found):
        out.print(f"· {escape(line)}")
    for note in found.notes:
        out.print(f"· {escape(note)}", style="yellow")
    out.print()


def _measured(found: DissectionFindings) -> str:
    """Explanation of the numbers in the table."""
    intact = " and ".join(f"{each.metric} {each.intact:.4g}" for each in found.deletions)
    return f"Measured on {found.data}. The intact model has {intact}; each row shows the change without that branch."


def _announcer(console: Console) -> Any:
    return lambda what: console.print(f"  {escape(what)} ...", style="dim", soft_wrap=True)


def _provenance(arguments: Sequence[str], options: DissectOptions, seconds: float) -> dict[str, str]:
    machine = {key: value for key, value in hardware(options.device).items() if value is not None}
    return {
        "seed": str(options.seed),
        "lesion": "the branch is left out: y = x; the projection of a projection block stays; a gated block has T = 0",
        "command": " ".join(("thruway", "dissect", *arguments)),
        "hardware": ", ".join(f"{key} {value}" for key, value in machine.items()),
        "versions": ", ".join(f"{key} {value}" for key, value in versions().items()),
        "cost": duration(seconds),
    }


def _check_outputs(options: DissectOptions) -> None:
    """Check the output paths before anything is computed.

    Raises:
        RunError: if a path cannot be written to.
        ConfigError: if the folder already contains a dissection, or the JSON file is a folder.
    """
    if options.out is not None:
        _check_writable(options.out)
        if any((options.out / name).exists() for name in (PAGE, DATA)):
            raise ConfigError(
                f"{options.out} already contains a dissection. Choose another --out, or omit it for a numbered folder."
            )
    if options.json is not None and options.json != STDOUT:
        if options.json.is_dir():
            raise ConfigError(f"--json {options.json} is a folder. Give a file, such as {options.json / DATA}.")
        _check_writable(options.json.parent)


def _check_writable(folder: Path) -> None:
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "is not a folder" if not there.is_dir() else "may not be written to"
        raise RunError(f"cannot write to {folder}: {there} {why}. Choose another --out or --json.")
