"""One forward pass written down as it runs, and what can be read off that tape. Its door is `thruway.dissecting`."""

__all__: list[str] = []
