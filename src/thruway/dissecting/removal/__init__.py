"""Removal of branches: an ordinary module without their parameters. Use `Dissection.remove`."""

__all__: list[str] = []
