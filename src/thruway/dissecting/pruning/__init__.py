"""Choice of the branches to remove, by the damage that their removal does. Use `Dissection.prune`."""

__all__: list[str] = []
