"""Paths through the branches of a model: lengths and gradients. Import from `thruway.dissecting`."""

__all__: list[str] = []
