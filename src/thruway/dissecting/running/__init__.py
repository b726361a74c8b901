"""The model run again along its tape, with branches left out or joined otherwise. Its door is `thruway.dissecting`."""

__all__: list[str] = []
