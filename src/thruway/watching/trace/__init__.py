"""The recorded numbers of a watched training: storage, reading, saving and display. Its door is `thruway.watching`."""

__all__: list[str] = []
