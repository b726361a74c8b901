"""Findings of the diagnosis of a trace, for its summary."""

import importlib
from typing import Any

__all__ = ["findings_lines", "found_symptoms"]


def found_symptoms(trace: Any) -> list[tuple[str, str]]:
    """Return the rule and the cause of every root finding of `thruway.diagnose(trace)`.

    If the diagnosis fails, its error takes the place of the findings.

    Args:
        trace: a Trace with at least one step.
    """
    try:
        # Imported here and by name: diagnosing is in a higher layer, and reads traces.
        diagnosis = importlib.import_module("thruway.diagnosing").diagnose(trace)
        return [(f"{finding.rule} since step {finding.onset:,}", finding.cause) for finding in diagnosis]
    except Exception as error:  # a summary is often printed to look for errors, and must not raise others
        return [("the diagnosis failed", f"{type(error).__name__}: {error}")]


def findings_lines(trace: Any) -> list[str]:
    """Return one line per root finding, and a line that says how to read more; no lines if nothing was found.

    Args:
        trace: a Trace.
    """
    lines = [f"{what}: {cause}" for what, cause in (found_symptoms(trace) if trace.steps else [])]
    return [*lines, "thruway.diagnose(trace) shows evidence and cures."] if lines else []
