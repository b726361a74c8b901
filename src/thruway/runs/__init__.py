"""Run folders: config, logged values and checkpoints of a run, crash-safe and readable at any time."""

from thruway.runs.checkpoints import Checkpoint
from thruway.runs.run import Run
from thruway.runs.run_reader import RunReader, RunSummary, list_runs, open_run, read_runs
from thruway.runs.table import Table

__all__ = ["Checkpoint", "Run", "RunReader", "RunSummary", "Table", "list_runs", "open_run", "read_runs"]
