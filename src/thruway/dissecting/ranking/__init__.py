"""Layers ranked without deleting them, and how far that agrees with deletion. Its door is `thruway.dissecting`."""

__all__: list[str] = []
