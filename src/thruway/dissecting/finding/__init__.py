"""Finding the branches of a model on a tape. Import from `thruway.dissecting`."""

__all__: list[str] = []
