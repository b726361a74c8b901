"""The output of `thruway watch` at the end of a script: the diagnosis of every trace, and its report."""

import importlib
from collections.abc import Sequence
from typing import Any

from thruway.launch import Watched, write_line

__all__ = ["diagnosis_of", "show_findings"]


def diagnosis_of(trace: Any) -> Any:
    """Return the diagnosis of a trace."""
    return importlib.import_module("thruway.diagnosing").diagnose(trace)


def show_findings(watched: Sequence[Watched], *, writes_report: bool = True) -> None:
    """Print the diagnosis of every trace to the standard error, and write its report beside the trace."""
    for each in watched:
        write_line("")
        diagnosis = _try(diagnosis_of, each.trace)
        write_line(str(each.trace if diagnosis is None else diagnosis))
        if each.is_foreign:
            write_line(f"  {each.trace.model}: the optimizer updates no parameter of the model that the script calls")
        if diagnosis is not None and writes_report:
            report = _try(diagnosis.report, each.path.with_suffix(".html"))
            if report is not None:
                write_line(f"report   {report}")
        write_line(f"trace    {each.path}")


def _try(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        write_line(f"{getattr(function, '__name__', 'it')} failed: {type(error).__name__}: {error}")
        return None
