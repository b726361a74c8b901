"""`thruway dissect`: which layers of a trained net do the work."""

import dataclasses
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

from thruway.cli.commands import check_device, check_threads, duration, free_folder, out
from thruway.cli.console_table import as_rich
from thruway.cli.dissect_data import material_for
from thruway.cli.dissect_measuring import find_out
from thruway.cli.dissect_options import EXAMPLES, DissectOptions, check_options
from thruway.cli.dissect_target import open_target
from thruway.errors import ConfigError, RunError
from thruway.report import DissectionFindings, TableData, dissection_json, write_dissection
from thruway.report.atomic import write_atomically
from thruway.report.content import Cell
from thruway.report.dissection_readings import headline, reading_lines
from thruway.report.dissection_tables import branches_table
from thruway.runs.provenance import hardware, versions

__all__ = ["dissect_command"]

STDOUT = Path("-")


def dissect_command(arguments: Sequence[str]) -> int:
    """Dissect a model, show what was found, and write the report."""
    if not arguments:
        raise ConfigError(f"what is to be dissected? A run folder, a Hugging Face folder, or a function.\n{EXAMPLES}")
    options = tyro.cli(
        DissectOptions,
        prog="thruway dissect",
        args=list(arguments),
        description=f"{DissectOptions.__doc__}\n\n{EXAMPLES}",
    )
    check_options(options)
    check_threads(options.threads)
    check_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    for path in (options.out, None if options.json in (None, STDOUT) else options.json.parent):
        if path is not None:
            _check_writable(path)
    started = time.monotonic()
    to_stdout = options.json == STDOUT
    console = Console(stderr=True, highlight=False) if to_stdout else out
    target = open_target(options)
    console.print(f"[bold]{escape(target.name)}[/]  {escape(target.about)}", soft_wrap=True)
    found = find_out(target, material_for(target, options), options, _saying(console))
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
    """The table and what it says, for a console."""
    out.print(as_rich(_table(found)))
    out.print()
    out.print(escape(headline(found) if not found.is_measured else f"Measured on {found.data}."))
    for line in reading_lines(found):
        out.print(f"· {escape(line)}")
    for note in found.notes:
        out.print(f"· {escape(note)}", style="yellow")
    out.print()


def _table(found: DissectionFindings) -> TableData:
    """Of every branch what fits on a line."""
    if not found.is_measured:
        return branches_table(found.dissection)
    predicted = found.rankings.scores.get("predicted") if found.rankings is not None else None
    influence = found.rankings.scores["influence"] if found.rankings is not None else None
    worst = [each.ranked()[0].index for each in found.deletions]
    rows = []
    for place, branch in enumerate(found.dissection.branches):
        row: list[Any] = [branch.index, branch.name, branch.kind, branch.parameters]
        for each, missed_most in zip(found.deletions, worst, strict=True):
            change = f"{each.rows[place].change:+.3g}"
            row.append(Cell(change, "best" if branch.index == missed_most else ""))
        row += [None if scores is None else f"{scores[place]:.3g}" for scores in (predicted, influence)]
        rows.append(tuple(row))
    metrics = [f"{each.metric} {each.intact:.4g}" for each in found.deletions]
    return TableData(("", "without", "kind", "parameters", *metrics, "predicted", "1 - cos"), tuple(rows))


def _saying(console: Console) -> Any:
    return lambda what: console.print(f"  {escape(what)} ...", style="dim", soft_wrap=True)


def _provenance(arguments: Sequence[str], options: DissectOptions, seconds: float) -> dict[str, str]:
    machine = {key: value for key, value in hardware(options.device).items() if value is not None}
    return {
        "seed": str(options.seed),
        "lesion": "the branch left out: y = x; of a projection block the projection stays; of a gated block T = 0",
        "command": " ".join(("thruway", "dissect", *arguments)),
        "hardware": ", ".join(f"{key} {value}" for key, value in machine.items()),
        "versions": ", ".join(f"{key} {value}" for key, value in versions().items()),
        "cost": duration(seconds),
    }


def _check_writable(folder: Path) -> None:
    """Refuse at once what could not be written at the end.

    Raises:
        RunError: if the folder is a file, lies in one, or may not be written to.
    """
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "is no folder" if not there.is_dir() else "may not be written to"
        raise RunError(f"nothing can be written to {folder}: {there} {why}. Choose another --out or --json.")
