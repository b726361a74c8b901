"""The output of `thruway watch` at the end of a script: the diagnosis of every trace, and its report."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

from thruway.launch import Watched

__all__ = ["diagnosis_of", "show_findings"]


def diagnosis_of(trace: Any) -> Any:
    """Return the diagnosis of a trace, or None if it cannot be diagnosed."""
    if importlib.util.find_spec("thruway.diagnosing") is None:
        return None
    return importlib.import_module("thruway.diagnosing").diagnose(trace)


def show_findings(watched: Sequence[Watched], *, writes_report: bool = True) -> None:
    """Print the diagnosis of every trace to the standard error, and write its report beside the trace."""
    for each in watched:
        _say("")
        diagnosis = _try(diagnosis_of, each.trace)
        _say(str(each.trace if diagnosis is None else diagnosis))
        if each.is_foreign:
            _say(f"  {each.trace.model}: the optimizer updates no parameter of the model that the script calls")
        if diagnosis is not None and writes_report:
            report = _try(diagnosis.report, each.path.with_suffix(".html"))
            if report is not None:
                _say(f"report   {report}")
        _say(f"trace    {each.path}")


def _try(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        _say(f"{getattr(function, '__name__', 'it')} failed: {type(error).__name__}: {error}")
        return None


def _say(line: str) -> None:
    print(line, file=sys.__stderr__, flush=True)
