"""Findings of the diagnosis of a trace, for its summary."""

import importlib
from typing import Any

__all__ = ["found_symptoms"]


def found_symptoms(trace: Any) -> list[tuple[str, str]]:
    """Return the rule and the cause of every root finding of `thruway.diagnose(trace)`; none if the diagnosis fails.

    Args:
        trace: a Trace with at least one step.
    """
    try:
        # Imported here and by name: diagnosing is in a higher layer, and reads traces.
        diagnosis = importlib.import_module("thruway.diagnosing").diagnose(trace)
        return [(f"{finding.rule} since step {finding.onset:,}", finding.cause) for finding in diagnosis]
    except Exception:  # a summary is often printed to look for errors, and must not raise others
        return []
