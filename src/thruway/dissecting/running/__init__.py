"""Rerunning a model along its tape, with branches left out or joins changed. Import from `thruway.dissecting`."""

__all__: list[str] = []
