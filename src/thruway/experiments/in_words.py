"""Settings and provenance as a report says them."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["provenance_in_words", "setting_in_words"]


def setting_in_words(value: Any) -> str:
    """A config value; None is no limit.

    >>> setting_in_words((1000, None, 0.5))
    '1,000, all, 0.5'
    """
    if isinstance(value, tuple):
        return ", ".join(map(setting_in_words, value))
    return "all" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def provenance_in_words(value: Any) -> str:
    """One entry of a run's record.

    >>> provenance_in_words({"cpu": "x", "gpu": None}), provenance_in_words(None)
    ('cpu x', 'unknown')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    return "unknown" if value is None else value if isinstance(value, str) else json.dumps(value)
