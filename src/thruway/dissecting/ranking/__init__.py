"""Layers ranked without deleting them, and whether the ranking agrees with what deletion does. Its door is `thruway.dissecting`."""

__all__: list[str] = []
