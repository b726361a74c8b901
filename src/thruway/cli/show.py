"""`thruway list`: the studies and data sets, and `thruway report`: the report of a run, written again."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from thruway.cli.console import out, show_report
from thruway.cli.run import studies_in, study_of_run
from thruway.data import DATASETS
from thruway.experiments import STUDIES
from thruway.runs import open_run

__all__ = ["list_command", "report_command"]


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
    for column in ("title", "source", "scales"):
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
