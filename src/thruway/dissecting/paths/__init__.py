"""How long the paths of a model are, and which of them carry the gradient. Its door is `thruway.dissecting`."""

__all__: list[str] = []
