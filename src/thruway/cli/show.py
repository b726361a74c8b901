"""Listing studies, and writing and printing the report of a run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from thruway.cli.console import as_rich, out
from thruway.cli.find_study import studies_in, study_of_run
from thruway.data import DATASETS
from thruway.experiments import STUDIES, Study
from thruway.report import ClaimVerdict
from thruway.runs import RunReader, open_run

__all__ = ["list_command", "report_command", "show_report"]


def list_command(arguments: Sequence[str]) -> int:
    """Print the studies and data sets."""
    parser = argparse.ArgumentParser(
        prog="thruway list",
        description="List the studies, their scales, and the data sets; or the studies in a module of your own.",
        epilog="example: thruway list mypackage.studies",
    )
    parser.add_argument("module", nargs="?", help="a module of your own, package.module or path/to/file.py")
    module = parser.parse_args(arguments).module
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("study", no_wrap=True, overflow="ignore")  # a name cut short cannot be typed
    for column in ("shows that", "source", "scales"):
        table.add_column(column)
    for name, study in (STUDIES if module is None else studies_in(module)).items():
        table.add_row(escape(name), escape(study.title), escape(study.source), ", ".join(map(escape, study.scales)))
    out.print(table)
    if module is None:
        out.print(f"\ndata sets: {', '.join(DATASETS)}", soft_wrap=True)
    return 0


def report_command(arguments: Sequence[str]) -> int:
    """Write a run's report again."""
    parser = argparse.ArgumentParser(
        prog="thruway report",
        description="Write report.html and summary.json of a run folder again. The run may still be going on.",
        epilog="example: thruway report runs/highway2015.depth-demo",
    )
    parser.add_argument("folder", type=Path, help="the run folder")
    parser.add_argument("--study", help="for a study of your own: package.module:STUDY or path/to/file.py:STUDY")
    options = parser.parse_args(arguments)
    reader = open_run(options.folder)
    show_report(study_of_run(reader, options.study), reader)
    return 0


def show_report(study: Study, reader: RunReader) -> None:
    """Write the report of a run folder, and print its table and verdicts."""
    folder = reader.folder
    table, verdicts = study.report(reader, folder)
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
