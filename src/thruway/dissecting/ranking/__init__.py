"""Rankings of branches without deleting them, compared with measured deletions. Import from `thruway.dissecting`."""

__all__: list[str] = []
