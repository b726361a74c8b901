"""Recorded numbers of a watched training run: storage, reading, saving and display.

Import the public names from `thruway.watching`.
"""

__all__: list[str] = []
