"""Finding the branches of a model on the tape of one pass. Its door is `thruway.dissecting`."""

__all__: list[str] = []
