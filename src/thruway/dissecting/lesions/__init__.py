"""Branches left out or moved, and what that does to a metric. Its door is `thruway.dissecting`."""

__all__: list[str] = []
