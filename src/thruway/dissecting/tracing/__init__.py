"""Recording one forward pass as a tape, and analyses of that tape. Import from `thruway.dissecting`."""

__all__: list[str] = []
