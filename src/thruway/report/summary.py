"""Alias of thruway.report.content."""

# alias until the dissecting files follow
from thruway.report.content import plain_data

__all__ = ["plain_data"]
