"""Lesions: branches left out or swapped, and the change of a metric. Import from `thruway.dissecting`."""

__all__: list[str] = []
