"""Alias of thruway.report.html."""

# alias until the dissecting files follow
from thruway.report.html import format_value

__all__ = ["format_value"]
